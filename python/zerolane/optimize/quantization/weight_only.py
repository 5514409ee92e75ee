"""Modes that need no samples: weights alone in 4 bits, or integers with ranges found on the fly."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from zerolane.model_file import Payloads
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.onnx_graph import Node, all_names, view
from zerolane.optimize.quantization import weights as stores
from zerolane.optimize.quantization.places import Layer, find_layers, without
from zerolane.optimize.quantization.prepare import Prepared

_FEWEST_WEIGHTS = 1024
"""Smaller layers gain nothing from a node more."""


@dataclass
class WithoutSamples:
    """As `trial.Quantizer`, for mode "int4" or "dynamic"."""

    prepared: Prepared
    mode: str
    block: int
    per_channel: bool
    keep: tuple[str, ...]
    layers: list[str] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        scope = view(self.prepared.model)
        layers, refused = find_layers(scope)
        self.kept = [(node.name, node.op, reason) for node, reason in refused]
        fit = []
        for layer in layers:
            reason = self._refusal(layer)
            if reason is None:
                fit.append(layer)
            else:
                self.kept.append((layer.name, layer.node.op, reason))
        chosen = without(fit, self.keep, list(scope.walk()))
        self.kept += [(x.name, x.node.op, "named in keep") for x in fit if x not in chosen]
        self.layers = [layer.name for layer in chosen]

    def _refusal(self, layer: Layer) -> str | None:
        node = layer.node
        if node.op not in ("MatMul", "Gemm"):
            return f"mode {self.mode!r} is for MatMul and Gemm"
        dims = _weight(node).dims
        if int(np.prod(dims)) < _FEWEST_WEIGHTS:
            return f"it has fewer than {_FEWEST_WEIGHTS} weights"
        if self.mode == "int4" and dims[_inner(node)] % self.block:
            return f"its inner dimension {dims[_inner(node)]} is no multiple of {self.block}"
        return None

    def made(self, names: Collection[str]) -> ModelProto:
        """The model with these layers quantized; new weights go to the payloads."""
        model = ModelProto()
        model.CopyFrom(self.prepared.model)
        scope = view(model)
        writer = _Writer(model, self.prepared.payloads)
        for layer in find_layers(scope)[0]:
            if layer.name not in names:
                continue
            if self.mode == "int4":
                writer.int4(layer.node, self.block)
            else:
                writer.dynamic(layer.node, self.per_channel)
        writer.finish()
        del model.graph.value_info[:]
        remove_dead(model)
        return model


def _weight(node: Node) -> TensorProto:
    value = node.inputs[1]
    assert value is not None
    assert value.constant is not None
    return value.constant


def _transposed(node: Node) -> bool:
    attribute = node.attribute("transB")
    return attribute is not None and attribute.i != 0


def _inner(node: Node) -> int:
    """The axis of the weights that is summed over."""
    return 1 if _transposed(node) else 0


class _Writer:
    def __init__(self, model: ModelProto, payloads: Payloads) -> None:
        self._model, self._payloads = model, payloads
        self._taken = all_names(model)
        self._before: list[NodeProto] = []
        self._instead: dict[str, list[NodeProto]] = {}  # by first output of the node replaced

    def int4(self, node: Node, block: int) -> None:
        """Weights become int4 in blocks along the inner dimension, behind a DequantizeLinear."""
        floats = self._payloads.floats(_weight(node))
        turned = _transposed(node)
        stored = stores.to_int4(floats.T if turned else floats, block)
        values, scales = stored.values, stored.scales
        if turned:
            values, scales = values.T, scales.T
        base = self._fresh(f"{node.proto.input[1]}_int4")
        flat = np.ascontiguousarray(values).reshape(-1)
        if flat.size % 2:
            flat = np.append(flat, np.int8(0))
        nibbles = flat.view(np.uint8) & 15
        packed = (nibbles[0::2] | (nibbles[1::2] << 4)).astype(np.uint8)
        self._tensor(base, packed, TensorProto.INT4, values.shape)
        scale = self._float(f"{base}_scale", scales)
        out = self._fresh(f"{base}_dequantized")
        made = helper.make_node("DequantizeLinear", [base, scale], [out], f"{out}_node")
        made.attribute.append(helper.make_attribute("axis", _inner(node)))
        made.attribute.append(helper.make_attribute("block_size", block))
        self._before.append(made)
        node.proto.input[1] = out

    def dynamic(self, node: Node, per_channel: bool) -> None:
        """Weights become int8; the activation gets its range anew in every run."""
        proto = node.proto
        floats = self._payloads.floats(_weight(node))
        floats = np.ascontiguousarray(floats.T) if _transposed(node) else floats
        stored = stores.to_int8(floats, 1 if per_channel else None)
        base = self._fresh(f"{proto.input[1]}_int8")
        self._tensor(base, stored.values.reshape(-1).view(np.uint8), TensorProto.INT8, floats.shape)
        scale = self._float(f"{base}_scale", stored.scales)
        zero = self._fresh(f"{base}_zero_point")
        zeros = np.zeros(stored.scales.size, np.uint8)
        self._tensor(zero, zeros, TensorProto.INT8, stored.scales.shape)
        x, out = proto.input[0], proto.output[0]
        names = {k: self._fresh(f"{out}_{k}") for k in ("x", "xs", "xz", "sums", "float", "unit")}
        bias = proto.input[2] if len(proto.input) > 2 and proto.input[2] else ""
        product = self._fresh(f"{out}_product") if bias else out
        make = helper.make_node
        nodes = [
            make("DynamicQuantizeLinear", [x], [names["x"], names["xs"], names["xz"]]),
            make("MatMulInteger", [names["x"], base, names["xz"], zero], [names["sums"]]),
            make("Cast", [names["sums"]], [names["float"]], to=TensorProto.FLOAT),
            make("Mul", [names["xs"], scale], [names["unit"]]),
            make("Mul", [names["float"], names["unit"]], [product]),
        ]
        if bias:
            nodes.append(make("Add", [product, bias], [out]))
        for number, made in enumerate(nodes):
            made.name = f"{out}_dynamic{number}"
        self._instead[out] = nodes

    def finish(self) -> None:
        graph = self._model.graph
        nodes = [*self._before]
        for node in graph.node:
            nodes += self._instead.get(node.output[0], [node])
        copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del graph.node[:]
        graph.node.extend(copies)

    def _float(self, name: str, values: NDArray[np.float32]) -> str:
        name = self._fresh(name)
        raw = np.ascontiguousarray(values, np.float32).reshape(-1).view(np.uint8)
        self._tensor(name, raw, TensorProto.FLOAT, values.shape)
        return name

    def _tensor(self, name: str, raw: NDArray[np.uint8], code: int, shape: tuple[int, ...]) -> None:
        tensor = TensorProto(name=name, data_type=code, dims=shape)
        if raw.nbytes > 1024:
            self._payloads.add(tensor, raw)
        else:
            tensor.raw_data = raw.tobytes()
        self._model.graph.initializer.append(tensor)

    def _fresh(self, name: str) -> str:
        fresh, number = name, 2
        while fresh in self._taken:
            fresh, number = f"{name}_{number}", number + 1
        self._taken.add(fresh)
        return fresh
