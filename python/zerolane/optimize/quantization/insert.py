"""The new graph: QuantizeLinear and DequantizeLinear around layers, weights stored in 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from zerolane.model_file import Payloads
from zerolane.optimize.onnx_graph import Node, Scope, Value, all_names
from zerolane.optimize.quantization import weights as stores
from zerolane.optimize.quantization.places import Layer, Places
from zerolane.optimize.quantization.ranges import Scale

_CODES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "int32": TensorProto.INT32,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
}
_PAYLOAD_BYTES = 1024

# Its zero point is left out: ONNX Runtime 1.32 takes one of 0 for the least uint8, and drops the
# Relu before it. The dtype is then told by the attribute output_dtype, of opset 21.
_FLOAT8 = "float8e4m3fn"


@dataclass(frozen=True, slots=True)
class Form:
    """How the graph is written.

    weights: "int8" or "float8e4m3fn". integer_bias: a bias is int32 behind a DequantizeLinear, as
    ONNX Runtime's integer kernels need it; TensorRT's parser takes floats only.
    """

    weights: str = "int8"
    per_channel: bool = True
    integer_bias: bool = True


class Inserter:
    """Changes a model, with the main scope of its view; `payloads` gets the new weights."""

    def __init__(self, model: ModelProto, scope: Scope, payloads: Payloads, form: Form) -> None:
        self._payloads, self._form = payloads, form
        self._graph: GraphProto = model.graph
        self._place = {node: index for index, node in enumerate(scope.nodes)}
        self._taken = all_names(model)
        self._head: list[NodeProto] = []
        self._behind: dict[int, list[NodeProto]] = {}  # by place of the node that they follow
        self.saturated: list[str] = []

    def insert(self, places: Places, scales: Mapping[Value, Scale]) -> None:
        """scales: by leader of the places, which are of the scope given."""
        for value, readers in places.reads.items():
            self._around(value, readers, scales[places.leader[value]], value in places.everyone)
        for layer in places.layers:
            x = layer.node.inputs[0]
            assert x is not None
            self._weights(layer, scales[places.leader[x]])
        nodes = [*self._head]
        for index, node in enumerate(self._graph.node):
            nodes.append(node)
            nodes += self._behind.get(index, [])
        copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del self._graph.node[:]
        self._graph.node.extend(copies)

    def _around(
        self, value: Value, readers: list[tuple[Node, int]], scale: Scale, everyone: bool
    ) -> None:
        told = [self._tensor(self._fresh(f"{value.name}_scale"), np.float32(scale.scale))]
        if scale.dtype != _FLOAT8:
            zero = self._fresh(f"{value.name}_zero_point")
            told.append(self._tensor(zero, np.asarray(scale.zero), scale.dtype))
        stored = self._fresh(f"{value.name}_quantized")
        given, seen = value.name, self._fresh(f"{value.name}_dequantized")
        if everyone and value.returned:  # the model's output keeps its name
            given, seen = self._fresh(f"{value.name}_exact"), value.name
            producer = value.producer
            assert producer is not None
            index = list(producer.proto.output).index(value.name)
            producer.proto.output[index] = given
        pair = [
            helper.make_node("QuantizeLinear", [given, *told], [stored], f"{stored}_node"),
            helper.make_node("DequantizeLinear", [stored, *told], [seen], f"{seen}_node"),
        ]
        if scale.dtype == _FLOAT8:
            pair[0].attribute.append(helper.make_attribute("output_dtype", _CODES[_FLOAT8]))
        for node, index in value.uses if everyone else readers:
            node.proto.input[index] = seen
        if value.producer is None:
            self._head += pair
        else:
            self._behind.setdefault(self._place[value.producer], []).extend(pair)

    def _weights(self, layer: Layer, x: Scale) -> None:
        node = layer.node
        weight = node.inputs[1]
        assert weight is not None
        assert weight.constant is not None
        floats = self._payloads.floats(weight.constant)
        axis = self.axis(node) if self._form.per_channel else None
        if self._form.weights == "int8":
            stored = stores.to_int8(floats, axis)
        else:
            stored = stores.to_float8(floats, axis)
        base = self._fresh(f"{weight.name}_{self._form.weights}")
        name = self._tensor(base, stored.values, self._form.weights)
        node.proto.input[1] = self._dequantized(name, stored.scales, self._form.weights, axis)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or not self._form.integer_bias:
            return
        assert bias.constant is not None
        values = self._payloads.floats(bias.constant)
        unit = np.asarray(stored.scales * np.float32(x.scale), np.float32)
        if stores.bias_overflows(values, unit):
            self.saturated.append(layer.name)
        integers = stores.bias_to_int32(values, unit)
        name = self._tensor(self._fresh(f"{bias.name}_int32"), integers, "int32")
        node.proto.input[2] = self._dequantized(name, unit, "int32", None if axis is None else 0)

    @staticmethod
    def axis(node: Node) -> int | None:
        def number(name: str, default: int) -> int:
            attribute = node.attribute(name)
            return default if attribute is None else int(attribute.i)

        return stores.channel_axis(node.op, bool(number("transB", 0)), number("group", 1))

    def _dequantized(
        self, name: str, scales: NDArray[np.float32], dtype: str, axis: int | None
    ) -> str:
        scale = self._tensor(self._fresh(f"{name}_scale"), scales)
        inputs = [name, scale]
        if dtype != _FLOAT8:
            zeros = np.zeros(scales.shape, np.float32)
            inputs.append(self._tensor(self._fresh(f"{name}_zero_point"), zeros, dtype))
        out = self._fresh(f"{name}_dequantized")
        made = helper.make_node("DequantizeLinear", inputs, [out], f"{out}_node")
        if axis is not None:
            made.attribute.append(helper.make_attribute("axis", axis))
        self._head.append(made)
        return out

    def _tensor(self, name: str, values: NDArray[np.generic] | np.generic, dtype: str = "") -> str:
        """Adds an initializer: float32, or of another dtype, which integers are cast to."""
        array = np.asarray(values)
        if dtype in ("int8", "uint8", "int32"):
            array = array.astype(dtype)
        code = _CODES[dtype] if dtype else TensorProto.FLOAT
        tensor = TensorProto(name=name, data_type=code, dims=array.shape)
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        if raw.nbytes > _PAYLOAD_BYTES:
            self._payloads.add(tensor, raw)
        else:
            tensor.raw_data = raw.tobytes()
        self._graph.initializer.append(tensor)
        return name

    def _fresh(self, name: str) -> str:
        fresh, number = name, 2
        while fresh in self._taken:
            fresh, number = f"{name}_{number}", number + 1
        self._taken.add(fresh)
        return fresh
