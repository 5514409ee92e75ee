"""Models with something to take out, built in memory; the batch is fixed unless it says so."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, helper

from tests.optimize.graphs import model, node, random

BATCH = 3


def image_net(rows: int | str = BATCH) -> ModelProto:
    """x [rows,2,9,7] -> y [rows,5]: Pad, Conv, BatchNormalization, Relu, Flatten by Reshape, Gemm.

    Beside it two transposes that cancel, a chain of reshapes, a node nobody reads, a weight nobody
    reads, a sum of constants.
    """
    return model(
        [
            node("Pad", ["x", "pads"], ["padded"], name="pad"),
            node("Conv", ["padded", "kernel"], ["c"], name="conv"),
            node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["b"], name="norm"),
            node("Relu", ["b"], ["r"], name="relu"),
            node("Transpose", ["r"], ["t"], name="there", perm=[0, 2, 3, 1]),
            node("Transpose", ["t"], ["u"], name="back", perm=[0, 3, 1, 2]),
            node("GlobalAveragePool", ["u"], ["g"], name="pool"),
            node("Reshape", ["g", "flat3"], ["f3"], name="reshape3"),
            node("Reshape", ["f3", "flat2"], ["f"], name="reshape2"),
            node("Sigmoid", ["f"], ["unread"], name="unread"),
            node("Add", ["bias_a", "bias_b"], ["bias"], name="sum"),
            node("Gemm", ["f", "w", "bias"], ["y"], name="head"),
        ],
        {"x": [rows, 2, 9, 7]},
        {"y": [rows, 5]},
        {
            "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
            "kernel": random(4, 2, 3, 3),
            "scale": random(4) + 2,
            "shift": random(4),
            "mean": random(4),
            "var": random(4) ** 2 + 1,
            "flat3": np.array([rows if isinstance(rows, int) else 0, 4, 1]),
            "flat2": np.array([rows if isinstance(rows, int) else 0, 4]),
            "w": random(4, 5),
            "bias_a": random(5),
            "bias_b": random(5),
            "nobody": random(33, 11),
        },
    )


def attention_net(rows: int = BATCH) -> ModelProto:
    """x [rows,6,8] -> y [rows,7,8]: a class token is expanded and joined, two heads by reshapes."""
    nodes = [
        node("Expand", ["token", "rows"], ["tokens"], name="expand"),
        node("Concat", ["tokens", "x"], ["s"], name="join", axis=-2),
    ]
    for part in "qkv":
        nodes += [
            node("MatMul", ["s", f"w{part}"], [f"{part}0"], name=f"{part}_proj"),
            node("Reshape", [f"{part}0", "split"], [f"{part}1"], name=f"{part}_split"),
            node("Transpose", [f"{part}1"], [f"{part}2"], name=f"{part}_t", perm=[0, 2, 1, 3]),
            node("Reshape", [f"{part}2", "heads"], [part], name=f"{part}_heads"),
        ]
    nodes += [
        node("Transpose", ["k"], ["kt"], name="kt", perm=[0, 2, 1]),
        node("MatMul", ["q", "kt"], ["scores"], name="scores"),
        node("Softmax", ["scores"], ["p"], name="softmax"),
        node("MatMul", ["p", "v"], ["o0"], name="mix"),
        node("Reshape", ["o0", "unheads"], ["o1"], name="unheads"),
        node("Transpose", ["o1"], ["o2"], name="o_t", perm=[0, 2, 1, 3]),
        node("Reshape", ["o2", "join"], ["y"], name="out"),
    ]
    return model(
        nodes,
        {"x": [rows, 6, 8]},
        {"y": [rows, 7, 8]},
        {
            "token": random(1, 1, 8),
            "rows": np.array([rows, 1, 8]),
            **{f"w{part}": random(8, 8, seed=seed) for seed, part in enumerate("qkv")},
            "split": np.array([rows, -1, 2, 4]),
            "heads": np.array([rows * 2, 7, 4]),
            "unheads": np.array([-1, 2, 7, 4]),
            "join": np.array([rows, 7, -1]),
        },
    )


def mixing_net() -> ModelProto:
    """x [3,4] -> y [3,4]: each row has the mean of all rows taken off, so rows are not alone."""
    return model(
        [
            node("ReduceMean", ["x"], ["m"], name="mean", axes=[0], keepdims=1),
            node("Sub", ["x", "m"], ["y"], name="off"),
        ],
        {"x": [BATCH, 4]},
        {"y": [BATCH, 4]},
    )


def stuck_net() -> ModelProto:
    """x [3,4] -> y [4,3]: the batch is mixed into columns by a reshape that cannot be told."""
    return model(
        [
            node("Transpose", ["x"], ["t"], name="turn", perm=[1, 0]),
            node("Reshape", ["t", "shape"], ["y"], name="mixed"),
        ],
        {"x": [BATCH, 4]},
        {"y": [2, 6]},
        {"shape": np.array([2, 6])},
    )


def two_heads() -> ModelProto:
    """x [N,4], z [N,4] -> a = relu(x w), b = tanh(a + z)."""
    return model(
        [
            node("MatMul", ["x", "w"], ["h"], name="first"),
            node("Relu", ["h"], ["a"], name="act"),
            node("Add", ["a", "z"], ["s"], name="sum"),
            node("Tanh", ["s"], ["b"], name="second"),
        ],
        {"x": ["N", 4], "z": ["N", 4]},
        {"a": ["N", 4], "b": ["N", 4]},
        {"w": random(4, 4)},
    )


def old_opset() -> ModelProto:
    """x [N,4] -> y [N,4] at opset 11: Squeeze and Unsqueeze with axes as attributes."""
    made = model(
        [
            node("Unsqueeze", ["x"], ["u"], name="u", axes=[1]),
            node("Softmax", ["u"], ["p"], name="p", axis=2),
            node("Squeeze", ["p"], ["y"], name="s", axes=[1]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
    )
    del made.opset_import[:]
    made.opset_import.append(helper.make_opsetid("", 11))
    return made
