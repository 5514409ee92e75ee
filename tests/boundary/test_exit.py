"""Processes end cleanly whatever is alive or under way, and say nothing while they do."""

from __future__ import annotations

import pytest

from tests import child

SETUP = """
import asyncio, atexit, gc, sys, threading
import numpy as np
import zerolane as zl
from zerolane import _native
from tests.models import small

x = np.random.default_rng(0).standard_normal((64, 64), np.float32)
session = zl.load(small.long_loop(64).SerializeToString())
forever, once = np.array(10**9), np.array(1)
"""

ENDINGS = {
    "live objects": "binding = session.bind(once, x); y = binding(); f = session.submit(once, x)",
    "a finished future": "f = session.submit(once, x); f.result()",
    "a running future": "f = session.submit(forever, x)",
    "a running future that nobody holds": "session.submit(forever, x)",
    "many waiting futures": "fs = [session.submit(forever, x) for _ in range(100)]",
    "waiting futures that nobody holds": "for _ in range(100): session.submit(forever, x)",
    "a future with a deadline": "f = session.submit(forever, x, deadline_ms=600000)",
    "an event loop left open": """
loop = asyncio.new_event_loop()
async def main():
    asyncio.ensure_future(session.arun(forever, x))
    await asyncio.sleep(0.01)
loop.run_until_complete(main())
import warnings; warnings.simplefilter("ignore")
for task in asyncio.all_tasks(loop): task.cancel()
loop.run_until_complete(asyncio.sleep(0.01))
loop.close()
""",
    "a thread in a run": """
thread = threading.Thread(target=lambda: session.run({"steps": np.array(3000), "x": x}))
thread.start()
""",
    "a daemon thread in a run": """
thread = threading.Thread(target=lambda: session(forever, x), daemon=True)
thread.start()
import time; time.sleep(0.05)
""",
    "a call in an exit handler": """
@atexit.register
def last():
    assert (session(once, x) == np.roll(x, 1, -1)).all()
""",
    "a submitted call in an exit handler": """
@atexit.register
def last():
    try:
        session.submit(once, x).result(10)
    except zl.Error:
        pass
""",
    "a global that is torn down late": """
class Late:
    def __init__(self): self.binding = session.bind(once, x)
    def __del__(self): self.binding()
late = Late()
""",
    "an attribute of a module": "sys.kept = session.bind(once, x); sys.kept()",
    "a log handler": """
import logging
logging.basicConfig(level=1, stream=open("/dev/null", "w"))
other = zl.load(small.relu().SerializeToString(), log_level="verbose")
""",
    "an error": """
try:
    session(1)
except zl.Error as error:
    kept = error
""",
    "a native tensor": "t = _native.empty([1000], 'float32'); a = np.from_dlpack(t)",
    "nothing loaded": "del session",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_clean_end(ending: str) -> None:
    assert child.run(SETUP + ending, flags=("-X", "faulthandler")) == ""


def test_an_exit_code_is_kept() -> None:
    process = child.start(SETUP + "f = session.submit(forever, x)\nsys.exit(7)")
    out, err = process.communicate(timeout=child.PATIENCE_S)
    assert (process.returncode, out, err) == (7, "", "")


def test_nothing_is_alive_when_all_is_dropped() -> None:
    code = (
        SETUP
        + """
def use():
    s = zl.load(small.dynamic_dims().SerializeToString())
    v = np.ones((3, 4, 3), np.float32)
    b = s.bind(x=(2, 2, 3))
    b()
    results = [s(v), s.run({"x": v})["y"], s.submit(v).result(30), b.outputs["y"]]
    [s.submit(v) for _ in range(20)]
    f = session.submit(forever, x)
    f.cancel()
    try:
        session.run({"steps": forever, "x": x}, deadline_ms=10)
    except zl.DeadlineExceeded:
        pass
    try:
        s(np.zeros(3))
    except zl.Error:
        pass
    asyncio.run(s.arun(v))
    strings = zl.load(small.identity("string").SerializeToString())
    strings(["a"])
    zl.load(small.sequence_output().SerializeToString())(np.ones((2, 2), np.float32))
    zl.load(small.map_output().SerializeToString())(np.ones((2, 3), np.float32))
    np.from_dlpack(_native.empty([1000], "float32"))

use()
del session
gc.collect()
import time
end = time.monotonic() + 10
while any(_native.live_objects().values()) and time.monotonic() < end:
    time.sleep(0.01)  # workers let go of the last jobs
    gc.collect()
print(_native.live_objects())
"""
    )
    alive = eval(child.run(code))
    assert set(alive) == {"sessions", "contexts", "bindings", "futures", "buffers"}
    assert alive == dict.fromkeys(alive, 0)


def test_an_interpreter_that_never_loads_opens_nothing() -> None:
    code = """
    import zerolane
    maps = open("/proc/self/maps").read()
    print("libonnxruntime" in maps, "_native" in maps)
    """
    assert child.run(code).split()[0] == "False"
