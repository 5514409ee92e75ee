# SPDX-License-Identifier: Apache-2.0
"""Instructions (callgrind) and heap allocations of one call on the one-operator model.

Both are differences between 2N and N calls of a warm process, so that fixed costs cancel. Heap
blocks are those of the whole process with Python's own allocator switched off
(PYTHONMALLOC=malloc): what the bound call takes more than the C loop is ours, or Python's for us.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from bench import models, native, settings
from bench.results import Check, Report, Series
from bench.settings import Settings, progress

NAME = "instructions"
TITLE = "instructions and heap allocations of one call, one-operator model"
FLOOR = "c.loop"
BOUND = "zerolane.bound"
PEERS = ("zerolane.call", "onnxruntime.iobinding", "onnxruntime.run")


CALLGRIND = (
    "valgrind",
    "-q",
    "--tool=callgrind",
    "--separate-threads=yes",
    "--dump-before=floor_marked",
)


class Failed(RuntimeError):
    """A child did not finish; the text is its last line."""


def run_child(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    # NumPy's own worker threads would spin into the count.
    quiet = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    variables = {**os.environ, **quiet, **environment}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        env=variables,
        cwd=settings.BENCH_FOLDER.parent,
    )
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line and not line.startswith("==")]
        raise Failed(f"the process ended with {done.returncode}: {(said or ['no message'])[-1]}")
    return done


def python_command(who: str, model: Path, threads: int, calls: int) -> list[str]:
    driver, kind = who.split(".")
    module = "bench.python.counted"
    return [sys.executable, "-m", module, driver, kind, str(model), str(threads), str(calls)]


def floor_command(model: Path, threads: int, calls: int) -> list[str]:
    program, library = str(native.floor_program()), str(native.onnxruntime_library())
    ends = ["in:x:1:4:1,4", "out:y:1:4:1,4"]
    return [program, library, str(model), str(threads), str(calls), *ends]


def instructions_per_call(who: str, model: Path, threads: int, calls: int) -> float:
    """Of the calling thread; under valgrind's slow clock, idle workers of others spin far longer.

    Keeps callgrind's files in bench/out, for callgrind_annotate: .2-01 is N calls, .3-01 is 2N.
    """
    progress(f"{NAME}: callgrind on {who}")
    command = floor_command if who == FLOOR else partial(python_command, who)
    out = settings.BUILD_FOLDER / f"callgrind.{who}"
    run_child([*CALLGRIND, f"--callgrind-out-file={out}", *command(model, threads, calls)], {})
    once, twice = (collected(Path(f"{out}.{part}-01")) for part in (2, 3))
    return (twice - once) / calls


def collected(dump: Path) -> int:
    """The instructions between two marks."""
    found = re.search(r"^summary: (\d+)", dump.read_text(), re.MULTILINE)
    if found is None:
        raise Failed(f"{dump.name} has no line 'summary: N'")
    return int(found.group(1))


def allocations_per_call(who: str, model: Path, threads: int, calls: int) -> float:
    progress(f"{NAME}: allocations of {who}")
    preload = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    once, twice = json.loads(run_child(python_command(who, model, threads, calls), preload).stdout)
    return float(twice - once) / calls


def count_instructions(report: Report, model: Path, options: Settings) -> None:
    if shutil.which("valgrind") is None:
        note = "valgrind is not installed"
        report.checks.append(Check("instructions", "one_operator", None, "", note=note))
        return
    calls = 1000 if options.quick else 3000
    report.settings["callgrind_calls"] = calls
    counted: dict[str, float] = {}
    for who in (FLOOR, BOUND, *(() if options.quick else PEERS)):
        try:
            counted[who] = instructions_per_call(who, model, options.threads, calls)
        except Failed as reason:
            note = str(reason)
            report.checks.append(Check(f"instructions {who}", "one_operator", None, "", note=note))
            continue
        report.checks.append(Check(f"instructions {who}", "one_operator", counted[who], "instr."))
        summary = {"median": counted[who]}
        report.series.append(Series("one_operator", who, "instructions", summary))
    if FLOOR in counted and BOUND in counted:
        ratio = counted[BOUND] / counted[FLOOR]
        report.checks.append(
            Check("instructions bound / C loop", "one_operator", ratio, "x", None, 1.15)
        )


def count_allocations(report: Report, model: Path, options: Settings) -> None:
    calls = 20_000
    counted: dict[str, float] = {}
    for who in (FLOOR, BOUND, *PEERS):
        try:
            counted[who] = allocations_per_call(who, model, options.threads, calls)
        except Failed as reason:
            note = str(reason)
            report.checks.append(Check(f"allocations {who}", "one_operator", None, "", note=note))
            continue
        report.checks.append(Check(f"allocations {who}", "one_operator", counted[who], "blocks"))
        summary = {"median": counted[who]}
        report.series.append(Series("one_operator", who, "heap blocks", summary))
    if FLOOR in counted and BOUND in counted:
        ours = counted[BOUND] - counted[FLOOR]
        report.checks.append(
            Check("allocations of ours", "one_operator", ours, "blocks", None, 0.0)
        )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    model = models.one_operator(settings.BUILD_FOLDER / "models").path.resolve()
    count_allocations(report, model, options)
    count_instructions(report, model, options)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
