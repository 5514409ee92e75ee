"""Lanes and a batcher on every backend: the same answers as one call after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]


def batches(count: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1 + n % 5, 2, 3), np.float32) for n in range(count)]


def test_lanes(load: Load) -> None:
    xs = batches(30)
    with zl.Lanes(load(small.dynamic_dims()), 3) as lanes:
        for x, y in zip(xs, lanes.map(xs), strict=True):
            np.testing.assert_array_equal(y, 2 * x)
        results = dict(lanes.map(xs, ordered=False))
    for i, x in enumerate(xs):
        np.testing.assert_array_equal(results[i], 2 * x)


def test_a_failure_disturbs_no_other_call(load: Load) -> None:
    xs: list[Any] = batches(9)
    xs[4] = np.ones((2, 2))
    with zl.Lanes(load(small.dynamic_dims()), 2) as lanes:
        results = list(lanes.map(xs, return_exceptions=True))
    assert isinstance(results[4], zl.InvalidArgument)
    np.testing.assert_array_equal(results[5], 2 * xs[5])


def test_batcher(load: Load) -> None:
    xs = batches(40)
    with zl.Batcher(load(small.dynamic_dims()), max_batch=8, lanes=2) as batcher:

        async def main() -> list[Any]:
            return await asyncio.gather(*(batcher.arun(x) for x in xs))

        for _ in range(3):
            for x, y in zip(xs, asyncio.run(main()), strict=True):
                np.testing.assert_array_equal(y, 2 * x)
        np.testing.assert_array_equal(batcher(xs[3]), 2 * xs[3])
        assert batcher.stats()["failed"] == 0
