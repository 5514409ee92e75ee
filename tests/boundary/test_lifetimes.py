"""Whatever is dropped first, what is left works, and nothing outlives its last user."""

from __future__ import annotations

import gc
import sys
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from zerolane import _native

MODEL = small.identity().SerializeToString()
LARGE = np.arange(100_000, dtype=np.float32)


class Array(np.ndarray[Any, Any]):
    """An array that can be referred to weakly."""


def array(size: int = 8) -> Array:
    return np.arange(size, dtype=np.float32).view(Array)


def more_than(before: dict[str, int]) -> dict[str, int]:
    gc.collect()
    now = _native.live_objects()
    return {kind: count for kind, count in now.items() if count > before[kind]}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    gc.collect()
    before = _native.live_objects()
    yield
    # A worker lets go of a call after it has told that the call is done, and what the call holds is
    # let go by this thread then.
    end = time.monotonic() + 30
    while (more := more_than(before)) and time.monotonic() < end:
        time.sleep(0.001)
    assert more == {}


def test_binding_without_its_session() -> None:
    binding = zl.load(MODEL).bind(x=(4,))
    gc.collect()
    binding.inputs["x"][...] = 3
    assert (binding()["y"] == 3).all()


def test_future_without_its_session_and_arrays() -> None:
    futures = [zl.load(MODEL).submit(LARGE + i) for i in range(20)]
    gc.collect()
    for i, future in enumerate(futures):
        np.testing.assert_array_equal(future.result(timeout=30), LARGE + i)


def test_session_without_its_future() -> None:
    session = zl.load(MODEL)
    for _ in range(50):
        session.submit(LARGE + 1)
    np.testing.assert_array_equal(session.submit(LARGE).result(timeout=30), LARGE)


def test_result_without_everything() -> None:
    x = LARGE + 1
    model = small.nonzero().SerializeToString()
    results = [
        zl.load(MODEL)(x),
        zl.load(MODEL).run({"x": x})["y"],
        zl.load(MODEL).bind(x=x)()["y"],
        zl.load(MODEL).submit(x).result(timeout=30),
    ]
    indices = zl.load(model)(x)
    rows = zl.load(small.sequence_output().SerializeToString())(x[:10].reshape(5, 2))
    gc.collect()
    filler = [np.full(len(x), 9, np.float32) for _ in range(8)]
    for y in results:
        np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(indices[0], np.arange(len(x)))
    np.testing.assert_array_equal(np.concatenate(rows), x[:10].reshape(5, 2))
    assert len(filler) == 8


def test_inputs_and_outputs_without_their_binding() -> None:
    binding = zl.load(MODEL).bind(x=(1000,))
    x, outputs = binding.inputs["x"], binding.outputs
    x[:] = 5
    binding()
    del binding
    gc.collect()
    assert (x == 5).all()
    assert (outputs["y"] == 5).all()


def test_binding_keeps_the_arrays() -> None:
    binding = zl.load(MODEL).bind(np.full(1000, 7, np.float32))
    gc.collect()
    filler = [np.zeros(1000, np.float32) for _ in range(16)]
    assert (binding()["y"] == 7).all()
    assert len(filler) == 16


def test_binding_lets_the_arrays_go() -> None:
    x, y = array(), array()
    gone = [weakref.ref(x), weakref.ref(y)]
    binding = zl.load(MODEL).bind(x=x, out={"y": y})
    binding()
    del x, y, binding
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize("size", [8, 100_000])
def test_a_call_keeps_nothing(size: int) -> None:
    session = zl.load(MODEL)
    x, out = array(size), array(size)
    counts = sys.getrefcount(x), sys.getrefcount(out)
    for _ in range(10):
        session(x)
        session.run({"x": x}, out={"y": out})
        session.submit(x).result(timeout=30)
        session({"x": x})
    assert (sys.getrefcount(x), sys.getrefcount(out)) == counts
    gone = weakref.ref(x)
    del x
    assert gone() is None


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((3, 3), np.float32), object()])
def test_a_failed_call_keeps_nothing(bad: Any) -> None:
    session = zl.load(small.add(("N",)).SerializeToString())
    x = array()
    count = sys.getrefcount(x), sys.getrefcount(bad)
    for call in (
        lambda: session(x, bad),
        lambda: session.run({"a": x, "b": bad}),
        lambda: session.submit(x, bad),
        lambda: session.bind(x, bad),
        lambda: session.run({"a": x, "b": x}, out={"y": bad}),
    ):
        with pytest.raises(zl.Error):
            call()
    gc.collect()
    assert (sys.getrefcount(x), sys.getrefcount(bad)) == count


def test_results_are_freed() -> None:
    session = zl.load(small.nonzero().SerializeToString())
    ys = [session(np.ones(10_000, np.float32)) for _ in range(3)]
    gone = [weakref.ref(y) for y in ys]
    del ys
    assert [ref() for ref in gone] == [None] * 3


def test_a_session_with_bindings_in_a_cycle() -> None:
    """A binding that something of its own refers to is found by the collector or let go."""
    session = zl.load(MODEL)
    session.kept = session.bind(x=(4,))  # type: ignore[attr-defined]
    session.kept()
    del session.kept  # the native types take no part in cycle collection: broken by hand


def test_dropped_in_another_thread() -> None:
    import threading

    box = [zl.load(MODEL).bind(x=(4,)), zl.load(MODEL).submit(LARGE), zl.load(MODEL)]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()


def test_many_sessions_come_and_go() -> None:
    for _ in range(60):
        session = zl.load(MODEL)
        session(np.ones(3, np.float32))
        session.bind(x=(3,))()
