"""Models of the ops of plugins.cpp, for builds by TensorRT's libraries and by the stand-ins."""

from __future__ import annotations

from typing import Any

from tests.ops.build import graph, op_node

FLOAT, UINT8, INT8, INT32, INT64, BOOL, HALF, BFLOAT16 = 1, 2, 3, 6, 7, 9, 10, 16

# Of every kind of attribute; TensorRT's parser would cut `big` down to 32 bits.
ATTRIBUTES = {
    "factor": 2.5,
    "big": (5 << 40) + 3,
    "mode": "negate",
    "offsets": [0.5, 1.5],
    "steps": [1, 2, 4],
}


def scale(dtype: int = FLOAT, rows: int | str = 3, **attributes: Any) -> bytes:
    """x [rows, 5] -> y."""
    node = op_node("plug::Scale", ["x"], ["y"], "scale", **(attributes or {"factor": 2.0}))
    return graph([node], {"x": (dtype, [rows, 5])}, {"y": (dtype, [rows, 5])})


def extents(rows: int | str, columns: int | str) -> bytes:
    node = op_node("plug::Extents", ["x"], ["y"], "extents")
    return graph([node], {"x": (FLOAT, [rows, columns])}, {"y": (FLOAT, None)})


def join() -> bytes:
    """a [N, 3], b [2, 3], c [M, 3] -> y [N + 2 + M, 3]."""
    node = op_node("plug::Join", ["a", "b", "c"], ["y"], "join")
    inputs: dict[str, Any] = {
        "a": (FLOAT, ["N", 3]),
        "b": (FLOAT, [2, 3]),
        "c": (FLOAT, ["M", 3]),
    }
    return graph([node], inputs, {"y": (FLOAT, None)})


def affine(bias: bool, total: bool, rows: bool) -> bytes:
    """x [N, 4], b [4], w [4] -> y, rows, total, as far as the node has them."""
    names = ["y", "rows" if rows else "", "total" if total else ""]
    while not names[-1]:
        names.pop()
    node = op_node("plug::Affine", ["x", "b" if bias else "", "w"], names, "affine")
    inputs: dict[str, Any] = {"x": (FLOAT, ["N", 4])}
    if bias:
        inputs["b"] = (FLOAT, [4])
    inputs["w"] = (FLOAT, [4])
    types = {"y": FLOAT, "rows": INT64, "total": FLOAT}
    return graph([node], inputs, {name: (types[name], None) for name in names if name})


def above(**attributes: Any) -> bytes:
    """x [N] -> values [?], places [?, 1], doubled [N]."""
    node = op_node("plug::Above", ["x"], ["values", "places", "doubled"], "above", **attributes)
    outputs: dict[str, Any] = {
        "values": (FLOAT, None),
        "places": (INT64, None),
        "doubled": (FLOAT, None),
    }
    return graph([node], {"x": (FLOAT, ["N"])}, outputs)


def above_twice() -> bytes:
    """Two counted ops in a row, an operator between them, and an op of fixed size at the end."""
    nodes = [
        op_node("plug::Above", ["x"], ["v", "p", "d"], "first"),
        op_node("Neg", ["v"], ["n"], "negate"),
        op_node("plug::Above", ["n"], ["w", "q", "e"], "second", threshold=-1.0),
        op_node("plug::Scale", ["w"], ["y"], "last", factor=3.0, steps=[]),
    ]
    return graph(nodes, {"x": (FLOAT, ["N"])}, {"y": (FLOAT, None), "q": (INT64, None)})


def domains(version: int) -> bytes:
    """Names that two domains have, and one that ONNX has; `version`: of the domain plug."""
    nodes = [
        op_node("plug::Scale", ["x"], ["a"], "mine", factor=2.0, steps=[]),
        op_node("other::Scale", ["a"], ["b"], "other", factor=1.0),
        op_node("plug::Relu", ["b"], ["c"], "my_relu"),
        op_node("Relu", ["c"], ["y"], "relu"),
    ]
    outputs: dict[str, Any] = {"y": (FLOAT, ["N", 3])}
    return graph(nodes, {"x": (FLOAT, ["N", 3])}, outputs, versions={"plug": version})


def invert() -> bytes:
    """x [N, 7] of uint8 -> y of uint8, f; through two ops."""
    nodes = [
        op_node("plug::Invert", ["x"], ["t", "unread"], "first"),
        op_node("plug::Invert", ["t"], ["y", "f"], "second"),
    ]
    outputs: dict[str, Any] = {"y": (UINT8, ["N", 7]), "f": (FLOAT, ["N", 7])}
    return graph(nodes, {"x": (UINT8, ["N", 7])}, outputs)


def faulty(how: int, rows: int | str = 3) -> bytes:
    """x [rows, 4] -> y."""
    node = op_node("plug::Faulty", ["x"], ["y"], "the_node", how=how)
    return graph([node], {"x": (FLOAT, [rows, 4])}, {"y": (FLOAT, None)})
