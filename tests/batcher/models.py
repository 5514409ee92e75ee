"""Models with a batch dimension, as a batcher meets them."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

F32, I64 = TensorProto.FLOAT, TensorProto.INT64


def rows() -> bytes:
    """x f32 [N,T], shift f32 [] -> y f32 [N,T]: x + shift."""
    return _model(
        [helper.make_node("Add", ["x", "shift"], ["y"])],
        [("x", F32, ["N", "T"]), ("shift", F32, [])],
        [("y", F32, ["N", "T"])],
    )


def lookup() -> bytes:
    """i i64 [N] -> y f32 [N]: a table of 8 entries, 0 to 7; an index outside fails the run."""
    table = helper.make_tensor("table", F32, [8], list(range(8)))
    return _model(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [("i", I64, ["N"])],
        [("y", F32, ["N"])],
        [table],
    )


def recurrent() -> bytes:
    """x f32 [N,3], h f32 [2,N,3] -> y f32 [N,3], h_out f32 [2,N,3]: h_out = h + x, y their sum."""
    axes = helper.make_tensor("axes", I64, [1], [0])
    return _model(
        [
            helper.make_node("Add", ["h", "x"], ["h_out"]),
            helper.make_node("ReduceSum", ["h_out", "axes"], ["y"], keepdims=0),
        ],
        [("x", F32, ["N", 3]), ("h", F32, [2, "N", 3])],
        [("y", F32, ["N", 3]), ("h_out", F32, [2, "N", 3])],
        [axes],
    )


def unnamed() -> bytes:
    """x f32 [?,4] -> y f32 [?,4]: 2 x. Dimensions without names."""
    return _model(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [("x", F32, [None, 4])],
        [("y", F32, [None, 4])],
    )


def _model(
    nodes: list[onnx.NodeProto],
    inputs: list[tuple[str, int, list[object]]],
    outputs: list[tuple[str, int, list[object]]],
    constants: list[onnx.TensorProto] | None = None,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        constants or [],
    )
    opset = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=9)
    return bytes(model.SerializeToString())
