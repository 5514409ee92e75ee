# SPDX-License-Identifier: Apache-2.0
"""What `zl.trace` costs: a bound call with a trace running and without, and writing the file.

A bound call makes one span, which is one event. Times are differences of neighbouring blocks;
heap blocks are counted as in bench_instructions. That recording off is one branch is checked on the
compiled code (tests/python/test_trace.py).
"""

from __future__ import annotations

import json
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np

import zerolane as zl
from bench import models, native, settings
from bench.python.bench_instructions import Failed, run_child
from bench.results import Check, Report, Series
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import summarize
from bench.timing import Plan, calls_per_batch, measure_batches

NAME = "trace"
TITLE = "zl.trace: cost of a span on and off, and of the file"
EVENTS = 20_000_000


def call_times(report: Report, call: Callable[[], object], options: Settings) -> None:
    """Blocks with a trace and without, in turn."""
    progress(f"{NAME}: bound calls with and without a trace")
    plan = Plan.of(options.quick)
    form = Form("bound", dict, call)
    calls = calls_per_batch(form, plan)
    blocks: dict[str, list[float]] = {"off": [], "on": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(plan.rounds):
            for state, times in blocks.items():
                with ExitStack() as stack:
                    if state == "on":
                        stack.enter_context(zl.trace(Path(folder) / "t.json", max_events=EVENTS))
                    _refill, *block = measure_batches(form, plan.batches + 1, calls)
                times.append(float(np.median(block)) / calls)
    added = summarize(np.asarray(blocks["on"]) - np.asarray(blocks["off"]))
    for state, times in blocks.items():
        summary = summarize(times).as_dict()
        report.series.append(Series("one_operator", f"bound, trace {state}", "ns", summary))
    spread = (added.p25, added.p75)
    report.checks.append(Check("a span, on - off", "one_operator", added.median, "ns", spread))


def writing(report: Report, call: Callable[[], object], options: Settings) -> None:
    count = 100_000 if options.quick else 1_000_000
    progress(f"{NAME}: a file of {count} events")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.json"
        with zl.trace(path, max_events=count + 1000):
            for _ in range(count):
                call()
            begin = time.perf_counter()
        seconds = time.perf_counter() - begin
        size = path.stat().st_size
    subject = f"{count} spans"
    report.checks.append(Check("writing the file", subject, seconds * 1e9 / count, "ns an event"))
    report.checks.append(Check("size of the file", subject, size / count, "bytes an event"))


def allocations(report: Report, model: Path) -> None:
    """Heap blocks of a bound call in the steady state, with a trace running and without."""
    progress(f"{NAME}: heap blocks")
    code = """
    import ctypes, json, sys
    from itertools import repeat
    import zerolane as zl
    taken = ctypes.CDLL(None).allocations_taken
    taken.restype = ctypes.c_long
    binding = zl.load(sys.argv[1], threads=1).bind(gil="hold")
    def calls(count):
        for _ in repeat(None, count):
            binding()
    def steady():
        calls(1000)
        marks = [taken()]
        for count in (5000, 10000):
            calls(count)
            marks.append(taken())
        return (marks[2] - 2 * marks[1] + marks[0]) / 5000
    off = steady()
    with zl.trace(sys.argv[2]):
        on = steady()
    print(json.dumps([off, on]))
    """
    preload = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    with tempfile.TemporaryDirectory() as folder:
        program = [sys.executable, "-c", textwrap.dedent(code), str(model), f"{folder}/t.json"]
        try:
            off, on = json.loads(run_child(program, preload).stdout)
        except Failed as reason:
            report.checks.append(Check("heap blocks", "one_operator", None, "", note=str(reason)))
            return
    measure = "heap blocks of a span, on - off"
    report.checks.append(Check(measure, "one_operator", on - off, "blocks", None, 0.0))


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    model = models.one_operator(settings.BUILD_FOLDER / "models").path.resolve()
    binding = zl.load(model, threads=options.threads).bind(gil="hold")
    call_times(report, binding, options)
    writing(report, binding, options)
    allocations(report, model)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
