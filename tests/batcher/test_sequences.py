"""zl.Sequences: recurrent state by sequence."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.batcher import models
from zerolane.batcher import sequences as module

Array = np.ndarray[Any, Any]


@pytest.fixture
def batcher() -> Iterator[zl.Batcher]:
    with zl.Batcher(zl.load(models.recurrent(), threads=1)) as made:
        yield made


def x_of(value: float) -> Array:
    return np.full((1, 3), value, np.float32)


def test_state_moves_on_by_sequence(batcher: zl.Batcher) -> None:
    store = zl.Sequences(batcher, state={"h": "h_out"})
    a, b = store.create(), store.create()
    np.testing.assert_array_equal(a.step(x_of(1)), x_of(2))
    np.testing.assert_array_equal(a.step({"x": x_of(1)}), x_of(4))
    np.testing.assert_array_equal(b.step(x_of(10), priority=1), x_of(20))
    np.testing.assert_array_equal(a.step(x_of(0)), x_of(4))
    assert store.stats() == {
        "live": 2,
        "created": 2,
        "dropped": 0,
        "evicted": 0,
        "steps": 4,
        "bytes": 2 * 24,
    }


def test_initial_state(batcher: zl.Batcher) -> None:
    initial = np.ones((2, 1, 3), np.float32)
    store = zl.Sequences(batcher, state={"h": "h_out"}, initial={"h": initial})
    initial[...] = 9  # taken as it was
    np.testing.assert_array_equal(store.create().step(x_of(0)), x_of(2))


def test_many_at_once(batcher: zl.Batcher) -> None:
    store = zl.Sequences(batcher, state={"h": "h_out"})

    async def client(value: int) -> None:
        sequence = store.create()
        for step in range(1, 50):
            np.testing.assert_array_equal(await sequence.astep(x_of(value)), x_of(2 * value * step))
        sequence.drop()

    async def main() -> None:
        await asyncio.gather(*(client(i) for i in range(20)))

    asyncio.run(main())
    assert store.stats()["live"] == 0
    assert store.stats()["dropped"] == 20
    wrong: list[int] = []

    def work(value: int) -> None:
        sequence = store.create()
        for step in range(1, 50):
            if not np.array_equal(sequence.step(x_of(value)), x_of(2 * value * step)):
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_failed_step_leaves_the_state(batcher: zl.Batcher) -> None:
    sequence = zl.Sequences(batcher, state={"h": "h_out"}).create()
    sequence.step(x_of(1))
    with pytest.raises(zl.InvalidArgument):
        sequence.step(np.zeros((1, 3)))
    with pytest.raises(zl.InvalidArgument):
        sequence.step(x_of(1), deadline_ms=-1)
    np.testing.assert_array_equal(sequence.step(x_of(0)), x_of(2))


def test_one_step_at_a_time(batcher: zl.Batcher) -> None:
    sequence = zl.Sequences(batcher, state={"h": "h_out"}).create()

    async def main() -> None:
        first = asyncio.ensure_future(sequence.astep(x_of(1)))
        await asyncio.sleep(0)
        with pytest.raises(zl.Unavailable, match="under way"):
            await sequence.astep(x_of(1))
        await first

    asyncio.run(main())
    np.testing.assert_array_equal(sequence.step(x_of(0)), x_of(2))


def test_eviction_by_memory(batcher: zl.Batcher) -> None:
    store = zl.Sequences(batcher, state={"h": "h_out"}, max_bytes=3 * 24)
    a, b, c = (store.create() for _ in range(3))
    a.step(x_of(1))
    store.create()
    np.testing.assert_array_equal(a.step(x_of(0)), x_of(2))
    with pytest.raises(zl.NotFound, match="evicted"):
        b.step(x_of(1))
    c.step(x_of(1))
    assert store.stats()["evicted"] == 1


def test_eviction_by_age(batcher: zl.Batcher, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    store = zl.Sequences(batcher, state={"h": "h_out"}, max_idle_s=10)
    old, young = store.create(), store.create()
    now = 105
    young.step(x_of(1))
    now = 111
    store.create()
    with pytest.raises(zl.NotFound):
        old.step(x_of(1))
    np.testing.assert_array_equal(young.step(x_of(0)), x_of(2))


def test_dropped(batcher: zl.Batcher) -> None:
    sequence = zl.Sequences(batcher, state={"h": "h_out"}).create()
    sequence.drop()
    sequence.drop()
    with pytest.raises(zl.NotFound, match="dropped"):
        sequence.step(x_of(1))


def test_bad_arguments(batcher: zl.Batcher) -> None:
    for state in ({}, {"z": "h_out"}, {"h": "z"}):
        with pytest.raises(zl.InvalidArgument, match="state"):
            zl.Sequences(batcher, state=state)
    with pytest.raises(zl.InvalidArgument, match="max_bytes is 3"):
        zl.Sequences(batcher, state={"h": "h_out"}, max_bytes=3)
