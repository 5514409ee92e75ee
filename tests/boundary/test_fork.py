"""A forked child is told so in one plain sentence, can load anew, and always ends."""

from __future__ import annotations

import pytest

from tests import child

SETUP = """
import os, sys
import numpy as np
import zerolane as zl
from tests.models import small

x = np.array([[-1, 0, 1, 2]], np.float32)
session = zl.load(small.relu().SerializeToString(){options})
binding = session.bind()
binding()
future = session.submit(x)
future.result()

def in_child(body):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            body()
            code = 0
        finally:
            sys.stdout.flush()
            {leave}
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def refused(call):
    try:
        call()
    except zl.Unavailable as error:
        print(error)
"""

LEAVE = {
    "at once": "os._exit(code)",
    "as usual": "sys.exit(code)",
}
# Python warns of fork() in a process with threads, which is what this is about.
FLAGS = ("-W", "ignore::DeprecationWarning")


def run(body: str, leave: str = "os._exit(code)", options: str = "") -> list[str]:
    code = SETUP.replace("{leave}", leave).replace("{options}", options) + body
    return child.run(code, flags=FLAGS).splitlines()


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
def test_every_use_is_refused_in_one_sentence(leave: str) -> None:
    lines = run(
        """
def body():
    refused(lambda: session(x))
    refused(lambda: session.run({"x": x}))
    refused(lambda: session.bind())
    refused(lambda: session.submit(x))
    refused(lambda: binding())
    refused(lambda: binding.run(deadline_ms=100))
in_child(body)
assert session(x).tolist() == [[0, 0, 1, 2]]
print("parent lives")
""",
        leave,
    )
    assert lines[-1] == "parent lives"
    assert len(lines) == 7
    for line in lines[:-1]:
        assert "forked" in line
        assert "load the model in the child" in line


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
@pytest.mark.parametrize("options", ["", ", threads=2"])
def test_a_child_that_touches_nothing_ends(leave: str, options: str) -> None:
    assert run("in_child(lambda: None)\nprint('done')", leave, options) == ["done"]


@pytest.mark.parametrize("options", ["", ", threads=2"])
def test_a_child_that_drops_everything_ends(options: str) -> None:
    body = """
import gc
def body():
    global session, binding, future
    session = binding = future = None
    gc.collect()
in_child(body)
print('done')
"""
    assert run(body, "sys.exit(code)", options) == ["done"]


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE.keys())
@pytest.mark.parametrize("options", ["", ", threads=2"])
def test_loading_anew_in_the_child_works(leave: str, options: str) -> None:
    lines = run(
        """
def body():
    again = zl.load(small.relu().SerializeToString(), threads=1)
    print(again(x).tolist())
    shared = zl.load(small.matmul_chain(2, 256).SerializeToString())
    big = np.ones((300, 256), np.float32)
    print(shared(big).sum())
    bound = again.bind()
    bound.inputs["x"][...] = x
    print(bound()["y"].tolist())
    print(again.submit(x).result(30).tolist())
    import asyncio
    print(asyncio.run(again.arun(x)).tolist())
    try:
        zl.load(small.long_loop(64).SerializeToString()).run(
            {"steps": np.array(10**9), "x": np.ones((64, 64), np.float32)}, deadline_ms=30)
    except zl.DeadlineExceeded:
        print("deadline")
in_child(body)
""",
        leave,
        options,
    )
    good = "[[0.0, 0.0, 1.0, 2.0]]"
    assert lines == [good, "76800.0", good, good, good, "deadline"]


def test_a_fork_before_the_first_load() -> None:
    code = """
    import os, sys
    import numpy as np
    import zerolane as zl
    from zerolane import _native
    from tests.models import small
    pid = os.fork()
    session = zl.load(small.relu().SerializeToString())
    os.write(1, b"%.1f\\n" % session(np.ones((1, 4), np.float32)).sum())
    if pid:
        assert os.waitpid(pid, 0)[1] == 0
    """
    assert child.run(code, flags=FLAGS).split() == ["4.0", "4.0"]


def test_a_child_of_a_child() -> None:
    body = """
def inner():
    session = zl.load(small.relu().SerializeToString(), threads=1)
    in_child(lambda: refused(lambda: session(x)))
    print(session(x).sum())
in_child(inner)
print(session(x).sum())
"""
    lines = run(body)
    assert "forked" in lines[0]
    assert lines[1:] == ["3.0", "3.0"]


def test_multiprocessing_with_fork_and_spawn() -> None:
    code = """
    import multiprocessing, sys
    import numpy as np
    import zerolane as zl
    from tests.models import small
    session = zl.load(small.relu().SerializeToString())
    x = np.array([[-1, 0, 1, 2]], np.float32)
    session(x)
    if __name__ == "__main__":
        with multiprocessing.get_context("fork").Pool(2) as pool:
            try:
                pool.apply(session, (x,))
            except zl.Unavailable as error:
                print("refused", "forked" in str(error))
            else:
                print("pickled anew")
    """
    # A session sent to a worker is pickled as its recipe and loaded there, so that it works.
    assert child.run(code, flags=FLAGS).strip() in ("pickled anew", "refused True")
