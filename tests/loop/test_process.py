"""Loops and the whole process: exit, fork, other processes, GIL, heap memory, real-time rights."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from tests import child
from tests.python.messages import assert_three_parts

SETUP = """
import gc, os, sys, threading, time
import numpy as np
import zerolane as zl
from tests.loop import models
from tests.models import small

X = np.float32([[1, 2, 3]])
loop = zl.Loop(models.doubler().bind(), rate_hz=2000)
loop.start()
loop.inputs["x"].write(X)
loop.outputs["y"].read(timeout_s=120)

def hung(**options):
    session = zl.load(small.long_loop(8).SerializeToString(), threads=1)
    other = zl.Loop(session.bind(np.array(1), (8, 8)), trigger="x", **options)
    other.start()
    other.inputs["steps"].write(np.array(10**12))
    other.inputs["x"].write(np.ones((8, 8), np.float32))
    while not other.stats().running_ms:
        time.sleep(0.001)
    return other
"""
ENDINGS = {
    "a loop that runs": "",
    "a loop that runs in an attribute of a module": "sys.kept = loop; del loop",
    "a loop in a cycle": "loop.me = loop; del loop",
    "a run that hangs": "other = hung()",
    "a run that hangs, with a safe output": (
        "other = hung(deadline_ms=10, safe={'y': np.ones((8, 8), np.float32)})"
    ),
    "a callback": """
other = zl.Loop(models.doubler().bind(), rate_hz=5000, on_result=lambda r: r["y"].value.sum())
other.start()
other.inputs["x"].write(X)
other.outputs["y"].read(timeout_s=120)
""",
    "a callback that sleeps": """
other = zl.Loop(models.doubler().bind(), rate_hz=5000, on_result=lambda r: time.sleep(1000))
other.start()
other.inputs["x"].write(X)
other.outputs["y"].read(timeout_s=120)
""",
    "a thread that waits for a mailbox": """
box = zl.Mailbox.create(None, (1,))
threading.Thread(target=box.wait, args=(0,), daemon=True).start()
""",
    "many loops": """
many = [zl.Loop(models.doubler().bind(), rate_hz=1000) for _ in range(10)]
for other in many: other.start()
""",
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_a_clean_end(ending: str) -> None:
    assert child.run(SETUP + ending, flags=("-X", "faulthandler")) == ""


HELD_BY_A_THREAD = """
def keep(*objects):
    time.sleep(1000)
threading.Thread(target=keep, args=(box, loop), daemon=True).start()
"""


@pytest.mark.parametrize("hold", ["sys.kept = box", HELD_BY_A_THREAD])
def test_no_name_outlives_its_process(hold: str) -> None:
    """Also where objects are never destroyed, as those of a daemon thread at exit."""
    name = f"test-exit-{os.getpid()}"
    code = (
        SETUP
        + f"""
box = zl.Mailbox.create({name!r} + "/alone", (1,))
box.write([1.0])
{hold}
other = zl.Loop(models.doubler().bind(), rate_hz=1000, name={name!r})
other.me = other
other.start()
kept = other.outputs["y"].another()
kept.me = kept
"""
    )
    child.run(code)
    assert [file for file in os.listdir("/dev/shm") if name in file] == []


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_is_told_and_ends(leave: str) -> None:
    code = (
        SETUP
        + f"""
pid = os.fork()
if pid == 0:
    for call in (loop.start, lambda: loop.inputs["x"].write(X)):
        try:
            call()
        except zl.Unavailable as error:
            print(error, flush=True)
    assert not loop.running
    loop.close()
    assert loop.outputs["y"].read().value.tolist() == (2 * X).tolist()
    del loop
    gc.collect()
    mine = zl.Loop(models.doubler().bind(), trigger="x")
    with mine:
        mine.inputs["x"].write(3 * X)
        assert mine.outputs["y"].read(timeout_s=120).value.tolist() == (6 * X).tolist()
    {leave}
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
runs = loop.stats().runs
while loop.stats().runs < runs + 5: time.sleep(0.001)
loop.close()
"""
    )
    lines = child.run(code, flags=("-W", "ignore::DeprecationWarning")).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert "forked" in line
        assert_three_parts(line)


def test_another_process_reads_and_writes_a_loops_mailboxes() -> None:
    name = f"test-{os.getpid()}"
    code = """
    import sys
    import numpy as np
    import zerolane as zl
    x = zl.Mailbox.open(sys.argv[1] + "/x")
    y = zl.Mailbox.open(sys.argv[1] + "/y")
    for i in range(1, 200):
        x.write(np.full((1, 3), i, np.float32))
        assert y.wait(i - 1, 120)
        assert (y.read().value == 2 * i).all()
    print(y.read().sequence)
    """
    import zerolane as zl
    from tests.loop import models

    with zl.Loop(models.doubler().bind(), trigger="x", name=name) as loop:
        assert child.run(code, name).strip() == "199"
        assert loop.outputs["y"].latest == 199
        # The writer is gone, and its place is free.
        loop.inputs["x"].write([[1.0, 1.0, 1.0]])


def test_the_loop_goes_on_while_python_holds_the_interpreter() -> None:
    code = (
        SETUP
        + """
import ctypes
sleep = ctypes.PyDLL(None).usleep  # keeps the GIL
before = loop.stats().runs
while loop.stats().runs < before + 50:
    sleep(20000)
print("went on")
"""
    )
    assert child.run(code).strip() == "went on"


native = pytest.importorskip("bench.native", reason="bench/ holds the counting library")


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on PATH")
@pytest.mark.parametrize("safe", [False, True])
def test_ticks_take_no_heap_memory_of_their_own(safe: bool) -> None:
    """As many heap blocks a tick as bound calls of the model take, Python's included."""
    code = f"""
    import ctypes, json, time
    import numpy as np
    import zerolane as zl
    from tests.loop import models
    taken = ctypes.CDLL(None).allocations_taken
    taken.restype = ctypes.c_long
    binding = models.doubler().bind()
    def calls(count):
        for _ in range(count):
            binding()
    calls(1000)
    before = taken()
    calls(2000)
    a_call = (taken() - before) / 2000
    safe = {{"y": np.zeros((1, 3), np.float32)}} if {safe} else None
    loop = zl.Loop(binding, rate_hz=5000, safe=safe, deadline_ms=60000)
    loop.start()
    loop.inputs["x"].write(np.ones((1, 3), np.float32))
    # Asked by nobody: Python itself takes memory.
    usleep = ctypes.CDLL(None).usleep
    marks = []
    for count in (300, 300, 1500):
        usleep(count * 200)
        marks.append((taken(), loop.stats().runs))
    (a0, r0), (a1, r1), (a2, r2) = marks
    print(json.dumps([a_call, a1 - a0, r1 - r0, a2 - a1, r2 - r1]))
    """
    env = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    a_call, few, runs, more, more_runs = json.loads(child.run(code, env=env))
    assert more_runs > runs
    # What is taken beside the runs (by asking) is the same for both.
    assert (more - few) / (more_runs - runs) <= a_call + 0.01


LIMITED = """
import ctypes, logging, resource, sys
import zerolane as zl
from tests.loop import models
logging.basicConfig(format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
resource.setrlimit(resource.RLIMIT_MEMLOCK, (1 << 16, 1 << 16))
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
# Gives up the rights of root for good, if there are any: CAP_IPC_LOCK and CAP_SYS_NICE.
libc = ctypes.CDLL(None)
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
data = (ctypes.c_uint32 * 6)()
assert libc.capget(header, data) == 0
for i in (0, 1, 2):
    data[i] &= ~((1 << 14) | (1 << 23))
assert libc.capset(header, data) == 0
"""


def test_without_the_rights_it_warns_once_and_goes_on() -> None:
    code = (
        LIMITED
        + """
for _ in range(2):
    granted = zl.realtime(priority=80, lock_memory=True)
    assert set(granted.refused) == {"priority", "lock_memory"}, granted
    assert not granted.granted
loop = zl.Loop(models.doubler().bind(), rate_hz=1000, priority=80, lock_memory=True)
refused = loop.start().refused
assert set(refused) == {"priority", "lock_memory"}, refused
loop.inputs["x"].write([[1.0, 2.0, 3.0]])
assert loop.outputs["y"].read(timeout_s=120).value.tolist() == [[2, 4, 6]]
loop.close()
"""
    )
    lines = child.run(code).splitlines()
    assert len(lines) == 2
    assert all(line.startswith("zerolane.realtime WARNING") for line in lines)
    for word in ("limits.conf", "cap_sys_nice", "--cap-add=SYS_NICE", "RLIMIT_RTPRIO is 0"):
        assert word in lines[0]
    for word in ("memlock unlimited", "--cap-add=IPC_LOCK", "65536 bytes"):
        assert word in lines[1]


def test_the_cpus_that_were_asked_for() -> None:
    code = """
    import os
    import zerolane as zl
    last = max(os.sched_getaffinity(0))
    assert zl.realtime(cpus=[last]).granted
    assert os.sched_getaffinity(0) == {last}
    for cpus in ([-1], [8191], [10**6], [2**40], []):
        try:
            zl.realtime(cpus=cpus)
        except zl.InvalidArgument as error:
            print(error)
    """
    lines = child.run(code).splitlines()
    assert len(lines) == 5
    for line in lines:
        assert_three_parts(line)


def test_a_loops_thread_gets_what_was_granted() -> None:
    """Where the process may, all of it; else what was refused is told and the rest is done."""
    code = """
    import os
    import numpy as np
    import zerolane as zl
    from tests.loop import models
    last = max(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    safe = {"y": np.zeros((1, 3), np.float32)}
    loop = zl.Loop(models.doubler().bind(), rate_hz=100, cpus=[last], priority=10, safe=safe)
    refused = loop.start().refused
    tasks = {open(f"/proc/self/task/{t}/comm").read().strip(): int(t)
             for t in os.listdir("/proc/self/task")}
    def priority(task):
        policy = os.sched_getscheduler(task) & ~os.SCHED_RESET_ON_FORK
        return os.sched_getparam(task).sched_priority if policy == os.SCHED_FIFO else None
    assert os.sched_getaffinity(tasks["zl-loop"]) == {last}
    assert priority(tasks["zl-loop"]) == (None if "priority" in refused else 10)
    # The watcher stands above it, elsewhere. It sets itself up on its own time.
    while "priority" not in refused and priority(tasks["zl-loop-watch"]) != 11:
        pass
    assert os.sched_getaffinity(tasks["zl-loop-watch"]) == before
    assert os.sched_getaffinity(0) == before
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    loop.inputs["x"].write([[1.0, 2.0, 3.0]])
    loop.outputs["y"].read(timeout_s=120)
    loop.close()
    """
    process = child.start(code)
    out, err = process.communicate(timeout=child.PATIENCE_S)
    assert (process.returncode, out) == (0, ""), err
    assert err == "" or "priority was refused" in err


def test_locked_memory() -> None:
    code = """
    import zerolane as zl
    granted = zl.realtime(lock_memory=True)
    locked = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmLck"))
    assert (locked > 10_000) == granted.granted, (locked, granted)
    """
    process = child.start(code)
    out, err = process.communicate(timeout=child.PATIENCE_S)
    assert (process.returncode, out) == (0, ""), err
    assert err == "" or "lock_memory was refused" in err
