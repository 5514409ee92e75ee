"""Models and inputs that end the process in onnxruntime end in an error, or a right result, here.

Workers run the rows of `fatal_cases`, as they are and inside an If, a Loop and a function. One that
dies or stands still shows which row did it, and the next worker goes on behind that row.
"""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import IO

import pytest

from tests import child
from tests.models.fatal_cases import CASES, Built, Case, in_function, in_if, in_loop

PLACEMENTS: dict[str, Callable[[Built], Built]] = {
    "plain": lambda built: built,
    "in_if": in_if,
    "in_loop": in_loop,
    "in_function": in_function,
}

# Rows that still end the process: "case/placement", and why.
KNOWN_FATAL: dict[str, str] = {}

WORKER = """
    import json
    import os
    import sys

    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody reads it
    import numpy as np
    import zerolane as zl

    from tests.boundary.test_fatal_calls import PLACEMENTS
    from tests.models.fatal_cases import CASES

    def wanted(built):
        # What the model means: onnxruntime without rewriting, which survives the fused rows.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            session = onnxruntime.InferenceSession(
                built.model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
            return session.run(None, built.inputs)
        except Exception as error:
            return str(error)

    def outcome(case, placement):
        built = PLACEMENTS[placement](case.build())
        try:
            session = zl.load(built.model.SerializeToString())
            results = session.run(built.inputs)
        except zl.Error as error:
            return {"error": type(error).__name__, "text": str(error)}
        if not case.needs_fusion:
            return {"shapes": {k: list(v.shape) for k, v in results.items()}}
        expected = wanted(built)
        if isinstance(expected, str):
            return {"wrong": f"a result where onnxruntime says {expected}"}
        for ours, theirs in zip(results.values(), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        return {"right": True}

    by_name = {case.name: case for case in CASES}
    for row in sys.argv[1:]:
        name, placement = row.split("/")
        print(row, flush=True)
        try:
            told = outcome(by_name[name], placement)
        except Exception as error:
            told = {"wrong": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)
"""


def _lines(stream: IO[str]) -> queue.Queue[str | None]:
    """The lines of a pipe as they come; None at its end, where it is closed."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        with stream:
            for line in stream:
                lines.put(line.strip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _run_worker(rows: list[str], outcomes: dict[str, dict[str, object]]) -> None:
    """Fills in the outcomes of the first rows: all of them, or up to one that ends the worker."""
    process = child.start(WORKER, *rows)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stderr.close()
    lines = _lines(process.stdout)
    try:
        for row in rows:
            try:
                started = lines.get(timeout=child.PATIENCE_S)
                assert started in (row, None), f"{started!r}, expected {row!r}"
                told = lines.get(timeout=child.PATIENCE_S) if started else None
            except queue.Empty:
                outcomes[row] = {"fatal": f"stood still for {child.PATIENCE_S} s"}
                return
            if told is None:
                outcomes[row] = {"fatal": f"ended with {process.wait(child.PATIENCE_S)}"}
                return
            outcomes[row] = json.loads(told)
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[str, object]]:
    pytest.importorskip("onnxruntime")
    rows = [f"{case.name}/{placement}" for case in CASES for placement in PLACEMENTS]
    found: dict[str, dict[str, object]] = {}
    while left := [row for row in rows if row not in found]:
        _run_worker(left, found)
    return found


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_process_lives_on(
    case: Case, placement: str, outcomes: dict[str, dict[str, object]]
) -> None:
    row = f"{case.name}/{placement}"
    told = outcomes[row]
    if row in KNOWN_FATAL:
        assert "fatal" in told, f"no longer fatal: {told}; take it out of KNOWN_FATAL"
        return
    assert "fatal" not in told, f"{case.op}, {case.trigger}: {told}"
    assert "wrong" not in told, told
    if "error" in told:
        assert told["error"] != "InternalError", told
        return
    # The kernel itself does not survive it, so there is no result that could be right.
    assert case.needs_fusion, f"{case.op}, {case.trigger}: gave {told}, expected an error"


def test_the_table_of_known_rows_is_about_real_rows() -> None:
    rows = {f"{case.name}/{placement}" for case in CASES for placement in PLACEMENTS}
    assert set(KNOWN_FATAL) <= rows
    assert all(KNOWN_FATAL.values())
