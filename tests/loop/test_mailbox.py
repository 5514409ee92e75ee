"""Mailboxes from Python: one writer, the newest message, other processes, hostile memory."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.python.messages import assert_three_parts
from zerolane.loop.mailbox import Reading


def own_name(part: str) -> str:
    return f"test-{os.getpid()}/{part}"


def test_the_newest_message_and_what_is_known_of_it() -> None:
    box = zl.Mailbox.create(None, (2, 3), "float32")
    reader = box.another()
    assert (box.name, box.shape, box.dtype, box.latest) == (None, (2, 3), "float32", 0)
    first = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert box.write(first) == 1
    assert box.write(first + 1) == 2
    reading = reader.read()
    value, age_ms = reading
    np.testing.assert_array_equal(value, first + 1)
    assert age_ms >= 0
    assert (reading.sequence, reading.new, reading.safe) == (2, True, False)
    assert reader.stale_reads == 0
    assert not reader.read().new
    assert (reader.stale_reads, box.stale_reads) == (1, 0)
    assert box.read().new  # each object has its own place
    box.write(first.tolist())
    again = reader.read()
    assert again.new
    assert again.sequence == 3
    np.testing.assert_array_equal(again.value, first)
    value[:] = 9  # the caller's own
    np.testing.assert_array_equal(reader.read().value, first)


def test_reading_into_an_array() -> None:
    box = zl.Mailbox.create(None, (5,), np.uint8)
    box.write(np.arange(5, dtype=np.uint8))
    out = np.zeros(5, np.uint8)
    assert box.read(out).value is out
    assert out.tolist() == [0, 1, 2, 3, 4]
    wrong: list[Any] = [np.zeros(4, np.uint8), np.zeros(5, np.int8), np.zeros(10, np.uint8)[::2]]
    out.flags.writeable = False
    for array in (*wrong, out):
        with pytest.raises(zl.InvalidArgument) as caught:
            box.read(array)
        assert_three_parts(str(caught.value))


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(3, np.float64),
        np.zeros((1, 3), np.float32),
        np.zeros(4, np.float32),
        np.zeros(3, ">f4").astype(object),
        "text",
        None,
    ],
    ids=lambda a: repr(a)[:20],
)
def test_what_does_not_fit_is_refused(array: Any) -> None:
    box = zl.Mailbox.create(None, (3,))
    with pytest.raises((zl.InvalidArgument, zl.Unsupported)) as caught:
        box.write(array)
    assert_three_parts(str(caught.value))
    assert box.latest == 0
    box.write(np.zeros((6,), np.float32)[::2])  # layout alone is no reason


def test_names_and_types_that_cannot_be() -> None:
    for name in ("", "x" * 201, "\N{SNOWMAN}" * 80):
        with pytest.raises(zl.InvalidArgument) as caught:
            zl.Mailbox.create(name, (1,))
        assert_three_parts(str(caught.value))
    for dtype in ("floaty", object, str, "int4"):
        with pytest.raises((zl.InvalidArgument, zl.Unsupported)):
            zl.Mailbox.create(None, (1,), dtype)
    with pytest.raises(zl.OutOfMemory):
        zl.Mailbox.create(None, (2**40, 2**40))
    with pytest.raises(zl.InvalidArgument):
        zl.Mailbox.create(None, (-1,))
    with pytest.raises(zl.NotFound) as missing:
        zl.Mailbox.open(own_name("missing"))
    assert_three_parts(str(missing.value))
    with pytest.raises(TypeError):
        zl.Mailbox()


def test_nothing_written_is_an_error_in_time() -> None:
    box = zl.Mailbox.create(None, (1,))
    with pytest.raises(zl.DeadlineExceeded) as caught:
        box.read(timeout_s=0.01)
    assert_three_parts(str(caught.value))
    for nothing in (0.001, 0, -1, float("nan"), -float("inf")):
        assert not box.wait(0, nothing)
    reader = box.another()
    thread = threading.Thread(target=box.write, args=([1.0],))
    thread.start()
    assert reader.read(timeout_s=60).value == [1]  # waits for the first
    thread.join()


def test_one_writer_and_the_next_after_it() -> None:
    name = own_name("writers")
    maker = zl.Mailbox.create(name, (1,))
    with pytest.raises(zl.InvalidArgument, match="a living process"):
        zl.Mailbox.create(name, (1,))
    other = zl.Mailbox.open(name)
    other.write([1.0])
    with pytest.raises(zl.InvalidArgument, match="has a writer") as caught:
        maker.write([2.0])
    assert_three_parts(str(caught.value))
    del other
    gc.collect()
    assert maker.write([3.0]) == 2
    assert not maker.orphaned


def test_a_writer_process_that_is_killed() -> None:
    name = own_name("killed")
    box = zl.Mailbox.create(name, (1000,), "int64")
    code = """
    import sys
    import numpy as np
    import zerolane as zl
    box = zl.Mailbox.open(sys.argv[1])
    n = 0
    while True:
        n += 1
        box.write(np.full(1000, n))
    """
    process = child.start(code, name)
    assert box.wait(100, child.PATIENCE_S)
    child.kill(process)
    value = box.read().value
    assert (value == value[0]).all()
    assert value[0] == box.latest
    box.write(np.zeros(1000, np.int64))  # its place is free
    assert not box.orphaned


def test_a_maker_process_that_is_killed() -> None:
    name = own_name("maker")
    code = """
    import sys
    import zerolane as zl
    box = zl.Mailbox.create(sys.argv[1], (2,))
    box.write([1, 2])
    print("ready", flush=True)
    sys.stdin.read()
    import time
    time.sleep(1000)
    """
    process = child.start(code, name)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    box = zl.Mailbox.open(name)
    assert not box.orphaned
    child.kill(process)
    assert box.orphaned
    assert box.read().value.tolist() == [1, 2]
    assert zl.Mailbox.create(name, (3,)).shape == (3,)  # the name is free


def test_a_forked_child_reads_and_does_not_write() -> None:
    code = """
    import os
    import zerolane as zl
    box = zl.Mailbox.create(None, (1,))
    box.write([4.0])
    has_read, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        assert box.read().value == [4]
        os.write(tell, b"x")
        try:
            box.write([5.0])
        except zl.Unavailable as error:
            print(error, flush=True)
        assert box.wait(1, 120)
        assert box.read().value == [6]
        os._exit(0)
    os.read(has_read, 1)
    box.write([6.0])
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    said = child.run(code, flags=("-W", "ignore::DeprecationWarning"))
    assert_three_parts(said.strip())


def test_a_reading_is_a_pair_that_pickles() -> None:
    reading = Reading(1, 2.5, 3, True, False)
    copy = pickle.loads(pickle.dumps(reading))
    assert copy == (1, 2.5)
    assert (copy.sequence, copy.new, copy.safe) == (3, True, False)
    assert "sequence=3" in repr(copy)
