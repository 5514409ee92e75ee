"""`zl.trace`."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests.models import small  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402

X = np.ones((1, 4), np.float32)


def spans(path: Path, name: str) -> list[dict[str, object]]:
    events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event["name"] == name]


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
    assert len({event["tid"] for event in spans(tmp_path / "t.json", "run")}) >= 1
    assert len(spans(tmp_path / "t.json", "run")) == 3


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
