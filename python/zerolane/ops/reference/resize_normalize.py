"""ResizeNormalize: pictures resized to planes of (scale * pixel - mean) / std."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference._pictures import Floats, normalized, pixels_of, resized

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def resize_normalize(
    image: NDArray[np.uint8],
    *,
    size: Sequence[int],
    interpolation: str,
    scale: float,
    mean: Sequence[float],
    std: Sequence[float],
    swap_red_blue: bool,
) -> Floats:
    """The planes of [height, width, channels], or of a batch of them."""
    images = image if image.ndim == 4 else image[None]
    pixels = resized(images, size[0], size[-1], interpolation)
    return normalized(pixels, scale, mean, std, swap_red_blue)


def cases_of(op: str) -> Iterator[Case]:
    """Every kind of size, channel count and attribute, for this op or its float16 form."""
    from zerolane.ops.testing import Case

    def case(shape: tuple[int, ...], about: str = "", **attributes: Any) -> Case:
        return Case(op, (pixels_of(shape),), attributes, about)

    for interpolation in ("bilinear", "area"):
        how: dict[str, Any] = {"interpolation": interpolation}
        yield case((1, 1, 1), size=[1, 1], **how)
        yield case((1, 1, 3), size=[5, 3], **how)
        yield case((29, 41, 3), "one pixel", size=[1], **how)
        yield case((13, 17, 3), "same size", size=[13, 17], **how)
        yield case((26, 34, 3), "halved", size=[13, 17], **how)
        yield case((2, 31, 37, 3), "down", size=[19, 23], **how)
        yield case((11, 7, 4), "up", size=[31, 37], **how)
        yield case((61, 5, 2), "down and up", size=[7, 33], **how)
        yield case((3, 67, 1), "up and down", size=[19, 8], **how)
        yield case((0, 5, 7, 3), "no picture", size=[3, 3], **how)
    yield case(
        (9, 8, 3), size=[7, 6], scale=1.0, mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4]
    )
    yield case((9, 8, 3), size=[7, 6], swap_red_blue=True, mean=[0.1, 0.2, 0.3], std=[0.5])
    yield case((9, 8, 4), size=[7, 6], swap_red_blue=True, std=[0.5, 0.25, 0.125, 1.0])


def cases() -> Iterator[Case]:
    return cases_of("zerolane::ResizeNormalize")


tolerances = {"float32": 2e-6}
