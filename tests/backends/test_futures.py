"""submit and arun: results, errors, cancelling, many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.models import small

Load = Callable[..., zl.Session]
FOREVER = np.array(10**9)  # or as long as the backend can stand: see `forever`
X = np.random.default_rng(0).standard_normal((64, 64), np.float32)


@pytest.fixture(autouse=True)
def forever(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "FOREVER", np.array(backend.forever))


@pytest.fixture
def loop(load: Load) -> zl.Session:
    """steps, x -> x rolled `steps` times; FOREVER runs until it is ended."""
    return load(small.long_loop(64))


def test_result_and_state(load: Load) -> None:
    future = load(small.relu()).submit(np.array([[-1, 0, 1, 2]], np.float32))
    assert isinstance(future, zl.Future)
    np.testing.assert_array_equal(future.result(timeout=30), [[0, 0, 1, 2]])
    assert future.done()
    assert not future.cancelled()
    assert future.exception() is None
    assert future.result() is future.result(timeout=0)
    assert future.cancel() is False


def test_many_at_once(load: Load) -> None:
    session = load(small.dynamic_dims())
    rng = np.random.default_rng(0)
    xs = [rng.standard_normal((n, n % 7, 3), np.float32) for n in rng.integers(0, 50, 500)]
    futures = [session.submit(x) for x in xs]
    for x, future in zip(xs, futures, strict=True):
        np.testing.assert_array_equal(future.result(timeout=60), 2 * x)


def test_result_from_many_threads(load: Load) -> None:
    future = load(small.relu()).submit(np.ones((1, 4), np.float32))
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(future.result(30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 8
    assert all(result is results[0] for result in results)


def test_bad_arguments_are_told_at_once(load: Load) -> None:
    session = load(small.relu())
    with pytest.raises(zl.InvalidArgument, match="float64"):
        session.submit(np.ones((1, 4)))
    with pytest.raises(zl.InvalidArgument, match="no input"):
        session.submit(z=1)


def test_error_of_the_run(load: Load) -> None:
    """The failure is raised where the result is asked for, as often as it is asked for."""
    session = load(small.sequence_input())
    rows = [np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)]
    future = session.submit(rows)
    for _ in range(2):
        with pytest.raises(zl.Error):
            future.result(timeout=30)
    assert isinstance(future.exception(), zl.Error)
    assert future.done()
    assert not future.cancelled()


def test_timeout_leaves_the_call_running(loop: zl.Session) -> None:
    future = loop.submit(FOREVER, X)
    for timeout in (0, 0.02, -1):
        with pytest.raises(TimeoutError):
            future.result(timeout=timeout)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0.01)
    assert not future.done()
    assert future.cancel()
    with pytest.raises(zl.Cancelled):
        future.result(timeout=60)


def test_cancel_while_running(loop: zl.Session) -> None:
    future = loop.submit(FOREVER, X)
    assert future.cancel()
    with pytest.raises(zl.Cancelled) as caught:
        future.result(timeout=60)
    assert caught.value.code == "cancelled"
    assert future.cancelled()
    assert isinstance(future.exception(), zl.Cancelled)
    np.testing.assert_array_equal(loop(np.array(2), X), np.roll(X, 2, -1))


def test_cancel_before_running(loop: zl.Session) -> None:
    futures = [loop.submit(FOREVER, X) for _ in range(40)]
    for future in reversed(futures):
        assert future.cancel()
    for future in futures:
        with pytest.raises(zl.Cancelled):
            future.result(timeout=60)
    np.testing.assert_array_equal(loop.submit(np.array(1), X).result(60), np.roll(X, 1, -1))


def test_cancelled_frames_serve_again(loop: zl.Session) -> None:
    """What one call left cancelled does not end a later call that uses the same memory."""
    for _ in range(20):
        future = loop.submit(FOREVER, X)
        future.cancel()
        with pytest.raises(zl.Cancelled):
            future.result(timeout=60)
        np.testing.assert_array_equal(loop(np.array(1), X), np.roll(X, 1, -1))
        np.testing.assert_array_equal(loop.submit(np.array(1), X).result(60), np.roll(X, 1, -1))


def test_binding_cancel(loop: zl.Session) -> None:
    steps = np.array(1)
    binding = loop.bind(steps=steps, x=X)
    steps[...] = FOREVER
    stop = threading.Event()

    def cancel() -> None:
        while not stop.wait(0.01):
            binding.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    with pytest.raises(zl.Cancelled):
        binding()
    stop.set()
    canceller.join()
    steps[...] = 2
    try:
        y = binding()["y"]
    except zl.Cancelled:  # the last cancel came after the run
        y = binding()["y"]
    np.testing.assert_array_equal(y, np.roll(X, 2, -1))


@pytest.mark.parametrize("gil", ["auto", "hold", "release"])
def test_binding_cancel_of_no_run(load: Load, gil: str) -> None:
    """cancel() ends a run in progress; with none it has no lasting effect."""
    binding = load(small.relu()).bind(gil=gil)
    for _ in range(50):
        binding()
    binding.cancel()
    for _ in range(2):
        try:
            binding()
            break
        except zl.Cancelled:  # the one that was about to come
            continue
    else:
        pytest.fail("still cancelled")
    for _ in range(20):
        assert (binding()["y"] == 0).all()


def test_arun(load: Load) -> None:
    session = load(small.dynamic_dims())
    xs = [np.full((n, 1, 3), n, np.float32) for n in range(200)]

    async def all_at_once() -> list[object]:
        return await asyncio.gather(*(session.arun(x) for x in xs))

    for _ in range(2):  # a second event loop
        for x, y in zip(xs, asyncio.run(all_at_once()), strict=True):
            np.testing.assert_array_equal(y, 2 * x)


def test_arun_leaves_the_loop_free(loop: zl.Session) -> None:
    async def main() -> int:
        task = asyncio.ensure_future(loop.arun(FOREVER, X))
        ticks = 0
        for _ in range(20):
            await asyncio.sleep(0.001)
            ticks += 1
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        np.testing.assert_array_equal(await loop.arun(np.array(3), X), np.roll(X, 3, -1))
        return ticks

    assert asyncio.run(main()) == 20


def test_arun_errors(load: Load) -> None:
    session = load(small.sequence_input())

    async def main() -> None:
        with pytest.raises(zl.InvalidArgument):
            await session.arun(5)
        with pytest.raises(zl.Error):
            await session.arun([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])
        y = await session.arun([np.ones((1, 2), np.float32)])
        np.testing.assert_array_equal(y, [[1, 1]])

    asyncio.run(main())


def test_arun_timeout_ends_the_run(loop: zl.Session) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.arun(FOREVER, X), 0.05)
        # Every worker is free again, or this would never be done.
        await asyncio.gather(*(loop.arun(np.array(1), X) for _ in range(20)))

    asyncio.run(main())


def test_event_loops_leave_no_descriptors(load: Load) -> None:
    import gc
    import os

    session = load(small.relu())
    x = np.ones((1, 4), np.float32)
    asyncio.run(session.arun(x))
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(50):
        asyncio.run(session.arun(x))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before + 1
