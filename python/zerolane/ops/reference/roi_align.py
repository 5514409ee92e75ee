"""RoiAlign as ONNX (opset 16) has it, one sample at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def roi_align(
    X: NDArray[Any],
    rois: NDArray[Any],
    batch_indices: NDArray[np.int64],
    *,
    mode: str,
    coordinate_transformation_mode: str,
    output_height: int,
    output_width: int,
    sampling_ratio: int,
    spatial_scale: float,
) -> NDArray[np.float64]:
    """[count, channels, output_height, output_width], the boxes of X pooled to one size."""
    half_pixel = coordinate_transformation_mode == "half_pixel"
    height, width = X.shape[2:]
    Y = np.zeros((len(rois), X.shape[1], output_height, output_width))
    for n, (x1, y1, x2, y2) in enumerate(rois.astype(np.float32)):
        scale = np.float32(spatial_scale)
        rows = _samples(y1 * scale, y2 * scale, output_height, sampling_ratio, half_pixel)
        columns = _samples(x1 * scale, x2 * scale, output_width, sampling_ratio, half_pixel)
        maps = X[batch_indices[n]].astype(np.float64)
        for i, j in np.ndindex(output_height, output_width):
            # Four weighted neighbours for each sample: [samples, 4, channels].
            taps = np.array(
                [_neighbours(maps, y, x, height, width) for y in rows[i] for x in columns[j]]
            )
            if taps.size == 0:
                continue
            Y[n, :, i, j] = taps.sum(1).mean(0) if mode == "avg" else taps.max((0, 1))
    return Y


def _samples(
    low: np.float32, high: np.float32, bins: int, ratio: int, half_pixel: bool
) -> list[list[np.float32]]:
    """Where each bin of one side takes its samples; in float32, which decides what is inside."""
    one, half = np.float32(1), np.float32(0.5)
    start = low - half if half_pixel else low
    size = (high - half if half_pixel else high) - start
    if not half_pixel:
        size = max(size, one)
    bin_size = size / np.float32(bins)
    count = ratio if ratio > 0 else max(int(np.ceil(bin_size)), 0)
    return [
        [
            start + np.float32(b) * bin_size + (np.float32(s) + half) * bin_size / np.float32(count)
            for s in range(count)
        ]
        for b in range(bins)
    ]


def _neighbours(
    maps: NDArray[np.float64], y: np.float32, x: np.float32, height: int, width: int
) -> NDArray[np.float64]:
    """[4, channels]: the pixels round a sample times their weights, zeros well outside the map."""
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros((4, len(maps)))
    y_low, y_high, y_part = _between(float(y), height)
    x_low, x_high, x_part = _between(float(x), width)
    return np.stack(
        [
            (1 - y_part) * (1 - x_part) * maps[:, y_low, x_low],
            (1 - y_part) * x_part * maps[:, y_low, x_high],
            y_part * (1 - x_part) * maps[:, y_high, x_low],
            y_part * x_part * maps[:, y_high, x_high],
        ]
    )


def _between(position: float, extent: int) -> tuple[int, int, float]:
    low = int(max(position, 0.0))
    if low >= extent - 1:
        return extent - 1, extent - 1, 0.0
    return low, low + 1, max(position, 0.0) - low


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    rng = np.random.default_rng(3)
    boxes = [
        *([0.0, 0.0, 10.0, 8.0], [-5.5, -4.0, 3.0, 3.0], [2.25, 1.75, 16.5, 11.5]),
        *([10.0, 10.0, 40.0, 40.0], [5.0, 5.0, 5.0, 5.0], [8.0, 8.0, 3.0, 2.0]),
        *([100.0, 100.0, 110.0, 120.0], [-30.0, -30.0, 40.0, 30.0], [15.5, 10.5, 17.25, 12.0]),
    ]

    def case(dtype: str, shape: tuple[int, ...], count: int, about: str, **attributes: Any) -> Case:
        maps = rng.standard_normal(shape).astype(dtype)
        rois = np.resize(np.array(boxes, dtype), (count, 4))
        which = np.arange(count) % max(shape[0], 1)
        return Case("zerolane::RoiAlign", (maps, rois, which), attributes, about)

    seven: dict[str, Any] = {"output_height": 7, "output_width": 7}
    for mode in ("avg", "max"):
        for convention in ("half_pixel", "output_half_pixel"):
            for ratio in (0, 1, 2, 3):
                how = {"coordinate_transformation_mode": convention, "sampling_ratio": ratio}
                for dtype in ("float32", "float16"):
                    yield case(dtype, (2, 3, 12, 17), 9, "", mode=mode, **how, **seven)
        yield case("float32", (1, 1, 1, 1), 9, "", mode=mode, output_height=3, output_width=2)
        yield case("float32", (3, 2, 23, 61), 9, "", mode=mode, output_height=2, output_width=17)
        yield case("float32", (1, 5, 61, 5), 9, "", mode=mode, spatial_scale=0.3125, **seven)
        yield case("float32", (2, 0, 5, 5), 3, "no channel", mode=mode, **seven)
        yield case("float32", (2, 3, 5, 5), 0, "no box", mode=mode, **seven)


# Sums in another order than the reference's.
tolerances = {"float32": 1e-5, "float16": 2e-3}
