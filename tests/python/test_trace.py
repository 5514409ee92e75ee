"""`zl.trace`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402
from tests.models import small  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402

X = np.ones((1, 4), np.float32)


def read_strictly(path: Path) -> list[dict[str, Any]]:
    """The events, held against the rules of the Trace Event Format."""

    def no_constant(text: str) -> object:
        raise AssertionError(f"{text} is no JSON")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len({key for key, _ in pairs}) == len(pairs), f"a key twice in {pairs}"
        return dict(pairs)

    text = path.read_bytes().decode("utf-8")
    content = json.loads(text, parse_constant=no_constant, object_pairs_hook=once)
    events: list[dict[str, Any]] = content["traceEvents"]
    open_spans: dict[int, list[float]] = {}
    flows: dict[int, str] = {}
    last = 0
    named = {e["tid"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    for event in events:
        assert event["pid"] == os.getpid()
        assert event["tid"] in named
        if event["ph"] == "M":
            continue
        begin = round(event["ts"] * 1000)
        assert begin >= last, "times go back"
        last = begin
        row = open_spans.setdefault(event["tid"], [])
        while row and row[-1] <= begin:
            row.pop()
        if event["ph"] == "X":
            end = begin + round(event["dur"] * 1000)
            assert not row or end <= row[-1], "a span ends outside of the one around it"
            row.append(end)
        elif event["ph"] in "stf":
            flows[event["id"]] = flows.get(event["id"], "") + event["ph"]
        else:
            assert event["ph"] in "iC"
    for phases in flows.values():
        assert phases == "s" + "t" * (len(phases) - 2) + "f"
    return events


def spans(path: Path, name: str) -> list[dict[str, object]]:
    return [event for event in read_strictly(path) if event["name"] == name]


def test_loads_and_runs_are_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    with zl.trace(path):
        assert not path.exists()
        session = zl.load(small.relu().SerializeToString())
        for _ in range(3):
            session(X)
        session.bind()()
    session(X)
    # A binding runs once more when it is made, to size its outputs.
    assert len(spans(path, "run")) >= 4
    assert spans(path, "load")
    for event in spans(path, "run"):
        assert event["ph"] == "X"
        assert event["dur"] >= 0  # type: ignore[operator]
    assert [p.name for p in tmp_path.iterdir()] == ["t.json"]


def test_runs_of_threads_are_apart(tmp_path: Path) -> None:
    session = zl.load(small.relu().SerializeToString())
    with zl.trace(tmp_path / "t.json"):
        threads = [threading.Thread(target=session, args=(X,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(spans(tmp_path / "t.json", "run")) == 3
    names = {
        event["tid"]: event["args"]["name"]
        for event in read_strictly(tmp_path / "t.json")
        if event["name"] == "thread_name"
    }
    assert all(names[event["tid"]] for event in spans(tmp_path / "t.json", "run"))


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("old")
    with zl.trace(path):
        pass
    assert json.loads(path.read_text())["traceEvents"] == []


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with zl.trace(pipe):
            pass
        assert json.loads(os.read(reader, 1 << 16))["traceEvents"] == []
    finally:
        os.close(reader)
    assert pipe.is_fifo()


def test_nested_is_refused_and_the_outer_one_goes_on(tmp_path: Path) -> None:
    session = zl.load(small.relu().SerializeToString())
    inner = zl.trace(tmp_path / "inner.json")
    with zl.trace(tmp_path / "outer.json"):
        with pytest.raises(zl.InvalidArgument, match="already running") as caught:
            inner.__enter__()
        session(X)
    assert_three_parts(str(caught.value))
    assert len(spans(tmp_path / "outer.json", "run")) == 1
    assert not (tmp_path / "inner.json").exists()


def test_written_when_the_body_fails(tmp_path: Path) -> None:
    session = zl.load(small.relu().SerializeToString())

    def body() -> None:
        session(X)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), zl.trace(tmp_path / "t.json"):
        body()
    assert len(spans(tmp_path / "t.json", "run")) == 1
    with zl.trace(tmp_path / "again.json"):
        pass


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(zl.NotFound, match="no folder") as caught, zl.trace(tmp_path / "no" / "t"):
        pytest.fail("the body ran")
    assert_three_parts(str(caught.value))
    with zl.trace(tmp_path / "t.json"):
        pass


def test_odd_names_make_valid_json(tmp_path: Path) -> None:
    path = tmp_path / 'quote" and\nline \\ ü.onnx'
    onnx.save(small.relu(), path)
    with zl.trace(tmp_path / "t.json"):
        zl.load(path)(X)
    assert spans(tmp_path / "t.json", "run")


def test_threads_that_live_at_once_have_rows_of_their_own(tmp_path: Path) -> None:
    session = zl.load(small.relu().SerializeToString())
    meet = threading.Barrier(3)

    def work() -> None:
        meet.wait()
        session(X)
        meet.wait()

    with zl.trace(tmp_path / "t.json"):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len({event["tid"] for event in spans(tmp_path / "t.json", "run")}) == 3


def test_rows_have_the_names_that_python_gives_threads(tmp_path: Path) -> None:
    session = zl.load(small.relu().SerializeToString())
    done, over = threading.Event(), threading.Event()

    def work() -> None:
        session(X)
        done.set()
        over.wait(60)

    thread = threading.Thread(target=work, name='the "worker"')
    with zl.trace(tmp_path / "t.json"):
        thread.start()
        assert done.wait(60)
    over.set()
    thread.join()
    events = read_strictly(tmp_path / "t.json")
    rows = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    assert [rows[e["tid"]] for e in events if e["name"] == "run"] == ['the "worker"']


@pytest.mark.parametrize("most", [0, -1, 1.5, "many", None])
def test_a_wrong_number_of_events(tmp_path: Path, most: Any) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:  # noqa: SIM117
        with zl.trace(tmp_path / "t.json", max_events=most):
            pytest.fail("the body ran")
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_more_events_than_the_machine_has_memory(tmp_path: Path) -> None:
    with pytest.raises(zl.OutOfMemory) as caught:  # noqa: SIM117
        with zl.trace(tmp_path / "t.json", max_events=2**57):
            pytest.fail("the body ran")
    assert_three_parts(str(caught.value))
    with zl.trace(tmp_path / "t.json"):
        pass


def test_what_does_not_fit_is_counted(tmp_path: Path) -> None:
    binding = zl.load(small.relu().SerializeToString()).bind()
    with zl.trace(tmp_path / "t.json", max_events=1):
        for _ in range(1000):
            binding()
    kept = len(spans(tmp_path / "t.json", "run"))
    dropped = int(json.loads((tmp_path / "t.json").read_text())["otherData"]["dropped"])
    assert 1 <= kept < 1000
    assert kept + dropped == 1000


def test_a_large_trace(tmp_path: Path) -> None:
    """Several pieces of a megabyte, whose borders cut nothing."""
    binding = zl.load(small.relu().SerializeToString()).bind()
    with zl.trace(tmp_path / "t.json"):
        for _ in range(30_011):
            binding()
    assert (tmp_path / "t.json").stat().st_size > 3 << 20
    assert len(spans(tmp_path / "t.json", "run")) == 30_011


def test_times_are_those_of_the_monotonic_clock(tmp_path: Path) -> None:
    import time

    session = zl.load(small.relu().SerializeToString())
    with zl.trace(tmp_path / "t.json"):
        before = time.monotonic_ns()
        session(X)
        after = time.monotonic_ns()
    (run,) = spans(tmp_path / "t.json", "run")
    begin = round(run["ts"] * 1000)  # type: ignore[operator]
    assert before <= begin <= begin + round(run["dur"] * 1000) <= after  # type: ignore[operator]


def test_a_child_leaves_its_parents_trace_alone(tmp_path: Path) -> None:
    """It leaves the block too, as a process that forks in the middle of it does."""
    code = """
    import os, sys
    from pathlib import Path
    import zerolane as zl
    outer, inner = Path(sys.argv[1]), Path(sys.argv[2])
    model = Path(sys.argv[3]).read_bytes()
    import numpy as np
    x = np.ones((1, 4), np.float32)
    with zl.trace(outer):
        session = zl.load(model)
        session(x)
        child = os.fork()
        if child == 0:
            with zl.trace(inner):
                zl.load(model)(x)
    if child == 0:
        os._exit(0)
    print(os.getpid())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    model = tmp_path / "m.onnx"
    onnx.save(small.relu(), model)
    parent = int(child.run(code, tmp_path / "outer.json", tmp_path / "inner.json", model))
    for name in ("outer.json", "inner.json"):
        events = json.loads((tmp_path / name).read_text())["traceEvents"]
        assert [e["name"] for e in events if e["ph"] == "X"].count("run") == 1
        assert {e["pid"] == parent for e in events} == {name == "outer.json"}


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ on PATH")
def test_recording_off_is_one_branch(tmp_path: Path) -> None:
    """The compiled code: a load, a test and a jump that is not taken."""
    root = Path(__file__).parents[2]
    source = tmp_path / "off.cpp"
    source.write_text(
        textwrap.dedent("""
        #include "core/trace.h"
        using namespace zerolane;
        extern trace::Track& track;
        extern "C" void counter() { trace::counter(track, "depth", 1); }
        extern "C" void instant() { trace::instant(track, "miss"); }
        extern "C" void step(uint64_t request) { trace::step(request); }
        extern "C" void span(int64_t a, int64_t b) { trace::span(track, "queue", a, b); }
        """)
    )
    command = ["g++", "-std=c++20", "-O2", "-fvisibility=hidden", f"-I{root / 'cpp'}", "-S", "-o-"]
    done = subprocess.run([*command, source], capture_output=True, text=True, check=True)
    for name in ("counter", "instant", "step", "span"):
        body = re.search(rf"^{name}:$(.*?)^\s+ret", done.stdout, re.MULTILINE | re.DOTALL)
        assert body is not None, f"{name} does not return on the path that is off"
        code = [line.strip() for line in body[1].splitlines() if re.match(r"\s+[a-z]", line)]
        assert len(code) == 3, code
        assert code[-1].startswith(("jne", "cbnz", "tbnz")), code
