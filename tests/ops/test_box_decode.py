"""BoxDecode: the reference in float64, and known results of the formulas."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.box_decode import box_decode, examples, tolerances

EXAMPLES = list(examples())


@pytest.mark.parametrize(("inputs", "how", "about"), EXAMPLES)
def test_values_are_the_references(
    inputs: tuple[Any, ...], how: dict[str, Any], about: str
) -> None:
    op = zl.ops.BoxDecode(**how)
    got = op(*inputs)
    assert got.dtype == inputs[0].dtype
    with np.errstate(all="ignore"):
        wanted = box_decode(*inputs, **op.attributes)
    assert got.shape == wanted.shape
    np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted))
    tolerance = tolerances[got.dtype.name]
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


def test_a_point_that_predicts_no_distance_is_its_box() -> None:
    op = zl.ops.BoxDecode(image_size=[16, 24], strides=[8])
    got = op(np.zeros((1, 6, 4), np.float32))[0]
    x, y = np.meshgrid([4, 12, 20], [4, 12])
    np.testing.assert_array_equal(got, np.stack([x, y, x, y], -1).reshape(6, 4))


def test_sure_bins_are_their_number() -> None:
    logits = np.full((1, 1, 4, 16), -100, np.float32)
    for side, number in enumerate((3, 0, 15, 7)):
        logits[0, 0, side, number] = 100
    op = zl.ops.BoxDecode(image_size=[8, 8], strides=[8], bins=16)
    wanted = [4 - 3 * 8, 4, 4 + 15 * 8, 4 + 7 * 8]
    assert op(logits.reshape(1, 1, 64))[0, 0].tolist() == wanted


def test_deltas_of_zero_are_the_anchor() -> None:
    anchors = np.float32([[10, 20, 30, 60], [0, 0, 1, 1]])
    none = np.zeros((3, 2, 4), np.float32)
    assert (zl.ops.BoxDecode(mode="deltas")(none, anchors) == anchors).all()
    centered = zl.ops.BoxDecode(mode="deltas", anchor_format="center", box_format="center")
    assert (centered(none, anchors) == anchors).all()


def test_a_size_is_bounded() -> None:
    anchors = np.float32([[0, 0, 16, 16]])
    far = np.float32([[[0, 0, 1e30, 88]]])
    got = zl.ops.BoxDecode(mode="deltas", box_format="center")(far, anchors)
    np.testing.assert_allclose(got, [[[8, 8, 1000, 1000]]], rtol=1e-5)


def test_instruction_sets_agree() -> None:
    """Within the rounding of fused multiply-add."""
    code = (
        "import sys, numpy as np, zerolane as zl\n"
        "from zerolane.ops.reference.box_decode import examples\n"
        "for inputs, how, _ in examples():\n"
        "    y = zl.ops.BoxDecode(**how)(*inputs)\n"
        "    sys.stdout.buffer.write(y.astype('float32').tobytes())\n"
    )
    results = []
    for isa in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ZEROLANE_ISA": isa},
            capture_output=True,
            check=True,
        )
        results.append(np.frombuffer(done.stdout, np.float32))
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("how", "part"),
    [
        ({}, "image_size has 0 numbers, expected height and width for mode 'distances'"),
        ({"image_size": [640]}, "image_size has 1 numbers"),
        ({"image_size": [65536, 65536], "strides": [1]}, "more boxes than the 4194304"),
        ({"image_size": [8, 8], "mode": "yolov5"}, "anchor_sizes has 0 numbers, expected pairs"),
        ({"image_size": [8, 8], "mode": "yolov3", "anchor_sizes": [1.0] * 9}, "has 9 numbers"),
        ({"image_size": [8, 8], "strides": []}, "strides"),
        ({"image_size": [8, 8], "strides": [0]}, "expected a number from 1"),
        ({"mode": "deltas", "variances": [1.0]}, "variances"),
        ({"mode": "other"}, "expected one of"),
    ],
)
def test_wrong_attributes_are_refused(how: dict[str, Any], part: str) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.ops.BoxDecode(**how)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "how", "part"),
    [
        (((6, 4),), {"image_size": [16, 24], "strides": [8]}, "rank 2, expected 3"),
        (((1, 6, 5),), {"image_size": [16, 24], "strides": [8]}, "is 5, expected 4 to 4"),
        (((1, 7, 4),), {"image_size": [16, 24], "strides": [8]}, "are 7 and 6"),
        (((1, 6, 4), (6, 4)), {"image_size": [16, 24], "strides": [8]}, "anchors are given"),
        (((1, 6, 4),), {"mode": "deltas"}, "anchors are left out"),
        (((1, 6, 4), (4,)), {"mode": "deltas"}, "anchors have rank 1, expected 2 or 3"),
        (((1, 6, 4), (5, 4)), {"mode": "deltas"}, "are 6 and 5"),
        (((1, 6, 4), (2, 6, 4)), {"mode": "deltas"}, "batches of predictions and anchors"),
        (((1, 6, 4), (6, 3)), {"mode": "deltas"}, "the last axis of anchors is 3"),
    ],
)
def test_wrong_shapes_are_refused(
    shapes: tuple[tuple[int, ...], ...], how: dict[str, Any], part: str
) -> None:
    with pytest.raises(zl.ShapeMismatch) as caught:
        zl.ops.BoxDecode(**how)(*(np.zeros(shape, np.float32) for shape in shapes))
    assert part in str(caught.value)


def test_in_a_model() -> None:
    pytest.importorskip("onnx")
    how: dict[str, Any] = {
        "image_size": [32, 40],
        "strides": [8, 16],
        "bins": 16,
        "layout": "channels_first",
    }
    spec: dict[str, Any] = {"predictions": ("float32", ["B", 64, "N"])}
    s = zl.load(one_node("zerolane::BoxDecode", spec, ["boxes"], **how))
    assert s.outputs[0].shape == ("B", 26, 4)
    x = np.random.default_rng(6).standard_normal((3, 64, 26)).astype(np.float32)
    np.testing.assert_array_equal(s(x), zl.ops.BoxDecode(**how)(x))
