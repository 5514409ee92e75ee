# SPDX-License-Identifier: Apache-2.0
"""The policy at 1 kHz beside a busy Python thread: zl.Loop, a bare C loop, and Python loops.

All count misses alike, and strictly: a result that is not there one period after its tick was due
is missed, and so is each tick whose time passes meanwhile. The Python loops sleep until a tick is
due and call onnxruntime; zl.Loop and the C loop need no Python while they run. Contestants take
turns of a few seconds. Where the process may, all do it once more under SCHED_FIFO.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

import zerolane as zl
from bench import models, settings
from bench.python.bench_gil import BusyThread
from bench.results import Check, Report, Series, ratio_check
from bench.rivals.c_loop import CLoopHandle
from bench.rivals.contract import Form
from bench.rivals.onnxruntime import OnnxRuntimeDriver
from bench.settings import Settings, progress
from bench.stats import curve, paired_ratio, summarize

NAME = "loop"
TITLE = "a 1 kHz control loop beside a busy Python thread"
PERIOD_NS = 1_000_000
PRIORITY = 80
MOST_MISSED_PERCENT = 0.1
MOST_CALL_US = 100.0
MOST_OVER_C = 1.1
OURS, FLOOR = "zerolane.loop", "c.loop"
POINTS = 5000  # of a round's distribution that are kept


@dataclass
class Round:
    """Ticks that were due and missed; in us what calls took and how late they began."""

    due: int
    missed: int
    call_us: NDArray[np.float64]
    late_us: NDArray[np.float64]


@dataclass
class Contestant:
    run: Callable[[float, int | None], Round]
    rounds: list[Round] = field(default_factory=list)

    def all(self, what: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(r, what) for r in self.rounds])

    def missed_percent(self) -> float:
        return 100 * sum(r.missed for r in self.rounds) / sum(r.due for r in self.rounds)

    def call_p999(self) -> list[float]:
        return [float(np.percentile(r.call_us, 99.9)) for r in self.rounds]


def of_ticks(late: NDArray[np.int64], call: NDArray[np.int64]) -> Round:
    """From every tick's times in ns; late is -1 where it was left out."""
    made = late >= 0
    missed = (~made) | (late + call > PERIOD_NS)
    return Round(len(late), int(missed.sum()), call[made] / 1000, late[made] / 1000)


def run_zerolane(
    binding: zl.Binding, x: NDArray[np.float32], seconds: float, priority: int | None
) -> Round:
    loop = zl.Loop(binding, rate_hz=1e9 / PERIOD_NS, priority=priority)
    loop.inputs["x"].write(x)
    with loop:
        time.sleep(seconds)
    stats = loop.stats()
    points = (np.arange(POINTS) + 0.5) / POINTS
    call, late = (np.array(loop.quantiles_us(name, points.tolist())) for name in ("call", "late"))
    return Round(stats.ticks - stats.waiting, stats.missed.total, call, late)


def run_c(handle: CLoopHandle, seconds: float, priority: int | None) -> Round:
    found: list[Round] = []

    def work() -> None:  # on a thread of its own, whose priority ends with it
        if priority is not None:
            zl.realtime(priority=priority)
        found.append(of_ticks(*handle.at_rate(PERIOD_NS, round(seconds * 1e9 / PERIOD_NS))))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def run_python(form: Form, seconds: float, priority: int | None) -> Round:
    found: list[Round] = []

    def work() -> None:
        if priority is not None:
            zl.realtime(priority=priority)
        found.append(python_ticks(form, round(seconds * 1e9 / PERIOD_NS)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


def python_ticks(form: Form, ticks: int) -> Round:
    fn, args = form.fn, form.args
    late = np.full(ticks, -1, np.int64)
    call = np.zeros(ticks, np.int64)
    begin = ended = perf_counter_ns()
    for i in range(ticks):
        due = begin + (i + 1) * PERIOD_NS
        if due <= ended:
            continue
        wait = due - perf_counter_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        start = perf_counter_ns()
        if start - due >= PERIOD_NS:
            continue
        fn(*args)
        ended = perf_counter_ns()
        late[i], call[i] = start - due, ended - start
    return of_ticks(late, call)


def make_contestants(options: Settings) -> dict[str, Contestant]:
    case = models.policy(settings.BUILD_FOLDER / "models")
    x = case.inputs["x"]
    session = zl.load(str(case.path), threads=options.threads)
    wanted = {"y": session(x)}
    floor = CLoopHandle(case.path, options.threads)
    floor.bind({"x": x}, wanted)
    peer = OnnxRuntimeDriver().load(case.path, options.threads)
    forms = [peer.form(kind, {"x": x}, wanted) for kind in OnnxRuntimeDriver.kinds]
    for outputs in (floor.outputs(), *(form.outputs() for form in forms)):
        np.testing.assert_allclose(outputs["y"], wanted["y"], rtol=1e-4, atol=1e-5)
    return {
        OURS: Contestant(partial(run_zerolane, session.bind(x=x.shape), x)),
        FLOOR: Contestant(partial(run_c, floor)),
        **{form.name: Contestant(partial(run_python, form)) for form in forms},
    }


def may_be_realtime() -> bool:
    answer: list[bool] = []
    ask = threading.Thread(target=lambda: answer.append(zl.realtime(priority=PRIORITY).granted))
    ask.start()
    ask.join()
    return answer[0]


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds, seconds = (5, 1.0) if options.quick else (12, 5.0)
    report.settings |= {
        "rounds": rounds,
        "seconds_a_round": seconds,
        "rate_hz": 1e9 / PERIOD_NS,
        "switch_interval_ms": sys.getswitchinterval() * 1000,
    }
    subjects: list[tuple[str, int | None]] = [("ordinary threads", None)]
    if may_be_realtime():
        subjects.append((f"SCHED_FIFO {PRIORITY}", PRIORITY))
    for subject, priority in subjects:
        contestants = make_contestants(options)
        progress(f"{NAME}: {subject}, {rounds} rounds of {seconds} s for {len(contestants)}")
        order = list(contestants.values())
        for turn in range(rounds):
            for contestant in order[turn % len(order) :] + order[: turn % len(order)]:
                with BusyThread():
                    contestant.rounds.append(contestant.run(seconds, priority))
        for name, contestant in contestants.items():
            report.series.append(series_of(subject, name, contestant))
            report.checks += checks_of(subject, name, contestant)
        report.checks += against_floor(subject, contestants[OURS], contestants[FLOOR])
    return report


def series_of(subject: str, name: str, contestant: Contestant) -> Series:
    call, late = contestant.all("call_us"), contestant.all("late_us")
    detail: dict[str, object] = {
        "late_us": summarize(late).as_dict(),
        "ticks_due": sum(r.due for r in contestant.rounds),
        "ticks_missed": [r.missed for r in contestant.rounds],
    }
    return Series(subject, name, "us", summarize(call).as_dict(), curve(call), detail)


def checks_of(subject: str, name: str, contestant: Contestant) -> list[Check]:
    call, late = (summarize(contestant.all(what)) for what in ("call_us", "late_us"))
    ours = name == OURS
    missed = contestant.missed_percent()
    most_missed, most_call = (MOST_MISSED_PERCENT, MOST_CALL_US) if ours else (None, None)
    due = f"of {sum(r.due for r in contestant.rounds):,} ticks"
    return [
        Check(f"{name} ticks missed", subject, missed, "%", None, most_missed, note=due),
        Check(f"{name} call p50", subject, call.median, "us"),
        Check(f"{name} call p99", subject, call.p99, "us"),
        Check(f"{name} call p99.9", subject, call.p999, "us", None, most_call),
        Check(f"{name} late p50", subject, late.median, "us"),
        Check(f"{name} late p99.9", subject, late.p999, "us"),
    ]


def against_floor(subject: str, ours: Contestant, floor: Contestant) -> list[Check]:
    """Round by round; and misses as a difference, since the floor may have none."""
    p999 = paired_ratio(ours.call_p999(), floor.call_p999())
    p50 = paired_ratio(
        [float(np.median(r.call_us)) for r in ours.rounds],
        [float(np.median(r.call_us)) for r in floor.rounds],
    )
    over = ours.missed_percent() - MOST_OVER_C * floor.missed_percent()
    measure = f"{OURS} / {FLOOR}"
    return [
        ratio_check(f"{measure} call p50", subject, p50, MOST_OVER_C, "<="),
        ratio_check(f"{measure} call p99.9", subject, p999, MOST_OVER_C, "<="),
        Check(f"{OURS} missed above {MOST_OVER_C} x {FLOOR}", subject, over, "%", None, 0.0),
    ]


if __name__ == "__main__":
    settings.main(run, TITLE)
