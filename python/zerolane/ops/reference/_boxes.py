"""What the references of box ops share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]


def corners_of(boxes: NDArray[Any], box_format: str) -> Floats:
    """[..., 4] as x1, y1, x2, y2 with x1 <= x2 and y1 <= y2; in float32, as ONNX Runtime does."""
    a, b, c, d = np.moveaxis(boxes[..., :4].astype(np.float32), -1, 0)
    if box_format == "corners":
        sides = np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)
    else:
        half_width, half_height = c * np.float32(0.5), d * np.float32(0.5)
        sides = a - half_width, b - half_height, a + half_width, b + half_height
    return np.stack(sides, -1)


def upright_iou(one: Floats, others: Floats) -> Floats:
    """Of one box with each of others, all as corners. Every step is rounded to float32: whether a
    pair is above a threshold is to be decided alike everywhere."""
    width = np.minimum(one[2], others[:, 2]) - np.maximum(one[0], others[:, 0])
    height = np.minimum(one[3], others[:, 3]) - np.maximum(one[1], others[:, 1])
    intersection = np.where((width > 0) & (height > 0), width * height, np.float32(0))
    area = (one[2] - one[0]) * (one[3] - one[1])
    areas = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    iou: Floats = np.where(
        intersection > 0, intersection / (area + areas - intersection), np.float32(0)
    )
    return iou


def rotated_iou(one: NDArray[Any], others: NDArray[Any]) -> NDArray[np.float64]:
    """Of one box (cx, cy, w, h, angle) with each of others, in float64."""
    return np.array([_rotated_pair(one.astype(np.float64), b.astype(np.float64)) for b in others])


def _rotated_pair(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if min(*a[2:4], *b[2:4]) <= 0:
        return 0.0
    polygon = _outline(a)
    outline = _outline(b)
    # What is left of each of the other's sides.
    for start, end in zip(outline, np.roll(outline, -1, 0), strict=True):
        polygon = _left_of(polygon, start, end - start)
    x, y = polygon.T if len(polygon) else np.zeros((2, 1))
    intersection = abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2
    return intersection / float(a[2] * a[3] + b[2] * b[3] - intersection)


def _outline(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corners, counterclockwise where y grows upwards."""
    x, y, width, height, angle = box
    right = np.array([np.cos(angle), np.sin(angle)]) * width / 2
    up = np.array([-np.sin(angle), np.cos(angle)]) * height / 2
    center = np.array([x, y])
    return np.stack(
        [center - right - up, center + right - up, center + right + up, center - right + up]
    )


def _left_of(
    polygon: NDArray[np.float64], start: NDArray[np.float64], along: NDArray[np.float64]
) -> NDArray[np.float64]:
    kept = []
    for p, q in zip(polygon, np.roll(polygon, -1, 0), strict=True):
        side_p = along[0] * (p - start)[1] - along[1] * (p - start)[0]
        side_q = along[0] * (q - start)[1] - along[1] * (q - start)[0]
        if side_p >= 0:
            kept.append(p)
        if (side_p >= 0) != (side_q >= 0):
            kept.append(p + side_p / (side_p - side_q) * (q - p))
    return np.array(kept).reshape(-1, 2)


def scene(
    rng: np.random.Generator, boxes: int, classes: int, box_format: str = "corners", images: int = 1
) -> tuple[Floats, Floats]:
    """Boxes [images, boxes, ...] in clusters round objects, and scores [images, classes, boxes],
    most of them small and many alike."""
    objects = rng.uniform(0, 300, (images, boxes // 6 + 1, 2))
    which = rng.integers(0, objects.shape[1], (images, boxes))
    center = np.take_along_axis(objects, which[..., None], 1) + rng.normal(0, 6, (images, boxes, 2))
    size = rng.uniform(20, 60, (images, boxes, 2))
    parts = [center, size]
    if box_format == "corners":
        parts = [center - size / 2, center + size / 2]
    elif box_format == "rotated":
        parts.append(rng.uniform(-7, 7, (images, boxes, 1)))
    scores = np.round(rng.random((images, classes, boxes)) ** 3 * 64) / 64
    return np.concatenate(parts, -1).astype(np.float32), scores.astype(np.float32)
