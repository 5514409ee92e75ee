"""Small ONNX models for these tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> bytes:
    helper = pytest.importorskip("onnx").helper
    graph = helper.make_graph(nodes, "small", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("zerolane.test", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(model.SerializeToString())


def perceptron() -> bytes:
    """x [N, 64] -> y [N, 10]: two layers."""
    onnx = pytest.importorskip("onnx")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    rng = np.random.default_rng(7)
    sizes = {"w0": (64, 32), "w1": (32, 10)}
    weights = [
        onnx.numpy_helper.from_array(rng.normal(size=size).astype(np.float32), name)
        for name, size in sizes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["h"], name="first_product"),
        helper.make_node("Relu", ["h"], ["r"], name="rectify"),
        helper.make_node("MatMul", ["r", "w1"], ["y"], name="second_product"),
    ]
    x = helper.make_tensor_value_info("x", real, ["N", 64])
    y = helper.make_tensor_value_info("y", real, ["N", 10])
    return _model(nodes, [x], [y], weights)


def one_node(op: str, output: int, domain: str = "", **attributes: Any) -> bytes:
    """x [4, 8] float -> y of the element type `output`: one node alone."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    node = helper.make_node(op, ["x"], ["y"], name="alone", domain=domain, **attributes)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [4, 8])
    y = helper.make_tensor_value_info("y", output, None)
    return _model([node], [x], [y], [])
