"""The first convolution as one of more channels: the same numbers for every kernel and padding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are rewritten with onnx")

from onnx import helper, numpy_helper  # noqa: E402

import zerolane as zl  # noqa: E402
from zerolane import model_file as files  # noqa: E402
from zerolane.optimize.quantization.stem import widen_stems  # noqa: E402


def conv(
    shape: list[Any], kernel: tuple[int, int], pads: list[int], **attributes: Any
) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    channels = shape[1] if isinstance(shape[1], int) else 3
    w = rng.standard_normal((5, channels, *kernel)).astype(np.float32)
    options = {"strides": [2, 2], "pads": pads} | attributes
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "stem", **options)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info("y", 1, ["n", 5, "h", "w"])],
        [
            numpy_helper.from_array(w, "w"),
            numpy_helper.from_array(rng.standard_normal(5).astype(np.float32), "b"),
        ],
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@pytest.mark.parametrize(
    ("kernel", "pads"),
    [
        ((3, 3), [0, 0, 0, 0]),
        ((3, 3), [1, 1, 1, 1]),
        ((3, 3), [0, 0, 1, 1]),
        ((7, 7), [3, 3, 3, 3]),
        ((5, 3), [2, 1, 2, 1]),
        ((2, 2), [0, 0, 0, 0]),
        ((6, 6), [2, 2, 2, 2]),
        ((3, 7), [1, 3, 0, 2]),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_computes_the_same(kernel: tuple[int, int], pads: list[int], channels: int) -> None:
    model = conv([2, channels, 14, 22], kernel, pads)
    x = np.random.default_rng(1).standard_normal((2, channels, 14, 22)).astype(np.float32)
    wanted = zl.load(model.SerializeToString()).run({"x": x})["y"]
    loaded = files.read(model, "testing")
    assert widen_stems(loaded.model, loaded.payloads) == ["stem"]
    made = files.fill(loaded.model, loaded.payloads)
    onnx.checker.check_model(made, full_check=True)
    got = zl.load(made.SerializeToString()).run({"x": x})["y"]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ([1, 3, 13, 22], {}),  # no whole blocks
        (["N", 3, "H", "W"], {}),  # unknown size
        ([1, 8, 14, 22], {}),  # enough channels
        ([1, 3, 14, 22], {"strides": [1, 1]}),
        ([1, 3, 14, 22], {"strides": [2, 1]}),
        ([1, 3, 14, 22], {"dilations": [2, 2]}),
        ([1, 3, 14, 22], {"auto_pad": "SAME_UPPER"}),
    ],
)
def test_it_leaves_alone_what_does_not_gain(shape: list[Any], attributes: dict[str, Any]) -> None:
    pads = [] if "auto_pad" in attributes else [1, 1, 1, 1]
    model = conv(shape, (3, 3), pads or [0, 0, 0, 0], **attributes)
    loaded = files.read(model, "testing")
    before = loaded.model.SerializeToString()
    assert widen_stems(loaded.model, loaded.payloads) == []
    assert loaded.model.SerializeToString() == before
