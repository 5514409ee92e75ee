# SPDX-License-Identifier: Apache-2.0
"""What a latency contract adds to a call, and what keep-warm pulses make of a first call.

The added time is the difference of neighbouring blocks, so it holds on a busy machine; the bare
call and the contract around it are the same object. First calls come after a pause in which the
caches are run over by copies of a large array, as another program on the machine would do.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from time import perf_counter_ns

import numpy as np

import zerolane as zl
from bench import models, settings
from bench.results import Check, Report, Series
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import summarize
from bench.timing import Plan, Timing, interleave

NAME = "contract"
TITLE = "zl.Contract: time added to a call, and first calls after idling"
PAUSE_S = 0.05
TARGET_ADDED_NS = 250.0


def nothing() -> None:
    """As cheap a callable as Python has."""


def form(name: str, fn: Callable[..., object], *args: object) -> Form:
    return Form(name, dict, fn, args)


def added(subject: str, bare: Timing, wrapped: Timing, target: float | None) -> Check:
    difference = summarize(wrapped.blocks - bare.blocks)
    return Check(
        "contract - bare call",
        subject,
        difference.median,
        "ns",
        (difference.p25, difference.p75),
        target,
    )


def overhead(report: Report, options: Settings) -> None:
    plan = Plan.of(options.quick)
    one = models.one_operator(settings.BUILD_FOLDER / "models")
    policy = models.policy(settings.BUILD_FOLDER / "models")
    for subject, case in (("no-op", None), ("one_operator", one), ("policy", policy)):
        progress(f"{NAME}: {subject}")
        if case is None:
            pairs = [("call", nothing, ())]
        else:
            session = zl.load(case.path, threads=options.threads)
            x = next(iter(case.inputs.values()))
            pairs = [("bound", session.bind(x.copy()), ()), ("s(x)", session, (x,))]
        forms: list[Form] = []
        for kind, target, args in pairs:
            contract = zl.Contract(target, p99_ms=1e6, deadline_ms=1e6, samples=[args])
            contract.wait_ready()
            forms += [form(kind, target, *args), form(f"contract of {kind}", contract, *args)]
        timings = interleave(forms, plan)
        for kind, _, _ in pairs:
            bare, wrapped = timings[kind], timings[f"contract of {kind}"]
            target_ns = TARGET_ADDED_NS if case is None else None
            report.checks.append(added(f"{subject}, {kind}", bare, wrapped, target_ns))
        for name, timing in timings.items():
            summary = summarize(timing.blocks).as_dict()
            report.series.append(Series(subject, name, "ns", summary))


# Keep-warm pulses: how long idling lasts before one, and the share of time they may take.
PULSES: dict[str, tuple[float | None, float]] = {
    "no pulses": (None, 0.01),
    "5 ms, 1 %": (5.0, 0.01),
    "1 ms, 10 %": (1.0, 0.1),
}


def first_calls(report: Report, options: Settings) -> None:
    case = models.policy(settings.BUILD_FOLDER / "models")
    x = next(iter(case.inputs.values()))
    other = np.zeros(16 << 20, np.uint8)
    rounds, pauses = (6, 5) if options.quick else (30, 10)
    progress(f"{NAME}: first calls, {rounds} rounds of {pauses} pauses for each contestant")
    session = zl.load(case.path, threads=options.threads)
    first: dict[str, list[float]] = {who: [] for who in PULSES}
    for _ in range(rounds):
        for who, (idle_ms, duty) in PULSES.items():
            contract = zl.Contract(session, p99_ms=1e6, samples=[x], idle_ms=idle_ms, duty=duty)
            with contract:
                contract.wait_ready()
                for _ in range(pauses):
                    for _ in range(20):
                        contract(x)
                    other[:] = other[::-1].copy()
                    time.sleep(PAUSE_S)
                    begin = perf_counter_ns()
                    contract(x)
                    first[who].append((perf_counter_ns() - begin) / 1000)
    for who, values in first.items():
        summary = summarize(values)
        report.series.append(Series("first call, policy", who, "us", summary.as_dict()))
        spread = (summary.p25, summary.p75)
        report.checks.append(
            Check("first call after 50 ms", f"policy, {who}", summary.median, "us", spread)
        )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    overhead(report, options)
    first_calls(report, options)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
