"""Generated pictures made of handwritten digits: scenes with boxes, and lines of digits.

Needs NumPy only: the training scripts draw from it, and the task checks draw fresh test pictures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

HELD_BACK = (
    Path(__file__).parents[2] / "python" / "zerolane" / "cli" / "demo_data" / "digits_test.npz"
)

_GLYPH = 8
_SCALE = 2


class Digits(NamedTuple):
    """images f32 [K,8,8] in 0..1, labels i64 [K]."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


class Box(NamedTuple):
    """A digit in a scene, pixel edges; x1 and y1 are exclusive."""

    x0: int
    y0: int
    x1: int
    y1: int
    digit: int


def held_back_digits() -> Digits:
    """The 397 digits that no training script has seen."""
    with np.load(HELD_BACK) as data:
        images = data["images"].astype(np.float32) / 16
        return Digits(images, data["labels"].astype(np.int64))


def _enlarge(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.repeat(np.repeat(image, _SCALE, axis=-2), _SCALE, axis=-1)


def draw_scenes(
    rng: np.random.Generator, digits: Digits, count: int, size: int = 64
) -> tuple[NDArray[np.float32], list[list[Box]]]:
    """Returns noisy scenes f32 [count,1,size,size] with one to four digits of 16x16 pixels each.

    A digit that would come within two pixels of an earlier one is left out.
    """
    images = rng.random((count, 1, size, size), dtype=np.float32) * np.float32(0.15)
    truth: list[list[Box]] = []
    side = _GLYPH * _SCALE
    for scene in images[:, 0]:
        used = np.zeros((size, size), bool)
        boxes: list[Box] = []
        for _ in range(int(rng.integers(1, 5))):
            y, x = (int(v) for v in rng.integers(0, size - side, 2))
            if used[max(0, y - 2) : y + side + 2, max(0, x - 2) : x + side + 2].any():
                continue
            used[y : y + side, x : x + side] = True
            which = int(rng.integers(len(digits.images)))
            area = scene[y : y + side, x : x + side]
            np.maximum(area, _enlarge(digits.images[which]), out=area)
            boxes.append(Box(x, y, x + side, y + side, int(digits.labels[which])))
        truth.append(boxes)
    return images, truth


def draw_lines(
    rng: np.random.Generator, digits: Digits, count: int, length: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Returns lines f32 [count,1,16,W] of `length` digits with random gaps, and i64 [count,length].

    W depends on `length` alone and is a multiple of 4.
    """
    widest = (_GLYPH + 3) * length
    width = widest + widest % 2
    small = np.zeros((count, 1, _GLYPH, width), np.float32)
    chosen = rng.integers(0, len(digits.images), (count, length))
    for line, row in zip(small[:, 0], chosen, strict=True):
        column = 0
        for which in row:
            column += int(rng.integers(0, 4))
            line[:, column : column + _GLYPH] = digits.images[which]
            column += _GLYPH
    return _enlarge(small), digits.labels[chosen]


def decode_ctc(log_probs: NDArray[Any], blank: int = 0) -> list[list[int]]:
    """Best path of [N,T,C]: merges repeats, drops blanks; class k+1 is the digit k."""
    lines: list[list[int]] = []
    for row in log_probs.argmax(-1):
        previous = np.concatenate([[-1], row[:-1]])
        kept = row[(row != previous) & (row != blank)]
        lines.append([int(k) - 1 for k in kept])
    return lines
