"""A model in numbers: operators, weights and multiply-adds by dtype, inputs and outputs."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import ModelProto, ValueInfoProto, helper

from zerolane import model_file as files
from zerolane.optimize.graph_passes.report import ModelSize
from zerolane.optimize.macs import node_macs, totals
from zerolane.optimize.onnx_graph import bodies_of, opsets


def measure_size(model: ModelProto, payloads: files.Payloads, size: int) -> ModelSize:
    """The numbers of a light model that takes `size` bytes on disk."""
    weights: Counter[str] = Counter()
    for tensor in files.tensors_of(model):
        dtype = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        payload = payloads.of(tensor)
        count = 1
        for dim in tensor.dims:
            count *= dim
        weights[dtype] += len(payload) if payload is not None else _stored(tensor, count)
    return ModelSize(
        bytes=size,
        opset=opsets(model).get("", 0),
        operators=dict(sorted(operators(model.graph).items(), key=lambda row: (-row[1], row[0]))),
        weights=dict(weights.most_common()),
        macs=totals(node_macs(model)),
        inputs=tuple(map(_shown, _fed(model))),
        outputs=tuple(map(_shown, model.graph.output)),
    )


def operators(graph: onnx.GraphProto) -> Counter[str]:
    """How often each operator occurs, bodies included; Constant is no operator here."""
    found: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type != "Constant":
            domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}::"
            found[domain + node.op_type] += 1
        for body in bodies_of(node):
            found += operators(body)
    return found


def _fed(model: ModelProto) -> list[ValueInfoProto]:
    constant = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constant]


def _shown(value: ValueInfoProto) -> str:
    return f"{value.name}: {helper.printable_type(value.type)}"


def _stored(tensor: onnx.TensorProto, count: int) -> int:
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(map(len, tensor.string_data))
    return int(count * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
