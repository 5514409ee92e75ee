"""What the ops of faults.cpp should compute; installed as faulty.reference by test_testing.py."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops import testing

Array = NDArray[Any]


def _doubles(x: Array) -> Array:
    return 2 * x.astype(np.float64)


sound = writes_behind = writes_in_front = reads_behind = reads_in_front = _doubles
writes_input = rewrites_input = skips_tail = accumulates = remembers = counts = races = _doubles
wrong_at_nan = wrong_value = crashes = throws = hangs = _doubles


def positive(x: Array) -> Array:
    return x[x > 0]


positive_too_far = positive


def picks(index: Array) -> Array:
    return np.take(index, index)


def rich(
    x: Array,
    b: Array | None = None,
    *,
    factor: float,
    times: int,
    mode: str,
    offsets: list[float],
) -> tuple[Array, Array]:
    y = factor * times * x.astype(np.float64) + sum(offsets)
    if b is not None:
        y = y + b.astype(np.float64)
    return (-y if mode == "negative" else y), np.asarray(x.size)


def cases() -> Iterator[testing.Case]:
    for dtype in (np.int64, np.int32):
        for shape in ((1, 1, 1, 1, 1), (2, 1, 3, 1, 7), (0, 1, 1, 1, 1), (1, 1, 1, 1, 1031)):
            count = int(np.prod(shape))
            index = np.random.default_rng(count).permutation(count).reshape(shape).astype(dtype)
            yield testing.Case("faulty::Picks", (index,), about="a permutation")
