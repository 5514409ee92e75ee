"""RoiAlign: what ONNX Runtime's own operator gives, and what it cannot stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node

# x1, y1, x2, y2 on maps of 12 x 17: inside, across each side, outside, inverted, empty, over all.
BOXES = [
    *(
        [1.0, 2.0, 9.0, 8.0],
        [-5.5, -4.0, 3.0, 3.0],
        [8.0, 7.0, 40.0, 30.0],
        [50.0, 60.0, 70.0, 80.0],
    ),
    *(
        [9.0, 8.0, 2.0, 1.0],
        [4.0, 4.0, 4.0, 4.0],
        [3.25, 2.5, 4.0, 3.5],
        [-30.0, -20.0, 60.0, 50.0],
    ),
]


def maps(dtype: str = "float32") -> NDArray[Any]:
    return np.random.default_rng(4).standard_normal((2, 3, 12, 17)).astype(dtype)


def by_onnxruntime(
    x: NDArray[Any], rois: NDArray[Any], which: NDArray[np.int64], **attributes: Any
) -> NDArray[Any]:
    pytest.importorskip("onnx")
    spec: dict[str, Any] = {
        "X": (x.dtype, [None] * 4),
        "rois": (rois.dtype, [None, 4]),
        "batch_indices": ("int64", [None]),
    }
    result: NDArray[Any] = zl.load(one_node("RoiAlign", spec, ["Y"], **attributes))(x, rois, which)
    return result


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("convention", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize(("height", "width", "scale"), [(7, 7, 1.0), (1, 1, 0.5), (2, 19, 0.3125)])
def test_values_are_onnxruntimes(
    mode: str, convention: str, ratio: int, height: int, width: int, scale: float
) -> None:
    rois = np.array(BOXES, np.float32)
    which = np.arange(len(rois)) % 2
    attributes: dict[str, Any] = {
        "mode": mode,
        "coordinate_transformation_mode": convention,
        "sampling_ratio": ratio,
        "output_height": height,
        "output_width": width,
        "spatial_scale": scale,
    }
    got = zl.ops.RoiAlign(**attributes)(maps(), rois, which)
    wanted = by_onnxruntime(maps(), rois, which, **attributes)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    half = zl.ops.RoiAlign(**attributes)(maps("float16"), rois.astype(np.float16), which)
    assert half.dtype == np.float16
    wanted = by_onnxruntime(maps("float16").astype(np.float32), rois, which, **attributes)
    np.testing.assert_allclose(half.astype(np.float32), wanted, rtol=1e-3, atol=1e-5)


def test_not_a_number_spreads_as_far_as_its_pixels_reach() -> None:
    x = maps()
    x[0, 0, 5, 6] = np.nan
    x[0, 1, 5, 6] = np.inf
    rois = np.float32([[0.5, 0.5, 16.5, 11.5]])
    attributes: dict[str, Any] = {"output_height": 5, "output_width": 9, "sampling_ratio": 2}
    got = zl.ops.RoiAlign(**attributes)(x, rois, np.int64([0]))
    wanted = by_onnxruntime(x, rois, np.int64([0]), **attributes)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)
    assert 0 < np.isnan(got[0, 0]).sum() < got[0, 0].size / 4


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_boxes_without_bounds(mode: str, ratio: int) -> None:
    """Adaptive sampling would take 10^30 samples of such boxes one by one."""
    big = np.finfo(np.float32).max
    rois = np.float32(
        [
            [-big, -big, big, big],
            [-1e9, -1e9, 1e9, 1e9],
            [0, 0, np.inf, 5],
            [np.nan, 0, 5, 5],
            [1e30, 1e30, 2e30, 2e30],
        ]
    )
    op = zl.ops.RoiAlign(output_height=7, output_width=7, sampling_ratio=ratio, mode=mode)
    got = op(maps(), rois, np.zeros(5, np.int64))
    assert np.isfinite(got).all()
    assert (got[[2, 3, 4]] == 0).all()


def test_a_constant_map_gives_the_constant() -> None:
    x = np.full((1, 1, 40, 50), 2.5, np.float32)
    rois = np.float32([[3, 4, 47, 36]])
    for ratio in (0, 1, 5):
        op = zl.ops.RoiAlign(output_height=3, output_width=11, sampling_ratio=ratio)
        np.testing.assert_allclose(op(x, rois, np.int64([0])), 2.5, rtol=1e-6)


def test_nothing_in_nothing_out() -> None:
    op = zl.ops.RoiAlign(output_height=3, output_width=2)
    no_rois, no_map = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
    assert op(maps(), no_rois, no_map).shape == (0, 3, 3, 2)
    assert op(maps()[:, :0], np.float32(BOXES), np.zeros(len(BOXES), np.int64)).shape[1] == 0


@pytest.mark.parametrize("index", [-1, 2, 2**40])
def test_indices_outside_the_batch_are_refused(index: int) -> None:
    with pytest.raises(zl.InvalidArgument, match=rf"\[1\] is {index}, expected 0 to 1"):
        zl.ops.RoiAlign()(maps(), np.float32(BOXES[:2]), np.int64([1, index]))


@pytest.mark.parametrize(
    ("x", "rois", "which", "part"),
    [
        ((2, 3, 12), (1, 4), (1,), "rank 3, expected 4"),
        ((2, 3, 12, 17), (4,), (1,), "rank 1, expected 2"),
        ((2, 3, 12, 17), (1, 5), (1,), "the last axis of rois is 5, expected 4"),
        ((2, 3, 12, 17), (2, 4), (1,), "the boxes and their maps are 2 and 1"),
        ((2, 3, 0, 17), (1, 4), (1,), "the height of the maps is 0"),
    ],
)
def test_wrong_shapes_are_refused(
    x: tuple[int, ...], rois: tuple[int, ...], which: tuple[int, ...], part: str
) -> None:
    with pytest.raises(zl.ShapeMismatch) as caught:
        zl.ops.RoiAlign()(np.zeros(x, "f4"), np.zeros(rois, "f4"), np.zeros(which, "i8"))
    assert part in str(caught.value)


def test_in_a_model() -> None:
    pytest.importorskip("onnx")
    spec: dict[str, Any] = {
        "X": ("float16", ["N", 3, "H", "W"]),
        "rois": ("float16", ["R", 4]),
        "which": ("int64", ["R"]),
    }
    given: dict[str, Any] = {"output_height": 3, "output_width": 5, "sampling_ratio": 2}
    s = zl.load(one_node("zerolane::RoiAlign", spec, ["Y"], **given))
    assert s.outputs[0].shape == ("R", 3, 3, 5)
    arguments = maps("float16"), np.float16(BOXES), np.arange(len(BOXES)) % 2
    np.testing.assert_array_equal(s(*arguments), zl.ops.RoiAlign(**given)(*arguments))
