"""Models that pool over images of dynamic size: small ones are proven before the fast path."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import zerolane as zl


def pooled(*tail: tuple[str, dict[str, object]], kind: str = "MaxPool") -> bytes:
    """Conv 3x3 (same) -> Relu -> 4x4 pooling of stride 1 -> tail."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [8, 1, 3, 3], np.ones(72, np.float32))
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node(kind, ["r"], ["p0"], kernel_shape=[4, 4]),
    ]
    for i, (op, attributes) in enumerate(tail):
        nodes.append(helper.make_node(op, [f"p{i}"], [f"p{i + 1}"], **attributes))
    graph = helper.make_graph(
        nodes,
        "pooled",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
        [helper.make_tensor_value_info(f"p{len(tail)}", TensorProto.FLOAT, None)],
        [weight],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("tail", [(), (("GlobalAveragePool", {}),), (("ReduceSum", {}),)])
def test_sizes_below_the_window_raise_and_others_run(kind: str, tail: object) -> None:
    session = zl.load(pooled(*tail, kind=kind), threads=1)  # type: ignore[misc]
    for size in (9, 4, 3, 2, 1, 0, 5, 4, 9):
        x = np.ones((2, 1, size, size), np.float32)
        if size >= 4:
            assert np.isfinite(session(x)).all()
            continue
        try:
            empty = session(x)
        except zl.InvalidArgument:
            continue
        assert empty.size == 0


def test_a_binding_of_a_small_image_raises() -> None:
    session = zl.load(pooled())
    binding = session.bind(x=(1, 1, 6, 6))
    assert binding()["p0"].shape == (1, 8, 3, 3)
    small = session.bind(x=(1, 1, 2, 2))
    with pytest.raises(zl.InvalidArgument, match="length"):
        small()
