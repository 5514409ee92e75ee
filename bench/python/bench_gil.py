# SPDX-License-Identifier: Apache-2.0
"""The policy called at 1 kHz while another Python thread computes: what does the call itself take?

Ticks have absolute due times. The wait for a tick gives the GIL away, as any wait in Python does,
and getting it back from the busy thread takes up to the switch interval (5 ms): those ticks are
late or missed whoever is called. The time of the call starts when the waiting is over.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from time import perf_counter_ns

from bench import models, settings
from bench.python.bench_call import make_forms
from bench.results import Check, Report, Series
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, summarize

NAME = "gil"
TITLE = "policy call at 1 kHz beside a busy Python thread"
PERIOD_NS = 1_000_000
TARGET_P99_US = 150.0
CONTESTANTS = ("zerolane.bound", "c.loop", "onnxruntime.iobinding", "onnxruntime.run")


class BusyThread:
    """A pure-Python loop in another thread for as long as the block lasts."""

    def __init__(self) -> None:
        self._stop = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    def _work(self) -> None:
        n = 0
        while not self._stop:
            n = (n * 31 + 7) % 1_000_003

    def __enter__(self) -> BusyThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = True
        self._thread.join()


@dataclass
class Ticks:
    """Calls made, how late they began (both in us), and due times passed over."""

    call_us: list[float] = field(default_factory=list)
    late_us: list[float] = field(default_factory=list)
    missed: int = 0


def tick(form: Form, seconds: float, into: Ticks) -> None:
    """Calls the form once a period for `seconds`; due times that passed meanwhile are missed."""
    fn, args = form.fn, form.args
    due = perf_counter_ns()
    end = due + int(seconds * 1e9)
    while due < end:
        wait = due - perf_counter_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        start = perf_counter_ns()
        fn(*args)
        stop = perf_counter_ns()
        into.call_us.append((stop - start) / 1000)
        into.late_us.append((start - due) / 1000)
        passed = max(0, (stop - due) // PERIOD_NS)
        into.missed += passed
        due += (passed + 1) * PERIOD_NS


def series_of(subject: str, form: Form, ticks: Ticks) -> Series:
    late = summarize(ticks.late_us)
    detail: dict[str, object] = {
        "late_us": late.as_dict(),
        "ticks_missed": ticks.missed,
        "ticks_made": len(ticks.call_us),
        "ticks_late_over_100us": sum(v > 100 for v in ticks.late_us),
        "gil_after": getattr(form.fn, "gil", None),  # what zerolane's own measuring decided
    }
    summary = summarize(ticks.call_us).as_dict()
    return Series(subject, form.name, "us", summary, curve(ticks.call_us), detail)


def held(form: Form) -> Form:
    """The floor here is the C call with the GIL kept: what a cold cache alone makes of the call."""
    if form.name != "c.loop":
        return form
    handle = getattr(form.native, "__self__")  # noqa: B009 - a bound method's object
    return Form(form.name, form.outputs, handle.call_holding_gil)


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    case = models.policy(settings.BUILD_FOLDER / "models")
    forms, missing = make_forms(case, options.threads)
    forms = [held(f) for f in forms if f.name in CONTESTANTS]
    rounds, seconds = (3, 1.0) if options.quick else (12, 2.5)
    report.settings |= {
        "rounds": rounds,
        "seconds_a_round": seconds,
        "switch_interval_ms": sys.getswitchinterval() * 1000,
    }
    for subject, busy in (("other thread idle", False), ("other thread busy", True)):
        progress(f"{NAME}: {subject}, {rounds} rounds of {seconds} s for {len(forms)} contestants")
        ticks = {f.name: Ticks() for f in forms}
        for _ in range(rounds):
            for form in forms:
                for _ in range(200):
                    form.fn(*form.args)
                if busy:
                    with BusyThread():
                        tick(form, seconds, ticks[form.name])
                else:
                    tick(form, seconds, ticks[form.name])
        report.series += [series_of(subject, f, ticks[f.name]) for f in forms]
        for name, t in ticks.items():
            report.checks += checks_of(subject, name, t, busy)
    report.checks += [c for c in missing if c.measure.split()[0] in CONTESTANTS]
    return report


def checks_of(subject: str, name: str, ticks: Ticks, busy: bool) -> list[Check]:
    s = summarize(ticks.call_us)
    target = TARGET_P99_US if busy and name == "zerolane.bound" else None
    made = len(ticks.call_us)
    late = sum(v > 100 for v in ticks.late_us)
    return [
        Check(f"{name} p50", subject, s.median, "us"),
        Check(f"{name} p99", subject, s.p99, "us", None, target, note=f"of {made} calls"),
        Check(f"{name} p99.9", subject, s.p999, "us"),
        Check(f"{name} ticks begun > 0.1 ms late", subject, 100 * late / made, "%"),
        Check(f"{name} ticks missed", subject, 100 * ticks.missed / (made + ticks.missed), "%"),
    ]


if __name__ == "__main__":
    settings.main(run, TITLE)
