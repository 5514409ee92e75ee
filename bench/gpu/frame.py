# SPDX-License-Identifier: Apache-2.0
"""The frame in which a GPU benchmark runs: options, what was measured on, contestants, figures."""

from __future__ import annotations

import argparse
import multiprocessing
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from bench.gpu import engines, machine, models
from bench.gpu.rivals import all_drivers
from bench.models import Case
from bench.results import Check, Report, Series, print_report
from bench.rivals.contract import Driver, Feed, Form, Handle, Unsupported
from bench.settings import BUILD_FOLDER, MODEL_FOLDER, progress
from bench.stats import Summary, curve, summarize
from bench.timing import Plan, Timing, interleave

# ||out - reference|| / ||reference|| that is still the same work: TF32 through fifty layers.
MOST_ERROR = 2e-2

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    quick: bool
    out: Path
    work: Path
    seconds: float = float("inf")
    started: float = field(default_factory=time.monotonic)

    def late(self, report: Report, subject: str) -> bool:
        """Whether most of the time given is over; then the report says what was left out."""
        if time.monotonic() - self.started < 0.8 * self.seconds:
            return False
        note = f"most of {self.seconds:.0f} s was used up"
        report.checks.append(Check("left out", subject, None, "", note=note))
        return True

    @property
    def models(self) -> Path:
        return self.work / "models"

    @property
    def trained(self) -> Path:
        return MODEL_FOLDER

    def plan(self) -> Plan:
        """Longer batches than on the CPU: a call is tens of microseconds to milliseconds."""
        if self.quick:
            return Plan(rounds=5, batches=3, batch_us=300, most_singles=50, singles_us=3000)
        return Plan(rounds=60, batches=7, batch_us=400, most_singles=250, singles_us=15000)


def cases(options: Options) -> list[Case]:
    """Every model that is timed; in a dry run those that a CPU computes at once."""
    small = models.small_cases(options.models, options.trained)
    if machine.stand_in():
        return [c for c in small if c.name in ("one_operator", "policy", "digits_cnn")]
    return [*small[:2], models.resnet50(options.models), *small[2:]]


def main(run: Callable[[Options], Report], title: str) -> None:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--out", type=Path, default=BUILD_FOLDER, help="folder of the JSON results")
    parser.add_argument("--work", type=Path, default=BUILD_FOLDER / "gpu", help="scratch folder")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no work later")
    given = parser.parse_args()
    reason = machine.gpu_missing()
    if reason is not None and not machine.stand_in():
        progress(f"looking for a GPU: {reason}; run this where there is one")
        sys.exit(3)
    options = Options(given.quick, given.out, given.work, given.seconds)
    engines.set_folder(options.work)
    report = run(options)
    progress(f"{report.name}: wrote {report.write(options.out)}")
    print_report(report)


def new_report(name: str, title: str, options: Options) -> Report:
    """With the GPU beside the machine. A dry run says in its title what it is worth."""
    stand_in = machine.stand_in()
    report = Report(
        f"gpu_{name}",
        f"{'STAND-IN, NO GPU: ' if stand_in else ''}{title}",
        {"quick": options.quick, "stand_in": stand_in},
    )
    report.started["gpu"] = machine.describe()
    return report


def reference(case: Case) -> Feed:
    """ONNX Runtime's answer on the CPU: what everyone must compute."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(case.path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(None, case.inputs), strict=True))


def note_of(why: object) -> str:
    """A reason on one line, without the folders of this machine."""
    return re.sub(r"(?<![\w.])/[\w.+-]+/(?:[\w.+-]+/)*", "", " ".join(str(why).split()))[:300]


def error_of(outputs: Feed, wanted: Feed) -> float:
    """The worst output's distance from the reference, relative to it; infinite for another form."""
    worst = 0.0
    for name, want in wanted.items():
        got = np.asarray(outputs.get(name, np.empty(0)))
        if got.shape != want.shape:
            return float("inf")
        if want.dtype.kind == "f":
            scale = float(np.linalg.norm(want)) or 1.0
            error = float(np.linalg.norm(got.astype(np.float64) - want)) / scale
        else:
            error = float((got != want).mean())
        if not error <= worst:  # a NaN is the worst of all
            worst = error if error == error else float("inf")
    return worst


@dataclass
class Contestants:
    """The forms that compute the right thing, their errors, and why others are left out."""

    forms: list[Form]
    checks: list[Check]
    handles: dict[str, Handle]


def contestants(
    case: Case,
    wanted: Feed,
    drivers: Iterable[Driver] | None = None,
    kinds: Sequence[str] | None = None,
) -> Contestants:
    """Loads everyone; who cannot take part, or computes something else, is named with a reason."""
    found = Contestants([], [], {})

    def left_out(who: str, why: object) -> None:
        note = note_of(why)
        found.checks.append(Check(f"{who} left out", case.name, None, "", note=note))
        progress(f"    {who} left out: {note}")

    for driver in all_drivers() if drivers is None else drivers:
        who = driver.name
        try:
            handle = driver.load(case.path, 1)
        except Exception as failure:  # one library's fault must not end the others' race
            left_out(who, failure)
            continue
        found.handles[who] = handle
        for kind in driver.kinds:
            if kinds is not None and kind not in kinds:
                continue
            try:
                form = handle.form(kind, case.inputs, wanted)
                error = error_of(form.outputs(), wanted)
            except Exception as failure:
                left_out(f"{who}.{kind}", failure)
                continue
            found.checks.append(
                Check(f"{form.name} error", case.name, error, "relative", None, MOST_ERROR)
            )
            if error <= MOST_ERROR:
                found.forms.append(form)
            else:
                left_out(form.name, f"it computes something else, off by {error:.3g}")
    return found


def apart(function: Callable[..., T], options: Options, *arguments: object) -> T:
    """Calls a function of a module in a process of its own, which may die of it.

    Two ONNX Runtimes in one process would share the library of the CUDA provider, and with it the
    pointer to one of them: the onnxruntime package and zerolane over it are never in the same one.
    """
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
        return fresh.submit(_called, function, options.work, *arguments).result()


def _called(function: Callable[..., T], work: Path, *arguments: object) -> T:
    engines.set_folder(work)
    return function(*arguments)


def race(
    case: Case, wanted: Feed, drivers: Sequence[Driver], plan: Plan
) -> tuple[list[Check], dict[str, Timing]]:
    """The checks and the interleaved timings of these drivers' forms."""
    found = contestants(case, wanted, drivers)
    return found.checks, interleave(found.forms, plan) if found.forms else {}


def latency_series(subject: str, timings: dict[str, Timing]) -> list[Series]:
    """Medians from the blocks, percentiles from calls timed one by one, in microseconds."""
    out = []
    for contestant, timing in timings.items():
        blocks, singles = _us(timing.blocks), _us(timing.singles)
        summary = {**blocks.as_dict(), "p99": singles.p99, "p999": singles.p999}
        detail: dict[str, object] = {"single_calls": singles.as_dict()}
        out.append(Series(subject, contestant, "us", summary, curve(timing.singles / 1000), detail))
    return out


def _us(ns: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Summary:
    return summarize(ns / 1000)


__all__ = [
    "Contestants",
    "Options",
    "Unsupported",
    "apart",
    "cases",
    "contestants",
    "error_of",
    "latency_series",
    "main",
    "new_report",
    "note_of",
    "race",
    "reference",
]
