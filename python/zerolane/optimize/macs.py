"""Multiply-adds of a model's nodes, by the type they are done in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from zerolane.errors import Error
from zerolane.model_file import Source, read
from zerolane.optimize.onnx_graph import Node, view
from zerolane.optimize.verification.valid import complaint

Shape = tuple[int, ...]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_LINEAR = ("MatMul", "MatMulInteger", "QLinearMatMul")
_CONVOLUTIONS = ("Conv", "ConvInteger", "QLinearConv")
_STAND_IN = 1  # for a dimension that nobody knows


@dataclass(frozen=True, slots=True)
class NodeMacs:
    """Multiply-adds of one node for one run; `dtype`: of what it multiplies."""

    node: str
    op: str
    macs: int
    dtype: str


def node_macs(model: ModelProto, shapes: Mapping[str, Sequence[int]] = {}) -> list[NodeMacs]:
    """The nodes that multiply and add, in the order of the graph.

    Conv: output elements x kernel x input channels of a group. ConvTranspose: the same with the
    input's elements. MatMul, Gemm: output elements x inner dimension. LSTM, GRU, RNN: gates x
    (input + hidden size) x hidden size for each step, row and direction. Attention (opset 23):
    both products. Einsum is not counted. `dtype` follows DequantizeLinear back to the stored type
    ("int8"), as a runtime that knows Q/DQ multiplies in it.

    shapes: of the inputs, for free dimensions; those not given count as 1. A light model will do.
    """
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        told = shapes.get(value.name, ())
        for index, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_value = told[index] if index < len(told) else _STAND_IN
    for output in fixed.graph.output:
        output.type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
        nodes = [*view(model).walk()]
    except Exception:  # inference of a model that is not valid: nothing is known of it
        return []
    known = {t.name: tuple(t.dims) for t in graph.initializer}
    for info in (*graph.input, *graph.value_info, *graph.output):
        # Unknown, or negative: a kernel does not fit into a free dimension that counts as 1.
        if info.type.tensor_type.HasField("shape"):
            known[info.name] = tuple(max(d.dim_value, 1) for d in info.type.tensor_type.shape.dim)
    found = []
    for node in nodes:
        count = _count(node, known)
        if count:
            found.append(NodeMacs(node.name, node.op, count, _dtype(node)))
    return found


def macs_of(source: Source) -> dict[str, int]:
    """The multiply-adds of a model by dtype, most first; empty where onnx cannot read it."""
    try:
        model = read(source, "counting").model
        if complaint(model) is not None:
            return {}
    except Error:
        return {}
    return totals(node_macs(model))


def totals(found: Sequence[NodeMacs]) -> dict[str, int]:
    """Multiply-adds by dtype, most first."""
    sums: Counter[str] = Counter()
    for n in found:
        sums[n.dtype] += n.macs
    return dict(sums.most_common())


def shares(found: Sequence[NodeMacs]) -> dict[str, float]:
    """The share of multiply-adds by dtype, the largest first."""
    sums = totals(found)
    all_of_them = sum(sums.values())
    return {dtype: macs / all_of_them for dtype, macs in sums.items()}


def _count(node: Node, known: Mapping[str, Shape]) -> int:
    def shape(index: int, values: list[Any] = node.inputs) -> Shape:
        value = values[index] if index < len(values) else None
        if value is None:
            return ()
        if value.constant is not None:
            return tuple(value.constant.dims)
        return known.get(value.name, ())

    op = node.op.rpartition(".")[2]
    out = shape(0, node.outputs)
    if op in _CONVOLUTIONS:
        weight = shape(3 if op == "QLinearConv" else 1)
        return prod(out) * prod(weight[1:]) if out and weight else 0
    if op == "ConvTranspose":
        x, weight = shape(0), shape(1)
        return prod(x) * prod(weight[1:]) if x and weight else 0
    if op in _LINEAR:
        a = shape(0)
        return prod(out) * a[-1] if a else 0
    if op == "Gemm":
        attribute = node.attribute("transA")
        a = shape(0)
        inner = 0 if attribute is not None and attribute.i else 1
        return prod(out) * a[inner] if len(a) == 2 else 0
    if op == "MatMulNBits":
        k, n = node.attribute("K"), node.attribute("N")
        return prod(shape(0)[:-1]) * k.i * n.i if k is not None and n is not None else 0
    if op in _GATES:
        x, w, r = shape(0), shape(1), shape(2)
        return prod(x[:2]) * (prod(w) + prod(r)) if len(x) == 3 and w and r else 0
    if op == "Attention" and node.proto.domain in ("", "ai.onnx"):
        return _attention(node, shape(0), shape(1), shape(2))
    return 0


def _attention(node: Node, q: Shape, k: Shape, v: Shape) -> int:
    if len(q) != len(k) or len(q) not in (3, 4) or len(v) != len(q):
        return 0
    rows = q[0] * q[-2] * k[-2]
    if len(q) == 3:
        return rows * (q[-1] + _heads(node) * v[-1] // max(_heads(node, "kv_num_heads"), 1))
    return rows * q[1] * (q[-1] + v[-1])


def _heads(node: Node, name: str = "q_num_heads") -> int:
    attribute = node.attribute(name)
    return attribute.i if attribute is not None else 1


def _dtype(node: Node) -> str:
    """Of the weights or, where both operands are computed, of the first.

    Multiplied in integers is only what has both operands behind DequantizeLinear: one of them alone
    is made float first.
    """
    stored = [_stored(node, index) for index in range(min(2, len(node.inputs)))]
    if node.op.startswith("QLinear"):
        stored = [_stored(node, 0)]
    if node.op.endswith("MatMulNBits"):
        bits = node.attribute("bits")
        return f"int{bits.i if bits is not None else 4} weights"
    if len(stored) == 2 and stored[0][1] != stored[1][1]:
        few, other = (0, 1) if stored[0][1] else (1, 0)
        if few == 1 and _constant(node, few):
            return f"{stored[few][0]} weights"
        return stored[other][0]
    return stored[0][0] if stored else "unknown"


def _stored(node: Node, index: int) -> tuple[str, bool]:
    """The type of an input, behind DequantizeLinear that of its source; whether it was so."""
    value = node.inputs[index]
    if value is None:
        return "unknown", False
    made = value.producer
    if made is not None and made.op == "DequantizeLinear" and made.inputs[0] is not None:
        return _text(made.inputs[0].elem), True
    return _text(value.elem), False


def _constant(node: Node, index: int) -> bool:
    """Whether what is behind the DequantizeLinear of an input is a weight."""
    value = node.inputs[index]
    source = value.producer.inputs[0] if value is not None and value.producer is not None else None
    return source is not None and source.constant is not None


def _text(elem: int) -> str:
    if elem <= 0:
        return "unknown"
    name = str(TensorProto.DataType.Name(elem)).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)
