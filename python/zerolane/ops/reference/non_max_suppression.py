"""Non-maximum suppression, one candidate after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference._boxes import corners_of, rotated_iou, scene, upright_iou

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def non_max_suppression(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    *,
    max_total: int,
    **how: Any,
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int32], NDArray[np.int32]]:
    """Boxes [batch, max_total, ...], scores, classes [batch, max_total], counts [batch]: the best
    of each image by falling score; zeros behind them, and -1 for the class."""
    batch = len(boxes)
    out_boxes = np.zeros((batch, max_total, boxes.shape[2]), boxes.dtype)
    out_scores = np.zeros((batch, max_total), scores.dtype)
    classes = np.full((batch, max_total), -1, np.int32)
    counts = np.zeros(batch, np.int32)
    for image in range(batch):
        selected = select(boxes[image], scores[image], **how)[:max_total]
        counts[image] = len(selected)
        for row, (score, class_id, box) in enumerate(selected):
            out_boxes[image, row] = boxes[image, box]
            out_scores[image, row] = score
            classes[image, row] = class_id
    return out_boxes, out_scores, classes, counts


def select(
    boxes: NDArray[Any],
    scores: NDArray[Any],
    *,
    box_format: str,
    score_layout: str,
    class_agnostic: int,
    iou_threshold: float,
    score_threshold: float,
    top_k: int,
    max_per_class: int,
) -> list[tuple[float, int, int]]:
    """Score, class and box of all that is selected in one image, by falling score."""
    by_class = (scores if score_layout == "classes_first" else scores.T).astype(np.float32)
    usable = np.isfinite(boxes).all(1)
    with np.errstate(all="ignore"):
        corners = corners_of(boxes, box_format)
        usable &= np.isfinite(corners).all(1)
        above = np.isfinite(by_class) & (by_class > np.float32(score_threshold)) & usable
    # By falling score, equal ones by class, then by box.
    candidates = sorted((-float(by_class[c, b]), int(c), int(b)) for c, b in np.argwhere(above))
    if class_agnostic:
        best = {b: (s, c, b) for s, c, b in reversed(candidates)}
        candidates = sorted(best.values())
    looked_at: Counter[int] = Counter()
    of_class: Counter[int] = Counter()
    kept: dict[int, list[int]] = {}
    selected = []
    for negative, class_id, box in candidates:
        group = 0 if class_agnostic else class_id
        looked_at[group] += 1
        if top_k and looked_at[group] > top_k:
            continue
        if max_per_class and of_class[class_id] >= max_per_class:
            continue
        others = kept.setdefault(group, [])
        with np.errstate(all="ignore"):
            if box_format == "rotated":
                iou: NDArray[Any] = rotated_iou(boxes[box], boxes[others])
            else:
                iou = upright_iou(corners[box], corners[others])
        if (iou > np.float32(iou_threshold)).any():
            continue
        others.append(box)
        of_class[class_id] += 1
        selected.append((-negative, class_id, box))
    return selected


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    for boxes, scores, how, about in scenes():
        for max_total in (7, 300):
            attributes = {**how, "max_total": max_total}
            yield Case("zerolane::NonMaxSuppression", (boxes, scores), attributes, about)


def scenes() -> Iterator[tuple[NDArray[Any], NDArray[Any], dict[str, Any], str]]:
    """Boxes, scores, attributes and what is special about them, for both ops."""
    rng = np.random.default_rng(11)
    sizes = ((67, 3, 2), (1, 1, 1), (131, 5, 1), (16, 80, 1), (0, 3, 2), (5, 0, 2), (5, 3, 0))
    for box_format in ("corners", "center", "rotated"):
        for boxes, classes, images in sizes:
            for dtype in ("float32", "float16"):
                b, s = scene(rng, boxes, classes, box_format, images)
                how = {"box_format": box_format, "iou_threshold": 0.4375, "score_threshold": 0.125}
                yield b.astype(dtype), s.astype(dtype), how, ""
    b, s = scene(rng, 97, 4)
    for more in (
        *({"class_agnostic": 1}, {"top_k": 9}, {"max_per_class": 2}, {"iou_threshold": 0.0}),
        *({"iou_threshold": 1.0}, {"score_threshold": -1.0}, {"score_threshold": 2.0}),
        *({"class_agnostic": 1, "top_k": 20, "max_per_class": 3}, {"top_k": 3, "max_per_class": 2}),
    ):
        yield b, s, {"iou_threshold": 0.375, **more}, ""
        swapped = np.ascontiguousarray(s.swapaxes(1, 2))
        yield b, swapped, {"iou_threshold": 0.375, "score_layout": "boxes_first", **more}, ""
    yield b, np.full_like(s, 0.5), {}, "equal scores"
    yield b[..., [2, 1, 0, 3]].copy(), s, {}, "corners in another order"
    yield np.repeat(b[:, :8], 9, 1), s[..., :72].copy(), {}, "equal boxes"
    b, s = b.copy(), s.copy()
    for array in (b, s):
        special = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0], np.float32)
        array.reshape(-1)[rng.integers(0, array.size, 48)] = np.resize(special, 48)
    for box_format in ("corners", "center"):
        yield b, s, {"box_format": box_format, "score_threshold": -1.0}, "NaN and infinities"
