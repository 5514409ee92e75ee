"""onnxslim's rewrites as single passes, on models of any size."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper

from zerolane._lazy import require
from zerolane.model_file import MOST_PROTO_BYTES, Payloads, fill, size_of, tensors_of
from zerolane.optimize.onnx_graph import opsets

_REWRITES = (
    "constant_folding",
    "graph_fusion",
    "dead_node_elimination",
    "subexpression_elimination",
    "weight_tying",
)


_OPSET = 17
_HIDDEN_BYTES = 1 << 16
_ONE_AT_A_TIME = threading.Lock()  # onnxslim keeps what it is to skip in a class


def slim(
    model: ModelProto, payloads: Payloads, rewrites: Sequence[str], *, most_bytes: int
) -> ModelProto:
    """The model after some of onnxslim's rewrites; inputs, outputs and metadata stay.

    Without any rewrites only shapes are inferred, with the sizes of free dimensions as formulas.

    most_bytes: larger constants are not made by folding. Of a model near 2 GB or larger, onnxslim
    sees the large weights as inputs: nothing is folded or fused into those.
    """
    package = require("onnxslim", "optimize", "simplifying a model")
    hidden: dict[str, TensorProto] = {}
    if size_of(model, payloads) < MOST_PROTO_BYTES:
        whole = fill(model, payloads)
    else:
        whole, hidden = _hide(model, payloads)
    if "" not in opsets(whole):  # onnxslim gives up on models of other domains alone
        whole.opset_import.add(domain="", version=_OPSET)
    skipped = [name for name in _REWRITES if name not in rewrites]
    with _ONE_AT_A_TIME:
        made: ModelProto = package.slim(
            whole, skip_optimizations=skipped, size_threshold=most_bytes
        )
    return _restored(model, made, payloads, hidden)


def _hide(model: ModelProto, payloads: Payloads) -> tuple[ModelProto, dict[str, TensorProto]]:
    light = ModelProto()
    light.CopyFrom(model)
    hidden = {}
    for index in reversed(range(len(light.graph.initializer))):
        tensor = light.graph.initializer[index]
        payload = payloads.of(tensor)
        if payload is not None and len(payload) > _HIDDEN_BYTES:
            hidden[tensor.name] = TensorProto.FromString(tensor.SerializeToString())
            light.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
            del light.graph.initializer[index]
    return fill(light, payloads), hidden


def _restored(
    before: ModelProto, made: ModelProto, payloads: Payloads, hidden: dict[str, TensorProto]
) -> ModelProto:
    """What onnxslim does not keep is put back; large constants go where the others are.

    It tells the shapes of some values twice.
    """
    result = ModelProto()
    result.CopyFrom(before)
    graph = result.graph
    for field in (graph.node, graph.initializer, graph.value_info):
        del field[:]
    graph.node.extend(made.graph.node)
    graph.initializer.extend(made.graph.initializer)
    graph.initializer.extend(hidden.values())
    shapes = {v.name: v for v in made.graph.value_info if v.type.WhichOneof("value") is not None}
    known = {v.name for v in (*graph.input, *graph.output)}
    graph.value_info.extend(v for name, v in shapes.items() if name not in known)
    del result.functions[:]
    result.functions.extend(made.functions)
    there = opsets(result)
    used = {node.domain for node in graph.node}
    for opset in made.opset_import:
        if opset.domain not in there and opset.domain in used:
            result.opset_import.add(domain=opset.domain, version=opset.version)
    old = {t.name: t for t in tensors_of(before) if payloads.of(t) is not None}
    for tensor in tensors_of(result):
        inside = tensor.data_location != TensorProto.EXTERNAL
        if inside and len(tensor.raw_data) > 1024 and tensor.data_type != TensorProto.STRING:
            raw = np.frombuffer(tensor.raw_data, np.uint8)
            same = old.get(tensor.name)
            if same is not None and np.array_equal(payloads.of(same), raw):  # type: ignore[arg-type]
                tensor.CopyFrom(same)
            else:
                payloads.add(tensor, raw)
    return result
