"""When a run keeps the GIL and when it gives it away."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

X = np.random.default_rng(0).standard_normal((128, 128), np.float32)
STEPS = np.array(3000)  # a fraction of a second


@pytest.fixture(scope="module")
def loop() -> zl.Session:
    return zl.load(small.long_loop(128).SerializeToString(), threads=1)


def progress_beside(call: Callable[[], Any]) -> int:
    """How often another Python thread gets a turn while `call` runs."""
    ready, stop = threading.Event(), threading.Event()
    ticks = [0]

    def count() -> None:
        ready.set()
        while not stop.is_set():
            ticks[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    ready.wait()
    before = ticks[0]
    call()
    after = ticks[0]
    stop.set()
    thread.join()
    return after - before


def forms(session: zl.Session, gil: str | None = None) -> dict[str, Callable[[], Any]]:
    inputs = {"steps": STEPS, "x": X}
    binding = session.bind(STEPS, X, gil=gil)
    return {
        "call": lambda: session(STEPS, X),
        "run": lambda: session.run(inputs),
        "deadline": lambda: session.run(inputs, deadline_ms=60000),
        "binding": binding,
        "binding with deadline": lambda: binding.run(deadline_ms=60000),
        "future": lambda: session.submit(STEPS, X).result(),
    }


@pytest.mark.parametrize("form", ["call", "run", "deadline", "binding", "future"])
@pytest.mark.parametrize("gil", ["auto", "release"])
def test_other_threads_progress_during_a_long_run(gil: str, form: str) -> None:
    session = zl.load(small.long_loop(128).SerializeToString(), threads=1, gil=gil)
    # Thousands of turns if the GIL is free; a few at the edges of the call if it is not.
    assert progress_beside(forms(session)[form]) > 1000


@pytest.mark.parametrize("form", ["call", "run", "deadline", "binding", "binding with deadline"])
def test_hold_keeps_it(form: str) -> None:
    """The counter's only turns are those between the call's edges and the run."""
    held = zl.load(small.long_loop(128).SerializeToString(), threads=1, gil="hold")
    free = zl.load(small.long_loop(128).SerializeToString(), threads=1, gil="release")
    few = progress_beside(forms(held)[form])
    many = progress_beside(forms(free)[form])
    assert few * 3 < many


def test_auto_becomes_hold_for_short_runs() -> None:
    session = zl.load(small.relu().SerializeToString())
    binding = session.bind()
    assert binding.gil == "release"
    for _ in range(1000):
        binding()
        if binding.gil == "hold":
            break
    assert binding.gil == "hold"
    x = np.zeros((1, 4), np.float32)
    for _ in range(1000):
        session(x)
        if session.latency()["gil"] == "hold":
            break
    assert session.latency()["gil"] == "hold"


def test_auto_stays_release_for_long_runs(loop: zl.Session) -> None:
    binding = loop.bind(np.array(100), X)
    for _ in range(30):
        binding()
    assert binding.gil == "release"


def test_auto_returns_to_release_when_runs_become_long(loop: zl.Session) -> None:
    steps = np.array(0)
    binding = loop.bind(steps, X)
    for _ in range(2000):
        binding()
        if binding.gil == "hold":
            break
    assert binding.gil == "hold"
    steps[...] = 50
    for _ in range(200):
        binding()
        if binding.gil == "release":
            break
    assert binding.gil == "release"


def test_forced_choices_do_not_change(loop: zl.Session) -> None:
    tiny = zl.load(small.relu().SerializeToString()).bind(gil="release")
    long = loop.bind(np.array(50), X, gil="hold")
    for _ in range(40):
        tiny()
        long()
    assert (tiny.gil, long.gil) == ("release", "hold")


def test_loading_gives_it_away() -> None:
    from tests.models import large

    model = large.text_embed().SerializeToString()
    assert progress_beside(lambda: zl.load(model)) > 1000
