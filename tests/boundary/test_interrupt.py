"""Ctrl-C during a long run."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests import child

SETUP = """
import signal, sys, threading, time
import numpy as np
import zerolane as zl
from tests.models import small

x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
session = zl.load(small.long_loop(64).SerializeToString(), threads=1{options})
forever, once = np.array(10**9), np.array(1)
steps = np.array(1)
binding = session.bind(steps, x)

def usable():
    assert (session(once, x) == np.roll(x, 1, -1)).all()
    steps[...] = 2
    assert (binding()["y"] == np.roll(x, 2, -1)).all()

def ready():
    print("ready", flush=True)
"""

RUNS = {
    "call": "session(forever, x)",
    "run": "session.run({'steps': forever, 'x': x})",
    "deadline": "session.run({'steps': forever, 'x': x}, deadline_ms=600000)",
    "binding": "steps[...] = forever; binding()",
    "binding with deadline": "steps[...] = forever; binding.run(deadline_ms=600000)",
    "future": "session.submit(forever, x).result()",
    "future with timeout": "session.submit(forever, x).result(timeout=600)",
}


def interrupted(code: str, interrupts: int = 1) -> subprocess.CompletedProcess[str]:
    """Runs `code`, and once it has said that it is ready sends SIGINT every now and then."""
    process = child.start(code)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(interrupts):
            time.sleep(0.2)  # into the run; a signal that comes before it is good as well
            process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        out, err = child.kill(process)
        raise AssertionError(f"Ctrl-C did not end it; {out!r}; {err!r}") from None
    return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS.keys())
def test_it_raises_and_the_session_stays_usable(run: str) -> None:
    code = (
        SETUP.replace("{options}", "")
        + f"""
try:
    ready()
    {run}
except KeyboardInterrupt:
    print("interrupted")
usable()
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_unhandled_it_ends_the_process_as_usual() -> None:
    done = interrupted(SETUP.replace("{options}", "") + "ready(); session(forever, x)")
    assert done.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in done.stderr


@pytest.mark.parametrize("form", ["session(many, x)", "bound()['y']"])
def test_a_handler_that_raises_nothing_lets_the_run_finish(form: str) -> None:
    code = (
        SETUP.replace("{options}", "")
        + f"""
calls = []
signal.signal(signal.SIGINT, lambda *_: calls.append(1))
many = np.array(20000)
bound = session.bind(once, x)
bound = session.bind(many, x) if "bound" in {form!r} else bound
ready()
y = {form}
assert (y == np.roll(x, 20000, -1)).all()
while not calls:
    time.sleep(0.01)
print("finished")
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")


def test_a_handler_that_raises_something_else() -> None:
    code = (
        SETUP.replace("{options}", "")
        + """
class Mine(Exception): pass
def handler(*_): raise Mine
signal.signal(signal.SIGINT, handler)
try:
    ready()
    session(forever, x)
except Mine:
    print("mine")
usable()
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


def test_ignored_it_is_ignored() -> None:
    code = (
        SETUP.replace("{options}", "")
        + """
signal.signal(signal.SIGINT, signal.SIG_IGN)
ready()
time.sleep(0.5)
try:
    session.run({'steps': forever, 'x': x}, deadline_ms=500)
except zl.DeadlineExceeded:
    print("deadline")
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "deadline\n", "")


def test_by_default_of_the_system_it_kills() -> None:
    code = (
        SETUP.replace("{options}", "")
        + """
signal.signal(signal.SIGINT, signal.SIG_DFL)
ready()
session(forever, x)
"""
    )
    assert interrupted(code).returncode == -signal.SIGINT


def test_a_run_in_another_thread_goes_on() -> None:
    code = (
        SETUP.replace("{options}", "")
        + """
results = []
many = np.array(20000)
thread = threading.Thread(target=lambda: results.append(session(many, x)))
thread.start()
try:
    ready()
    while True:
        time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted")
thread.join()
assert (results[0] == np.roll(x, 20000, -1)).all()
usable()
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_awaited() -> None:
    code = (
        SETUP.replace("{options}", "")
        + """
import asyncio
async def main():
    ready()
    await session.arun(forever, x)
try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
usable()
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")


def test_between_short_runs() -> None:
    """A loop of calls that keep the GIL ends too, and Python's own handler is still in place."""
    code = (
        SETUP.replace("{options}", "")
        + """
handler = signal.getsignal(signal.SIGINT)
short = zl.load(small.relu().SerializeToString()).bind()
try:
    ready()
    while True:
        short()
        session(once, x)
except KeyboardInterrupt:
    print("interrupted")
assert signal.getsignal(signal.SIGINT) is handler
usable()
"""
    )
    done = interrupted(code)
    assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", "")
