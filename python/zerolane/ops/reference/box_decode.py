"""Boxes from what the heads of detectors predict, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zerolane.ops.testing import Case

Doubles: TypeAlias = NDArray[np.float64]


def box_decode(
    predictions: NDArray[Any],
    anchors: NDArray[Any] | None = None,
    *,
    mode: str,
    box_format: str,
    layout: str,
    bins: int,
    image_size: list[int],
    strides: list[int],
    point_offset: float,
    anchor_sizes: list[float],
    anchor_format: str,
    variances: list[float],
    largest_log_size: float,
) -> Doubles:
    """[batch, boxes, 4], as corners or as centre and size."""
    t = predictions.astype(np.float64)
    if mode == "deltas":
        assert anchors is not None
        x, y, width, height = _centered(anchors.astype(np.float64), anchor_format)
        d = t * np.array(variances)
        grown = np.exp(np.minimum(d[..., 2:], largest_log_size))
        return _boxes(
            x + d[..., 0] * width,
            y + d[..., 1] * height,
            width * grown[..., 0],
            height * grown[..., 1],
            box_format,
        )
    if mode == "distances":
        if layout == "channels_first":
            t = t.swapaxes(1, 2)
        x, y, stride = _grid(image_size, strides, 1, point_offset)
        logits = t.reshape(*t.shape[:2], 4, bins)
        left, top, right, bottom = np.moveaxis(_mean_bin(logits) * stride[:, None], -1, 0)
        corners = np.stack([x - left, y - top, x + right, y + bottom], -1)
        return (
            corners
            if box_format == "corners"
            else np.moveaxis(_centered(corners, "corners"), 0, -1)
        )
    sizes = np.array(anchor_sizes).reshape(len(strides), -1, 2)
    x, y, stride = _grid(image_size, strides, sizes.shape[1], 0.0)
    cells = [-(-image_size[0] // s) * -(-image_size[1] // s) for s in strides]
    size = np.concatenate([np.repeat(of, n, 0) for of, n in zip(sizes, cells, strict=True)])
    s = 1 / (1 + np.exp(-t))
    if mode == "yolov3":
        x, y = x + s[..., 0] * stride, y + s[..., 1] * stride
        width, height = np.moveaxis(size * np.exp(t[..., 2:]), -1, 0)
    else:
        x, y = x + (2 * s[..., 0] - 0.5) * stride, y + (2 * s[..., 1] - 0.5) * stride
        width, height = np.moveaxis(size * (2 * s[..., 2:]) ** 2, -1, 0)
    return _boxes(x, y, width, height, box_format)


def _grid(
    image_size: list[int], strides: list[int], anchors: int, offset: float
) -> tuple[Doubles, Doubles, Doubles]:
    """x, y and stride of each box: grid by grid, anchor by anchor, row by row."""
    rows = []
    for stride in strides:
        height, width = (-(-side // stride) for side in image_size)
        y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        one = np.stack([x.ravel() + offset, y.ravel() + offset, np.ones(x.size)]) * stride
        rows += [one] * anchors
    x, y, s = np.concatenate(rows, 1)
    return x, y, s


def _mean_bin(logits: Doubles) -> Doubles:
    bins = logits.shape[-1]
    if bins == 1:
        return logits[..., 0]
    power = np.exp(logits - logits.max(-1, keepdims=True))
    mean: Doubles = (power * np.arange(bins)).sum(-1) / power.sum(-1)
    return mean


def _centered(boxes: Doubles, box_format: str) -> Doubles:
    """Centre x and y, width and height, each [..., boxes]."""
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    if box_format == "corners":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return np.stack([a, b, c, d])


def _boxes(x: Doubles, y: Doubles, width: Doubles, height: Doubles, box_format: str) -> Doubles:
    if box_format == "corners":
        x, y, width, height = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return np.stack([x, y, width, height], -1)


# Differences of numbers of some hundred pixels.
tolerances = {"float32": 1e-4, "float16": 4e-3}


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    for inputs, attributes, about in examples():
        yield Case("zerolane::BoxDecode", inputs, attributes, about)


def examples() -> Iterator[tuple[tuple[NDArray[Any], ...], dict[str, Any], str]]:
    """Inputs, attributes, and what is special about them."""
    rng = np.random.default_rng(5)

    def drawn(*shape: int) -> NDArray[Any]:
        return (2 * rng.standard_normal(shape)).astype(dtype)

    # 9 x 7, 5 x 4 and 3 x 2 cells: 89, which leaves a rest to any vector.
    grids: dict[str, Any] = {"image_size": [70, 50], "strides": [8, 16, 32]}
    points = 9 * 7 + 5 * 4 + 3 * 2
    sizes = [10.0, 13, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90]
    for dtype in ("float32", "float16"):
        for box_format in ("corners", "center"):
            how = {"box_format": box_format}
            for bins in (1, 8, 17):
                grid = {**how, **grids, "bins": bins}
                yield (drawn(2, points, 4 * bins),), grid, ""
                yield (drawn(2, 4 * bins, points),), {**grid, "layout": "channels_first"}, ""
            for mode in ("yolov3", "yolov5"):
                cells = {**how, **grids, "mode": mode, "anchor_sizes": sizes}
                yield (drawn(2, 2 * points, 4),), cells, ""
            for anchor_format in ("corners", "center"):
                how = {"box_format": box_format, "anchor_format": anchor_format, "mode": "deltas"}
                corner = rng.uniform(0, 200, (2, 67, 2))
                size = rng.uniform(1, 100, (2, 67, 2))
                second = corner + size if anchor_format == "corners" else size
                anchors = np.concatenate([corner, second], -1).astype(dtype)
                variances = {"variances": [0.125, 0.125, 0.25, 0.25]}
                yield (drawn(2, 67, 4), anchors), {**how, **variances}, ""
                yield (drawn(2, 67, 4), anchors[0]), {**how, "largest_log_size": 0.5}, ""
    dtype = "float32"
    yield (drawn(2, 0, 4), drawn(0, 4)), {"mode": "deltas"}, ""
    yield (drawn(0, 5, 4), drawn(5, 4)), {"mode": "deltas"}, ""
    yield (drawn(1, 1, 4),), {"image_size": [5, 3], "strides": [8]}, ""
    many = {"image_size": [2, 2], "strides": [1], "bins": 40, "point_offset": 0.0}
    yield (drawn(1, 4, 4 * 40),), many, ""
    special = drawn(1, points, 4 * 8)
    special[0, ::5, 3] = np.nan
    special[0, 1::5, 9] = -np.inf
    yield (special,), {**grids, "bins": 8}, "NaN and infinities"
