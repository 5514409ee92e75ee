"""Many threads on one session; one binding is for one thread at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

MODEL = small.dynamic_dims().SerializeToString()


def in_threads(count: int, body: Callable[[int], None]) -> None:
    """Runs body(0..count-1) at the same time; the first failure is raised here."""
    start = threading.Barrier(count)

    def one(index: int) -> None:
        start.wait()
        body(index)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(one, index) for index in range(count)]:
            future.result(timeout=120)


@pytest.mark.parametrize("gil", ["auto", "hold", "release"])
def test_one_session_in_many_threads(gil: Any) -> None:
    session = zl.load(MODEL, gil=gil)

    def body(index: int) -> None:
        rng = np.random.default_rng(index)
        for _ in range(150):
            x = rng.standard_normal(
                (int(rng.integers(0, 9)), int(rng.integers(0, 500)), 3), np.float32
            )
            np.testing.assert_array_equal(session(x), 2 * x)
            np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)

    in_threads(12, body)


def test_every_thread_a_binding_of_its_own() -> None:
    session = zl.load(MODEL)

    def body(index: int) -> None:
        binding = session.bind(x=(1 + index, 7, 3))
        for value in range(500):
            binding.inputs["x"][...] = value + index
            assert (binding()["y"] == 2 * (value + index)).all()

    in_threads(8, body)


def test_one_binding_in_two_threads_is_refused() -> None:
    session = zl.load(small.long_loop(64).SerializeToString())
    x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
    steps = np.array(1)
    binding = session.bind(steps, x, gil="release")
    steps[...] = 10**9
    failures: list[BaseException] = []

    def run() -> None:
        try:
            binding()
        except zl.Error as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    # Until the other thread is inside, this one's calls are ended by a deadline.
    for _ in range(1000):
        try:
            binding.run(deadline_ms=5)
        except zl.DeadlineExceeded:
            continue
        except zl.InvalidArgument as error:
            assert "another thread" in str(error)  # noqa: PT017
            assert "binding" in str(error)  # noqa: PT017
            break
    else:
        pytest.fail("two threads ran one binding")
    while thread.is_alive():
        binding.cancel()
        thread.join(timeout=0.01)
    # The other thread was refused at first if this one was inside: then it has ended by that.
    assert len(failures) == 1
    steps[...] = 2
    for _ in range(2):
        try:
            y = binding()["y"]
            break
        except zl.Cancelled:
            continue
    np.testing.assert_array_equal(y, np.roll(x, 2, -1))


def test_a_binding_moves_between_threads() -> None:
    binding = zl.load(MODEL).bind(x=(4, 4, 3))
    lock = threading.Lock()

    def body(index: int) -> None:
        for _ in range(200):
            with lock:
                binding.inputs["x"][...] = index
                assert (binding()["y"] == 2 * index).all()

    in_threads(4, body)


def test_loading_in_many_threads() -> None:
    def body(index: int) -> None:
        for _ in range(5):
            x = np.full((index, 2, 3), index, np.float32)
            np.testing.assert_array_equal(zl.load(MODEL)(x), 2 * x)

    in_threads(8, body)


def test_futures_from_many_threads() -> None:
    session = zl.load(MODEL)

    def body(index: int) -> None:
        xs = [np.full((index, n, 3), n, np.float32) for n in range(40)]
        futures = [session.submit(x) for x in xs]
        for n, (x, future) in enumerate(zip(xs, futures, strict=True)):
            if n % 5 == 4:
                future.cancel()
            try:
                np.testing.assert_array_equal(future.result(timeout=60), 2 * x)
            except zl.Cancelled:
                assert n % 5 == 4

    in_threads(8, body)


def test_first_use_in_many_threads() -> None:
    """Opening the library, making the pools and the first load race in a fresh process."""
    from tests import child

    code = """
    import sys, threading
    import zerolane as zl
    from tests.models import small
    import numpy as np
    model = small.relu().SerializeToString()
    x = np.ones((1, 4), np.float32)
    good = []
    start = threading.Barrier(8)
    def body():
        start.wait()
        good.append(zl.load(model)(x).tolist() == x.tolist())
    threads = [threading.Thread(target=body) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    print(good == [True] * 8)
    """
    assert child.run(code) == "True\n"


def test_calls_in_a_thread_that_ends() -> None:
    session = zl.load(MODEL)
    for _ in range(100):
        thread = threading.Thread(target=lambda: session(np.ones((2, 2, 3), np.float32)))
        thread.start()
        thread.join()
