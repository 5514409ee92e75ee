"""What the references of Letterbox and ResizeNormalize share: weights of pixels, as matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def bilinear_weights(to: int, source: int) -> Floats:
    """[to, source]: how much of each source pixel is in each new one, linear between centers."""
    weights = np.zeros((to, source))
    for i in range(to):
        position = min(max((i + 0.5) * source / to - 0.5, 0), source - 1)
        low = int(position)
        high = min(low + 1, source - 1)
        weights[i, low] += 1 - (position - low)
        weights[i, high] += position - low
    return weights


def area_weights(to: int, source: int) -> Floats:
    """[to, source]: each new pixel is the mean of what it covers."""
    edges = np.arange(to + 1)[:, None] * source / to
    pixel = np.arange(source)
    covered = np.minimum(edges[1:], pixel + 1) - np.maximum(edges[:-1], pixel)
    shares: Floats = np.maximum(covered, 0) * to / source
    return shares


def resized(images: NDArray[np.uint8], height: int, width: int, interpolation: str) -> Floats:
    """[batch, height, width, channels], not rounded to whole pixel values."""
    weights = {"bilinear": bilinear_weights, "area": area_weights}[interpolation]
    rows = weights(height, images.shape[1])
    columns = weights(width, images.shape[2])
    planes = images.astype(np.float64)
    made: Floats = np.einsum("yi,nijc,xj->nyxc", rows, planes, columns, optimize=True)
    return made


def channel_order(channels: int, swap_red_blue: bool) -> list[int]:
    """Which channel each plane shows. The same list tells where each channel goes."""
    return [2, 1, 0, 3][:channels] if swap_red_blue else list(range(channels))


def normalized(
    pixels: Floats, scale: float, mean: Sequence[float], std: Sequence[float], swap_red_blue: bool
) -> Floats:
    """[batch, channels, height, width] of (scale * pixel - mean) / std."""
    planes = pixels[..., channel_order(pixels.shape[-1], swap_red_blue)]
    values: Floats = (scale * planes - np.asarray(mean)) / np.asarray(std)
    return values.transpose(0, 3, 1, 2)


def pixels_of(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Random pixels for cases."""
    return np.random.default_rng(len(shape)).integers(0, 256, shape, np.uint8)
