"""Letterbox: pictures resized without distortion, in the middle of planes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference._pictures import Floats, channel_order, normalized, pixels_of, resized

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def letterbox(
    image: NDArray[np.uint8],
    *,
    size: Sequence[int],
    interpolation: str,
    scale: float,
    mean: Sequence[float],
    std: Sequence[float],
    swap_red_blue: bool,
    scale_up: bool,
    border: Sequence[float],
) -> tuple[Floats, Floats]:
    """The planes and transforms of [height, width, channels], or of a batch of them."""
    images = image if image.ndim == 4 else image[None]
    count, height, width, channels = images.shape
    factor = min(size[0] / height, size[-1] / width)
    if not scale_up:
        factor = min(factor, 1.0)
    # Python's round(): a half goes to the even side.
    inner_height = min(max(round(height * factor), 1), size[0])
    inner_width = min(max(round(width * factor), 1), size[-1])
    top, left = (size[0] - inner_height) // 2, (size[-1] - inner_width) // 2

    pixels = np.empty((count, size[0], size[-1], channels))
    # The border is told by plane; channels become planes further down.
    pixels[:] = np.broadcast_to(border, channels)[channel_order(channels, swap_red_blue)]
    inner = resized(images, inner_height, inner_width, interpolation)
    pixels[:, top : top + inner_height, left : left + inner_width] = inner
    transform = np.tile([factor, left, top], (count, 1))
    return normalized(pixels, scale, mean, std, swap_red_blue), transform


def cases_of(op: str) -> Iterator[Case]:
    """Every kind of size, channel count and attribute, for this op or its float16 form."""
    from zerolane.ops.testing import Case

    def case(shape: tuple[int, ...], about: str = "", **attributes: Any) -> Case:
        return Case(op, (pixels_of(shape),), attributes, about)

    for interpolation in ("bilinear", "area"):
        how: dict[str, Any] = {"interpolation": interpolation}
        yield case((1, 1, 1), size=[1], **how)
        yield case((1, 1, 3), size=[5, 3], **how)
        yield case((18, 32, 3), "wide, halved", size=[16], **how)
        yield case((2, 41, 29, 3), "tall", size=[31, 37], **how)
        yield case((11, 7, 4), "up", size=[32, 19], **how)
        yield case((1, 127, 2), "one row", size=[17, 13], **how)
        yield case((0, 5, 7, 3), "no picture", size=[3, 3], **how)
    yield case((7, 11, 3), "not up", size=[32, 20], scale_up=False)
    yield case((45, 11, 3), "down all the same", size=[32, 20], scale_up=False)
    yield case((9, 8, 3), size=[7, 13], border=[1.0, 2.5, 255.0], swap_red_blue=True)
    yield case((9, 8, 4), size=[7, 13], border=[1.0, 2.0, 3.0, 4.0], std=[0.5, 0.25, 0.125, 1.0])
    yield case((9, 8, 3), size=[13, 7], scale=1.0, mean=[123.7, 116.3, 103.5], std=[58.4])
    yield case((5, 4, 3), "a half rounds to even", size=[10, 2])


def cases() -> Iterator[Case]:
    return cases_of("zerolane::Letterbox")


tolerances = {"float32": 2e-6}
