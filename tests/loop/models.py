"""Small models for loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import zerolane as zl  # noqa: E402


def _load(nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: Any) -> zl.Session:
    graph = helper.make_graph(
        nodes,
        "loop",
        [helper.make_tensor_value_info(*row) for row in inputs],
        [helper.make_tensor_value_info(*row) for row in outputs],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return zl.load(model.SerializeToString(), threads=1)


def doubler(shape: tuple[int, ...] = (1, 3)) -> zl.Session:
    """y = 2 x, float32."""
    return _load(
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
        {"two": np.float32([2])},
    )


def counter() -> zl.Session:
    """y = x + h, h_out = h + 1: int64 [1]."""
    return _load(
        [
            helper.make_node("Add", ["x", "h"], ["y"]),
            helper.make_node("Add", ["h", "one"], ["h_out"]),
        ],
        [("x", TensorProto.INT64, (1,)), ("h", TensorProto.INT64, (1,))],
        [("y", TensorProto.INT64, (1,)), ("h_out", TensorProto.INT64, (1,))],
        {"one": np.int64([1])},
    )


def picker() -> zl.Session:
    """y = table[i]: fails for an index outside of 0..4."""
    return _load(
        [helper.make_node("Gather", ["table", "i"], ["y"])],
        [("i", TensorProto.INT64, (1,))],
        [("y", TensorProto.FLOAT, (1,))],
        {"table": np.arange(10, 15, dtype=np.float32)},
    )
