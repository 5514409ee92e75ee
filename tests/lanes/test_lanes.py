"""zl.Lanes on ONNX Runtime: order, back-pressure, errors, cancelling, closing."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.models import small

X = np.random.default_rng(0).standard_normal((64, 64), np.float32)
FOREVER = np.array(10**9)


@pytest.fixture(scope="module")
def double() -> zl.Session:
    return zl.load(small.dynamic_dims().SerializeToString(), threads=1)


@pytest.fixture(scope="module")
def loop() -> zl.Session:
    """steps, x -> x rolled `steps` times; FOREVER runs until it is ended."""
    return zl.load(small.long_loop(64).SerializeToString(), threads=1)


def arrays(count: int) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    return [rng.standard_normal((n, n % 7, 3), np.float32) for n in rng.integers(0, 50, count)]


@pytest.mark.parametrize("spin_us", [0, 30])
@pytest.mark.parametrize("count", [1, 2, 5])
def test_map_in_order(double: zl.Session, count: int, spin_us: float) -> None:
    xs = arrays(101)
    with zl.Lanes(double, count, spin_us=spin_us) as lanes:
        for x, y in zip(xs, lanes.map(xs), strict=True):
            np.testing.assert_array_equal(y, 2 * x)
    assert sum(lane["calls"] for lane in lanes.stats()["lanes"]) == 101


def test_map_as_done(double: zl.Session) -> None:
    xs = arrays(101)
    with zl.Lanes(double, 3) as lanes:
        results = dict(lanes.map(xs, ordered=False))
    assert sorted(results) == list(range(101))
    for i, y in results.items():
        np.testing.assert_array_equal(y, 2 * xs[i])


def test_map_reads_slots_ahead(double: zl.Session) -> None:
    read = []

    def items() -> Iterator[Any]:
        for i in range(50):
            read.append(i)
            yield np.full((1, 1, 3), i, np.float32)

    with zl.Lanes(double, 1, slots=3) as lanes:
        for taken, _ in enumerate(lanes.map(items())):
            assert len(read) <= taken + 1 + lanes.slots


def test_forms_of_items(loop: zl.Session) -> None:
    with zl.Lanes(loop, 2) as lanes:
        items = [(np.array(1), X), {"steps": np.array(2), "x": X}]
        plain, named = lanes.map(items)
        np.testing.assert_array_equal(plain, np.roll(X, 1, -1))
        np.testing.assert_array_equal(named["y"], np.roll(X, 2, -1))
        future = lanes.submit(np.array(3), x=X)
        assert isinstance(future, zl.Future)
        np.testing.assert_array_equal(future.result(30), np.roll(X, 3, -1))


def test_more_futures_than_slots(double: zl.Session) -> None:
    """A slot is free when its call is over, whether the result was taken or not."""
    xs = arrays(60)
    with zl.Lanes(double, 2) as lanes:
        futures = [lanes.submit(x) for x in xs]
        for x, future in zip(xs, futures, strict=True):
            np.testing.assert_array_equal(future.result(30), 2 * x)


def test_one_failure_disturbs_nobody(double: zl.Session) -> None:
    xs: list[Any] = arrays(9)
    xs[4] = np.ones((2, 2))
    with zl.Lanes(double, 2) as lanes:
        results = list(lanes.map(xs, return_exceptions=True))
        assert isinstance(results[4], zl.InvalidArgument)
        for i in (0, 3, 5, 8):
            np.testing.assert_array_equal(results[i], 2 * xs[i])
        by_index = dict(lanes.map(xs, ordered=False, return_exceptions=True))
        assert isinstance(by_index[4], zl.InvalidArgument)
        assert len(by_index) == 9
        results = []
        with pytest.raises(zl.InvalidArgument):
            results.extend(lanes.map(xs))  # keeps what came before
        assert len(results) == 4
        np.testing.assert_array_equal(lanes.submit(xs[0]).result(30), 2 * xs[0])


def test_back_pressure_and_cancel(loop: zl.Session) -> None:
    with zl.Lanes(loop, 1, slots=1) as lanes:
        stuck = lanes.submit(FOREVER, X)
        results: list[Any] = []
        waiting = threading.Thread(target=lambda: results.append(lanes.submit(np.array(1), X)))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert lanes.stats()["in_flight"] == 1
        assert stuck.cancel()
        waiting.join(60)
        np.testing.assert_array_equal(results[0].result(60), np.roll(X, 1, -1))
        with pytest.raises(zl.Cancelled):
            stuck.result(60)


def test_deadline_of_a_call(loop: zl.Session) -> None:
    with zl.Lanes(loop, 1) as lanes:
        stuck = lanes.submit(FOREVER, X, deadline_ms=50)
        late = lanes.submit(np.array(1), X, deadline_ms=0.001)
        for future in (stuck, late):
            with pytest.raises(zl.DeadlineExceeded):
                future.result(60)


def raise_with(_: zl.Future) -> None:
    raise RuntimeError("mine")


def test_close_drains_or_cancels(loop: zl.Session) -> None:
    lanes = zl.Lanes(loop, 1, slots=4)
    futures = [lanes.submit(np.array(1), X) for _ in range(4)]
    lanes.close()
    for future in futures:
        np.testing.assert_array_equal(future.result(0), np.roll(X, 1, -1))
    lanes.close()
    with pytest.raises(zl.Unavailable, match="closed"):
        lanes.submit(np.array(1), X)
    lanes = zl.Lanes(loop, 1, slots=4)
    futures = [lanes.submit(FOREVER, X) for _ in range(4)]
    lanes.close(cancel=True)
    for future in futures:
        with pytest.raises(zl.Cancelled):
            future.result(0)
    lanes = zl.Lanes(loop, 1)
    with pytest.raises(RuntimeError, match="mine"), lanes:
        raise_with(stuck := lanes.submit(FOREVER, X))
    assert stuck.cancelled()


def test_leaving_a_map_cancels_what_is_in_flight(loop: zl.Session) -> None:
    with zl.Lanes(loop, 1, slots=2) as lanes:
        steps = iter([1, 10**9, 10**9, 10**9])
        results = lanes.map((np.array(n), X) for n in steps)
        next(results)
        results.close()  # type: ignore[attr-defined]
        np.testing.assert_array_equal(lanes.submit(np.array(1), X).result(60), np.roll(X, 1, -1))


def test_from_coroutines(double: zl.Session) -> None:
    xs = arrays(40)

    async def main(lanes: zl.Lanes) -> list[Any]:
        return await asyncio.gather(*(lanes.arun(x) for x in xs))

    with zl.Lanes(double, 2, slots=64) as lanes:
        for x, y in zip(xs, asyncio.run(main(lanes)), strict=True):
            np.testing.assert_array_equal(y, 2 * x)


def test_coroutines_wait_for_slots_without_the_event_loop(loop: zl.Session) -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    async def main(lanes: zl.Lanes) -> list[Any]:
        beside = asyncio.ensure_future(tick())
        calls = [asyncio.ensure_future(lanes.arun(np.array(n), X)) for n in range(30)]
        while lanes.stats()["in_flight"] < 2 or ticks < 10:
            await asyncio.sleep(0)
        for n in (7, 29):  # one that may be in flight or wait, and the last, which waits
            calls[n].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        beside.cancel()
        return results

    with zl.Lanes(loop, 1, slots=2) as lanes:
        results = asyncio.run(main(lanes))
        for n, y in enumerate(results):
            if n not in (7, 29):
                np.testing.assert_array_equal(y, np.roll(X, n, -1))
        assert isinstance(results[29], asyncio.CancelledError)
        assert lanes.stats()["in_flight"] == 0


def test_a_deadline_passes_while_a_coroutine_waits_for_a_slot(loop: zl.Session) -> None:
    async def main(lanes: zl.Lanes) -> None:
        first = lanes.submit(FOREVER, X)
        late = asyncio.ensure_future(lanes.arun(np.array(1), X, deadline_ms=5))
        await asyncio.sleep(0.05)
        assert not late.done()
        first.cancel()
        with pytest.raises(zl.DeadlineExceeded):
            await late

    with zl.Lanes(loop, 1, slots=1) as lanes:
        asyncio.run(main(lanes))


def test_closing_wakes_coroutines_that_wait_for_slots(loop: zl.Session) -> None:
    async def main(lanes: zl.Lanes) -> None:
        first = lanes.submit(FOREVER, X)
        waiting = [asyncio.ensure_future(lanes.arun(np.array(1), X)) for _ in range(5)]
        await asyncio.sleep(0)
        await asyncio.to_thread(lanes.close, cancel=True)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(r, zl.Unavailable | zl.Cancelled) for r in results), results
        assert first.done()

    asyncio.run(main(zl.Lanes(loop, 1, slots=1)))


def test_many_threads(double: zl.Session) -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        x = np.full((3, 2, 3), seed, np.float32)
        for _ in range(200):
            if not np.array_equal(lanes.submit(x).result(60), 2 * x):
                wrong.append(seed)

    with zl.Lanes(double, 2) as lanes:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_dropped_futures_and_lanes(double: zl.Session) -> None:
    lanes = zl.Lanes(double, 2)
    x = np.ones((3, 2, 3), np.float32)
    held = weakref.ref(x)
    for _ in range(50):
        lanes.submit(x)
    kept = lanes.submit(x)
    del lanes
    np.testing.assert_array_equal(kept.result(30), 2 * np.ones((3, 2, 3)))
    del x, kept
    for _ in range(100):
        zl.load(small.relu().SerializeToString()).submit(np.ones((1, 4), np.float32)).result(30)
        gc.collect()
        if held() is None:
            break
    assert held() is None


def test_bound_to_a_cpu(double: zl.Session) -> None:
    cpu = max(os.sched_getaffinity(0))
    with zl.Lanes(double, 2, cpus=[cpu]) as lanes:
        assert lanes.submit(X[:, None, :3]).result(30).shape == (64, 1, 3)
    with pytest.raises(zl.InvalidArgument, match="CPU 99999"):
        zl.Lanes(double, 2, cpus=[99999])


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": True}, "count is True"),
        ({"count": 2, "slots": 1}, "slots is 1"),
        ({"spin_us": -1}, "spin_us is -1"),
        ({"spin_us": float("nan")}, "spin_us is nan"),
    ],
)
def test_bad_options(double: zl.Session, options: dict[str, Any], text: str) -> None:
    with pytest.raises(zl.InvalidArgument, match=text):
        zl.Lanes(double, **options)


def test_bad_session() -> None:
    with pytest.raises(zl.InvalidArgument, match=r"zl\.load"):
        zl.Lanes("model.onnx")  # type: ignore[arg-type]


def test_exit_with_work_in_flight() -> None:
    child.run(
        """
        import numpy as np, zerolane as zl
        from tests.models import small
        session = zl.load(small.long_loop(64).SerializeToString())
        lanes = zl.Lanes(session, 2)
        futures = [lanes.submit(np.array(10**9), np.zeros((64, 64), np.float32)) for _ in range(4)]
        """
    )


def test_forked_child() -> None:
    child.run(
        """
        import os
        import numpy as np, zerolane as zl
        from tests.models import small
        session = zl.load(small.relu().SerializeToString())
        lanes = zl.Lanes(session, 2)
        x = np.ones((1, 4), np.float32)
        lanes.submit(x).result()
        pid = os.fork()
        if pid == 0:
            try:
                lanes.submit(x)
            except zl.Unavailable as error:
                assert "forked" in str(error)
                lanes.close()
                os._exit(0)
            os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        lanes.submit(x).result()
        """
    )
