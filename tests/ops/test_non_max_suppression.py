"""NonMaxSuppression and NonMaxSuppressionIndices: the reference, and ONNX Runtime's operator."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference._boxes import scene
from zerolane.ops.reference.non_max_suppression import non_max_suppression, scenes
from zerolane.ops.reference.non_max_suppression_indices import non_max_suppression_indices

SCENES = list(scenes())
IDS = [
    f"{i}-{b.dtype}-{'x'.join(map(str, s.shape))}-{about}"
    for i, (b, s, _, about) in enumerate(SCENES)
]


@pytest.mark.parametrize(("boxes", "scores", "how", "about"), SCENES, ids=IDS)
def test_both_forms_are_the_references(
    boxes: NDArray[Any], scores: NDArray[Any], how: dict[str, Any], about: str
) -> None:
    op = zl.ops.NonMaxSuppressionIndices(**how)
    wanted = non_max_suppression_indices(boxes, scores, **op.attributes)
    np.testing.assert_array_equal(op(boxes, scores), wanted)
    for max_total in (1, 7, 300):
        fixed = zl.ops.NonMaxSuppression(max_total=max_total, **how)
        rows = non_max_suppression(boxes, scores, **fixed.attributes)
        for got, expected in zip(fixed(boxes, scores), rows, strict=True):
            assert got.dtype == expected.dtype
            np.testing.assert_array_equal(got, expected)


def by_onnxruntime(
    boxes: NDArray[Any], scores: NDArray[Any], most: int, iou: float, threshold: float, center: int
) -> NDArray[np.int64]:
    pytest.importorskip("onnx")
    spec: dict[str, Any] = {
        "boxes": ("float32", [None, None, 4]),
        "scores": ("float32", [None, None, None]),
        "most": ("int64", [1]),
        "iou": ("float32", [1]),
        "threshold": ("float32", [1]),
    }
    s = zl.load(one_node("NonMaxSuppression", spec, ["selected"], center_point_box=center))
    numbers = np.int64([most]), np.float32([iou]), np.float32([threshold])
    result: NDArray[np.int64] = s(boxes, scores, *numbers)
    return result


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("box_format", ["corners", "center"])
def test_indices_are_onnxruntimes(seed: int, box_format: str) -> None:
    """Also in their order, with equal scores, boxes without area, and IoU at the threshold: boxes
    on a grid of eight make quotients like 1/2 and 1/3."""
    rng = np.random.default_rng(seed)
    boxes, scores = scene(rng, 150, 3, box_format, images=2)
    if seed % 2:
        boxes = np.round(boxes / 8) * 8
    for iou in (0.0, 1 / 3, 0.5, 0.7, 1.0):
        for most, threshold in ((1, 0.0), (5, 0.25), (1000, -1.0), (1000, 0.5)):
            wanted = by_onnxruntime(boxes, scores, most, iou, threshold, box_format == "center")
            op = zl.ops.NonMaxSuppressionIndices(
                box_format=box_format,
                max_per_class=most,
                iou_threshold=iou,
                score_threshold=threshold,
            )
            np.testing.assert_array_equal(op(boxes, scores), wanted)


def test_the_fixed_form_is_the_other_by_falling_score() -> None:
    boxes, scores = scene(np.random.default_rng(1), 200, 7, images=2)
    how: dict[str, Any] = {"iou_threshold": 0.4, "score_threshold": 0.1}
    indices = zl.ops.NonMaxSuppressionIndices(**how)(boxes, scores)
    fixed = zl.ops.NonMaxSuppression(max_total=50, **how)(boxes, scores)
    for image in range(2):
        mine = indices[indices[:, 0] == image]
        score = scores[image, mine[:, 1], mine[:, 2]]
        best = mine[np.argsort(-score, kind="stable")][:50]
        assert fixed.counts[image] == 50
        np.testing.assert_array_equal(fixed.selected_classes[image], best[:, 1])
        np.testing.assert_array_equal(fixed.selected_boxes[image], boxes[image, best[:, 2]])


def test_nothing_that_is_not_finite_is_selected() -> None:
    boxes = np.tile(np.float32([0, 0, 1, 1]), (1, 12, 1)) + np.arange(12)[None, :, None] * 2
    boxes = boxes.astype(np.float32)
    scores = np.full((1, 1, 12), 0.5, np.float32)
    for place, value in enumerate((np.nan, np.inf, -np.inf)):
        scores[0, 0, place] = value
        for number in (0, 3):
            boxes[0, 3 + 2 * place + number // 3, number] = value
    boxes[0, 9] = [-3e38, 0, 3e38, 1]  # finite; as wide as no float
    op = zl.ops.NonMaxSuppressionIndices(score_threshold=-1.0)
    assert op(boxes, scores)[:, 2].tolist() == [9, 10, 11]
    center = zl.ops.NonMaxSuppressionIndices(
        score_threshold=-1.0, box_format="center", iou_threshold=1.0
    )
    boxes[0, 9] = [3e38, 0, 3e38, 1]  # its side is not finite
    assert center(boxes, scores)[:, 2].tolist() == [10, 11]


def test_rotated_boxes_turn_with_everything() -> None:
    """Turning all boxes and their places by one angle changes nothing."""
    rng = np.random.default_rng(3)
    boxes, scores = scene(rng, 300, 3, "rotated")
    turn = 0.7
    turned = boxes.copy()
    c, s = np.cos(turn), np.sin(turn)
    turned[..., 0] = c * boxes[..., 0] - s * boxes[..., 1]
    turned[..., 1] = s * boxes[..., 0] + c * boxes[..., 1]
    turned[..., 4] += turn
    op = zl.ops.NonMaxSuppressionIndices(box_format="rotated", iou_threshold=0.3)
    assert len(op(boxes, scores)) > 50
    np.testing.assert_array_equal(op(turned, scores), op(boxes, scores))
    upright = np.concatenate([boxes[..., :4], np.zeros_like(boxes[..., 4:])], -1)
    flat = zl.ops.NonMaxSuppressionIndices(box_format="center", iou_threshold=0.3)
    np.testing.assert_array_equal(op(upright, scores), flat(boxes[..., :4].copy(), scores))


def test_instruction_sets_agree() -> None:
    """Bit for bit, also where an IoU lies on the threshold."""
    code = (
        "import sys, numpy as np, zerolane as zl\n"
        "from zerolane.ops.reference._boxes import scene\n"
        "for form in ('corners', 'center', 'rotated'):\n"
        "    b, s = scene(np.random.default_rng(2), 700, 5, form)\n"
        "    b[..., :4] = np.round(b[..., :4] / 8) * 8\n"
        "    for iou in (0.0, 1 / 3, 0.5):\n"
        "        how = dict(box_format=form, iou_threshold=iou)\n"
        "        i = zl.ops.NonMaxSuppressionIndices(**how)(b, s)\n"
        "        f = zl.ops.NonMaxSuppression(**how)(b.astype('float16'), s.astype('float16'))\n"
        "        for a in (i, *f): sys.stdout.buffer.write(a.tobytes())\n"
    )
    found = set()
    for isa in ("baseline", "avx2", "avx512"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "ZEROLANE_ISA": isa},
            capture_output=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1
    assert len(found.pop()) > 10_000


@pytest.mark.parametrize(
    ("boxes", "scores", "how", "part"),
    [
        ((5, 4), (1, 2, 5), {}, "input 0 has rank 2, expected 3"),
        ((1, 5, 4), (2, 5), {}, "input 1 has rank 2, expected 3"),
        ((1, 5, 5), (1, 2, 5), {}, "the last axis of boxes is 5, expected 4 to 4"),
        ((1, 5, 4), (1, 2, 5), {"box_format": "rotated"}, "is 4, expected 5 to 5"),
        ((1, 5, 4), (2, 2, 5), {}, "the batches of boxes and scores are 1 and 2"),
        ((1, 5, 4), (1, 2, 6), {}, "the boxes of boxes and scores are 5 and 6"),
        ((1, 5, 4), (1, 2, 5), {"score_layout": "boxes_first"}, "are 5 and 2"),
        ((0, 1 << 16, 4), (0, 1 << 15, 1 << 16), {}, "more pairs than the 2147483647"),
    ],
)
def test_wrong_shapes_are_refused(
    boxes: tuple[int, ...], scores: tuple[int, ...], how: dict[str, Any], part: str
) -> None:
    for name in ("NonMaxSuppression", "NonMaxSuppressionIndices"):
        with pytest.raises(zl.ShapeMismatch) as caught:
            zl.ops.call(name, np.zeros(boxes, np.float32), np.zeros(scores, np.float32), **how)
        assert part in str(caught.value)


@pytest.mark.parametrize(
    "how",
    [
        {"iou_threshold": 1.5},
        {"iou_threshold": float("nan")},
        {"score_threshold": float("inf")},
        {"top_k": -1},
        {"max_per_class": 2**31},
        {"box_format": "yxyx"},
        {"max_total": 0},
    ],
)
def test_wrong_attributes_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument):
        zl.ops.NonMaxSuppression(**how)


def test_boxes_and_scores_of_two_types_are_refused() -> None:
    with pytest.raises(zl.Error):
        zl.ops.NonMaxSuppression()(np.zeros((1, 2, 4), np.float32), np.zeros((1, 1, 2), np.float16))


def test_in_a_model() -> None:
    pytest.importorskip("onnx")
    boxes, scores = scene(np.random.default_rng(4), 100, 3, images=2)
    spec: dict[str, Any] = {
        "boxes": ("float32", ["B", "N", 4]),
        "scores": ("float32", ["B", "C", "N"]),
    }
    how: dict[str, Any] = {"iou_threshold": 0.5, "score_threshold": 0.25}
    names = ["boxes_out", "scores_out", "classes", "counts"]
    s = zl.load(one_node("zerolane::NonMaxSuppression", spec, names, max_total=20, **how))
    assert [o.shape for o in s.outputs] == [("B", 20, 4), ("B", 20), ("B", 20), ("B",)]
    wanted = zl.ops.NonMaxSuppression(max_total=20, **how)(boxes, scores)
    for got, expected in zip(s(boxes, scores), wanted, strict=True):
        np.testing.assert_array_equal(got, expected)
    s = zl.load(one_node("zerolane::NonMaxSuppressionIndices", spec, ["selected"], **how))
    assert s.outputs[0].shape == (None, 3)
    wanted = zl.ops.NonMaxSuppressionIndices(**how)(boxes, scores)
    np.testing.assert_array_equal(s(boxes, scores), wanted)
