# SPDX-License-Identifier: Apache-2.0
"""Latency of one call, bound and free, against the C loop and onnxruntime, on every model."""

from __future__ import annotations

from bench import environment, models, settings
from bench.models import Case
from bench.results import Check, Report, Series, ratio_check
from bench.rivals import all_drivers
from bench.rivals.contract import Form, Unsupported, check_equal
from bench.rivals.onnxruntime import OnnxRuntimeDriver
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from bench.timing import Plan, Timing, interleave

NAME = "call"
TITLE = "latency of one call, interleaved blocks"

# (measure, time of, divided by the time of, targets by subject; None: every other subject)
RATIOS: tuple[tuple[str, str, str, dict[str | None, float]], ...] = (
    ("bound / C loop", "zerolane.bound", "c.loop", {"one_operator": 1.25}),
    ("iobinding / bound", "onnxruntime.iobinding", "zerolane.bound", {"one_operator": 1.8}),
    ("run / bound", "onnxruntime.run", "zerolane.bound", {"one_operator": 3.3, "policy": 1.5}),
    ("run / s(x)", "onnxruntime.run", "zerolane.call", {"one_operator": 1.8, None: 1.0}),
    ("run / s.run", "onnxruntime.run", "zerolane.run", {}),
)


def make_forms(case: Case, threads: int) -> tuple[list[Form], list[Check]]:
    """Every form of every driver, checked to compute the same; a note for each missing one."""
    wanted = OnnxRuntimeDriver().load(case.path, threads).run(case.inputs)
    forms: list[Form] = []
    missing: list[Check] = []
    for driver in all_drivers():
        for kind in driver.kinds:
            try:
                form = driver.load(case.path, threads).form(kind, case.inputs, wanted)
            except (Unsupported, ImportError) as reason:
                who = f"{driver.name}.{kind}"
                missing.append(Check(f"{who} left out", case.name, None, "", note=str(reason)))
                continue
            check_equal(form.name, form.outputs(), wanted)
            forms.append(form)
    return forms, missing


def checks_of(subject: str, timings: dict[str, Timing]) -> list[Check]:
    checks = []
    for measure, top, bottom, targets in RATIOS:
        if top in timings and bottom in timings:
            target = targets.get(subject, targets.get(None))
            compare = "<=" if bottom == "c.loop" else ">="
            ratio = timings[top].over(timings[bottom])
            checks.append(ratio_check(measure, subject, ratio, target, compare))
    return checks


def series_of(subject: str, timings: dict[str, Timing]) -> list[Series]:
    """Medians and spread from the blocks, the tail from calls timed one by one."""
    out = []
    for contestant, timing in timings.items():
        blocks, singles = summarize(timing.blocks), summarize(timing.singles)
        summary = {**blocks.as_dict(), "p99": singles.p99, "p999": singles.p999}
        detail: dict[str, object] = {
            "single_calls": singles.as_dict(),
            "note": "median, p5 to p95 of block medians; p99 and p999 of single calls, with some "
            "50 ns of clock in each",
        }
        out.append(Series(subject, contestant, "ns", summary, curve(timing.singles), detail))
    return out


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    plan = Plan.of(options.quick)
    for case in models.all_cases(settings.BUILD_FOLDER / "models", options.models):
        progress(f"{NAME}: {case.name}")
        forms, missing = make_forms(case, options.threads)
        timings = interleave(forms, plan)
        report.series += series_of(case.name, timings)
        report.checks += [*checks_of(case.name, timings), *missing]
    report.settings |= {
        "plan": vars(plan),
        "libraries": environment.mapped_libraries("onnxruntime"),
    }
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
