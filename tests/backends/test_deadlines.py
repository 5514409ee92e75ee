"""Deadlines end a run; the session, the binding and the buffers stay usable."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

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
def session(load: Load) -> zl.Session:
    return load(small.long_loop(64))


def check_usable(session: zl.Session) -> None:
    np.testing.assert_array_equal(session(np.array(3), X), np.roll(X, 3, -1))


def test_run(session: zl.Session) -> None:
    for _ in range(3):
        with pytest.raises(zl.DeadlineExceeded, match="deadline") as caught:
            session.run({"steps": FOREVER, "x": X}, deadline_ms=30)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.code == "deadline_exceeded"
        check_usable(session)


def test_binding(session: zl.Session) -> None:
    steps = np.array(3)
    binding = session.bind(steps=steps, x=X)
    for gil in ("auto", "hold", "release"):
        binding = session.bind(steps=steps, x=X, gil=gil)
        steps[...] = FOREVER
        with pytest.raises(zl.DeadlineExceeded):
            binding.run(deadline_ms=30)
        steps[...] = 5
        np.testing.assert_array_equal(binding()["y"], np.roll(X, 5, -1))
        np.testing.assert_array_equal(binding.run(deadline_ms=60000)["y"], np.roll(X, 5, -1))
        steps[...] = 3


def test_submit_and_arun(session: zl.Session) -> None:
    future = session.submit(FOREVER, X, deadline_ms=30)
    with pytest.raises(zl.DeadlineExceeded):
        future.result(timeout=60)
    assert not future.cancelled()
    assert isinstance(future.exception(timeout=60), zl.DeadlineExceeded)
    with pytest.raises(zl.DeadlineExceeded):
        asyncio.run(session.arun(FOREVER, X, deadline_ms=30))
    check_usable(session)


def test_submitted_behind_a_long_run(session: zl.Session) -> None:
    """The time in the queue counts."""
    blockers = [session.submit(FOREVER, X) for _ in range(8)]
    late = session.submit(np.array(1), X, deadline_ms=20)
    threading.Timer(0.2, lambda: [blocker.cancel() for blocker in blockers]).start()
    with pytest.raises(zl.DeadlineExceeded):
        late.result(timeout=60)
    for blocker in blockers:
        with pytest.raises(zl.Cancelled):
            blocker.result(timeout=60)


def test_a_deadline_that_is_kept_changes_nothing(session: zl.Session) -> None:
    for _ in range(200):
        y = session.run({"steps": np.array(1), "x": X}, deadline_ms=60000)["y"]
    np.testing.assert_array_equal(y, np.roll(X, 1, -1))


def test_each_run_has_its_own_deadline(session: zl.Session) -> None:
    """A deadline ends only its own run, not one beside it."""
    results: list[Any] = []
    other = threading.Thread(target=lambda: results.append(session(np.array(2000), X)))
    other.start()
    with pytest.raises(zl.DeadlineExceeded):
        session.run({"steps": FOREVER, "x": X}, deadline_ms=10)
    other.join()
    np.testing.assert_array_equal(results[0], np.roll(X, 2000, -1))


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), -float("inf")])
def test_bad_deadlines(session: zl.Session, deadline: float) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: session.run({"steps": FOREVER, "x": X}, deadline_ms=deadline),
        lambda: session.submit(FOREVER, X, deadline_ms=deadline),
        lambda: session.bind(x=X).run(deadline_ms=deadline),
    ]
    for call in calls:
        with pytest.raises(zl.InvalidArgument, match="deadline_ms") as caught:
            call()
        assert caught.value.subject == "deadline_ms"


def test_deadline_of_another_type(session: zl.Session) -> None:
    with pytest.raises(zl.InvalidArgument, match="'soon'"):
        session.run({"steps": FOREVER, "x": X}, deadline_ms="soon")  # type: ignore[arg-type]
    y = session.run({"steps": np.array(1), "x": X}, deadline_ms=float("inf"))["y"]
    np.testing.assert_array_equal(y, np.roll(X, 1, -1))
