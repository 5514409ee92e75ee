# SPDX-License-Identifier: Apache-2.0
"""Builds zerolane on an offline machine with a GPU, runs its GPU tests there, then the benchmarks.

Exit code: 0 all went well, 1 something failed, 2 wrong use, 3 there is no GPU. Each step has a time
limit of its own and the next ones run whatever becomes of it; a step can be run again by name.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.gpu import machine, setup, test_runs
from bench.gpu.commands import run as run_command
from bench.gpu.setup import Failed, Place
from bench.gpu.test_runs import Selection
from bench.settings import BENCH_FOLDER, progress

ROOT = BENCH_FOLDER.parent
RESULTS = BENCH_FOLDER / "results"
BENCHES = ("gpu_copy", "gpu_call", "gpu_graph", "gpu_lanes", "gpu_overlap")
SETUP = ("venv", "wheels", "build")
STEPS = (*SETUP, "doctor", "tests", "contract", *BENCHES, "report")
GROUPS = {
    "setup": SETUP,
    "tests": ("doctor", "tests", "contract"),
    "bench": (*BENCHES, "report"),
}
# Seconds; with --minutes all are shortened alike when they do not fit.
LIMITS = {
    "venv": 60,
    "wheels": 180,
    "build": 420,
    "doctor": 60,
    "tests": 600,
    "contract": 420,
    "gpu_copy": 90,
    "gpu_call": 540,
    "gpu_graph": 120,
    "gpu_lanes": 240,
    "gpu_overlap": 180,
    "report": 60,
}


@dataclass
class Done:
    """What became of a step: ok, failed or "no time", and in words."""

    step: str
    state: str
    note: str
    seconds: float


def main() -> int:
    arguments = _arguments()
    reason = machine.gpu_missing()
    if reason is not None and not arguments.dry_run:
        progress(
            f"bench/gpu: looking for a GPU: {reason}, expected one; run this on a machine with an "
            "NVIDIA GPU, or with --dry-run to try the scripts on stand-ins"
        )
        return 3
    out = arguments.out.resolve()
    if arguments.dry_run:
        os.environ[machine.STAND_IN_VARIABLE] = "1"
    if arguments.dry_run and (out == RESULTS or RESULTS in out.parents):
        progress("bench/gpu: a dry run measures stand-ins; give --out another folder")
        return 2
    wanted = _wanted(arguments.only)
    place = Place(ROOT, arguments.work.resolve(), out, arguments.wheels, arguments.dry_run)
    out.mkdir(parents=True, exist_ok=True)
    budget = arguments.minutes * 60 if arguments.minutes else float("inf")
    end = time.monotonic() + budget
    scale = min(1.0, budget / sum(LIMITS[s] for s in wanted))
    done: list[Done] = []
    for step in wanted:
        done.append(_step(step, place, arguments, LIMITS[step] * scale, end))
        _write_summary(out, done, wanted)
    return _tell(done, out)


def _step(step: str, place: Place, arguments: argparse.Namespace, limit: float, end: float) -> Done:
    # Time that earlier steps left over goes to this one, up to its full limit.
    left = end - time.monotonic()
    seconds = min(max(limit, min(LIMITS[step], left / 2)), left)
    started = time.monotonic()
    if left < 5:
        return Done(step, "no time", "the minutes given were used up", 0.0)
    progress(f"bench/gpu: {step}, at most {seconds:.0f} s")
    try:
        note = _do(step, place, arguments, seconds)
        state = "ok"
    except Failed as failure:
        note, state = str(failure), "failed"
    except Exception as error:  # a fault of these scripts must not keep the others from running
        note, state = f"{type(error).__name__}: {error}", "failed"
    taken = time.monotonic() - started
    progress(f"bench/gpu: {step}: {state} after {taken:.0f} s{': ' + note if note else ''}")
    return Done(step, state, note, taken)


def _do(step: str, place: Place, arguments: argparse.Namespace, seconds: float) -> str:
    if step in SETUP:
        return setup.do(step, place, seconds)
    setup.require(place)
    environment = place.environment()
    if step == "doctor":
        return _doctor(place, seconds)
    if step == "tests":
        files = sorted((ROOT / "tests" / "gpu").glob("test_*.py"))
        found = [Selection(p) for p in files if p.name != "test_run_script.py"]  # needs no GPU
        return _tests(step, place, found, seconds)
    if step == "contract" and place.dry_run:
        return "left out: tests/backends runs on stand-ins by itself"
    if step == "contract":
        files = sorted((ROOT / "tests" / "backends").glob("test_*.py"))
        rows = "tests.gpu.contract_rows"
        found = [
            Selection(p, row, rows)
            for row in ("onnxruntime", "tensorrt")  # the quick ones first: those build no engines
            for p in files
            if "stand_in" not in p.name
        ]
        return _tests(step, place, found, seconds)
    if step == "report":
        command: list[str | Path] = [place.python, "-m", "bench.gpu.report", place.out]
    else:
        command = [place.python, "-m", f"bench.gpu.bench_{step.removeprefix('gpu_')}"]
        command += ["--out", place.out, "--work", place.work, "--seconds", f"{seconds:.0f}"]
        command += ["--quick"] if arguments.quick or arguments.dry_run else []
    log = place.out / "logs" / f"{step}.log"
    log.unlink(missing_ok=True)
    outcome = run_command(command, log, seconds, environment=environment)
    if not outcome.ok:
        raise Failed(f"{outcome}; see {log.name}")
    return ""


def _doctor(place: Place, seconds: float) -> str:
    """Writes what `zerolane doctor --json` says to doctor.json."""
    log = place.out / "logs" / "doctor.log"
    log.unlink(missing_ok=True)
    target = place.out / ("doctor.json" if not place.dry_run else "doctor-stand-in.json")
    code = (
        "import subprocess, sys; "
        "done = subprocess.run([sys.executable, '-m', 'zerolane', 'doctor', '--json'], "
        "stdout=open(sys.argv[1], 'w')); sys.exit(done.returncode)"
    )
    outcome = run_command(
        [place.python, "-c", code, target], log, seconds, environment=place.environment()
    )
    if not outcome.ok:
        raise Failed(f"{outcome}; see {log.name}")
    json.loads(target.read_text())
    return target.name


def _tests(step: str, place: Place, found: Sequence[Selection], seconds: float) -> str:
    tests = test_runs.run(
        place.python, found, place.out, seconds, place.environment(), f"gpu_{step}"
    )
    text = test_runs.summary(tests)
    bad = test_runs.failed(tests)
    for t in bad[:40]:
        progress(f"    {t.outcome}: {t.name}")
    if bad:
        raise Failed(text)
    if not any(t.outcome == "passed" for t in tests):
        raise Failed(f"{text}: nothing was tested")
    return text


def _write_summary(out: Path, done: Sequence[Done], wanted: Sequence[str]) -> None:
    """Replaces the entries of these steps in gpu_run.json; those of earlier runs stay."""
    path = out / "gpu_run.json"
    steps: dict[str, object] = {}
    if path.exists():
        steps = json.loads(path.read_text()).get("steps", {})
    steps |= {d.step: {"state": d.state, "note": d.note, "seconds": round(d.seconds)} for d in done}
    ordered = {s: steps[s] for s in STEPS if s in steps}
    body = {"machine": machine.describe(), "steps": ordered}
    path.write_text(json.dumps(body, indent=1) + "\n")


def _tell(done: Sequence[Done], out: Path) -> int:
    bad = [d for d in done if d.state != "ok"]
    width = max(len(d.step) for d in done)
    for d in done:
        print(f"{d.step:{width}}  {d.state:7}  {d.seconds:5.0f} s  {d.note}")
    print(f"{len(done) - len(bad)} of {len(done)} steps went well; results are in {out}")
    return 1 if bad else 0


def _wanted(only: Sequence[str] | None) -> list[str]:
    """The steps in order. What a step needs and is already there costs nothing."""
    if not only:
        return list(STEPS)
    names = {step for name in only for step in GROUPS.get(name, (name,))}
    if names - set(SETUP) - {"report"}:
        names |= set(SETUP)
    return [s for s in STEPS if s in names]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/gpu/run.sh", description=__doc__)
    parser.add_argument("--wheels", type=Path, help="folder of vendor wheels (none: those here)")
    parser.add_argument("--out", type=Path, help="results (default: bench/results)")
    parser.add_argument("--work", type=Path, help="scratch folder (default: in the temporary one)")
    parser.add_argument(
        "--only",
        action="append",
        choices=sorted({*STEPS, *GROUPS}),
        help="a step or a group of steps; repeatable",
    )
    parser.add_argument("--minutes", type=float, help="for everything together")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument(
        "--dry-run", action="store_true", help="no GPU: this Python's zerolane on stand-ins"
    )
    arguments = parser.parse_args()
    scratch = Path(tempfile.gettempdir()) / f"zerolane-gpu-{os.getuid()}"
    arguments.work = arguments.work or scratch
    default = scratch / "stand-in-results" if arguments.dry_run else RESULTS
    arguments.out = arguments.out or default
    return arguments


if __name__ == "__main__":
    sys.exit(main())
