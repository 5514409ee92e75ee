"""A float32 model that computes as a converted one does, rounding after every node.

ONNX Runtime's CPU provider has few kernels for bfloat16, and for float16 it runs float32 kernels
and drops the roundings between them: numbers beyond 65504 pass there and become infinite on a GPU.
"""

from __future__ import annotations

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from zerolane.model_file import Payloads, tensors_of
from zerolane.optimize.onnx_graph import FLOAT, Scope, all_names, view
from zerolane.optimize.precision.keep import MOVES
from zerolane.optimize.precision.rounding import CODES, from_bits

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")


def emulate(model: ModelProto, payloads: Payloads, dtype: str) -> ModelProto:
    """The model of `convert`'s result with `dtype` replaced by float32 and explicit roundings.

    Values keep their names; new payloads are added. Inputs and outputs that are `dtype` become
    float32; the inputs have to be rounded by the caller (`rounding.rounded`).
    """
    code = CODES[dtype]
    made = ModelProto()
    made.CopyFrom(model)
    taken = all_names(made)
    _round_graph(view(made), code, taken)
    for tensor in tensors_of(made):
        if tensor.data_type == code:
            _widen(tensor, payloads, dtype)
    return made


def _widen(tensor: TensorProto, payloads: Payloads, dtype: str) -> None:
    payload = payloads.of(tensor)
    if payload is not None:
        bits = payload.view(np.uint16)
    elif tensor.HasField("raw_data"):
        bits = np.frombuffer(tensor.raw_data, np.uint16)
    else:
        bits = np.asarray(list(tensor.int32_data), np.int64).astype(np.uint16)
    values = from_bits(bits, dtype)
    wide = TensorProto(name=tensor.name, data_type=FLOAT, dims=tensor.dims)
    if payload is not None:
        payloads.add(wide, values.view(np.uint8))
    else:
        wide.raw_data = values.tobytes()
    tensor.CopyFrom(wide)


def _round_graph(scope: Scope, code: int, taken: set[str]) -> None:
    nodes: list[NodeProto] = []
    for node in scope.nodes:
        for body in node.bodies:
            _round_graph(body, code, taken)
        for attribute in node.proto.attribute:
            if attribute.name in _TYPE_ATTRIBUTES and attribute.i == code:
                attribute.i = FLOAT
        nodes.append(node.proto)
        if node.op in MOVES or node.op == "Constant":
            continue
        for index, value in enumerate(node.outputs):
            if value is None or value.elem != code:
                continue
            raw, narrow = _fresh(f"{value.name}_raw", taken), _fresh(f"{value.name}_cut", taken)
            node.proto.output[index] = raw
            nodes.append(helper.make_node("Cast", [raw], [narrow], to=code))
            nodes.append(helper.make_node("Cast", [narrow], [value.name], to=FLOAT))
    copies = [NodeProto.FromString(n.SerializeToString()) for n in nodes]
    graph: GraphProto = scope.graph
    del graph.node[:]
    graph.node.extend(copies)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type == code:
            info.type.tensor_type.elem_type = FLOAT


def _fresh(name: str, taken: set[str]) -> str:
    fresh, number = name, 2
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    taken.add(fresh)
    return fresh
