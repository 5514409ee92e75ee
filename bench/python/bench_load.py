# SPDX-License-Identifier: Apache-2.0
"""Time from a file's path to a session, zerolane against onnxruntime, and the C floor beside them.

The libraries are open and the file is in the page cache; ending the session is not timed.
"""

from __future__ import annotations

import gc
from time import perf_counter_ns

from bench import models, settings
from bench.models import Case
from bench.results import Check, Report, Series, ratio_check
from bench.rivals import all_drivers
from bench.rivals.contract import Driver
from bench.settings import Settings, progress
from bench.stats import curve, paired_ratio, summarize

NAME = "load"
TITLE = "load of a model, interleaved"


def load_ms(driver: Driver, case: Case, threads: int) -> float:
    start = perf_counter_ns()
    handle = driver.load(case.path, threads)
    ms = (perf_counter_ns() - start) / 1e6
    del handle
    return ms


def usable(
    drivers: tuple[Driver, ...], case: Case, threads: int
) -> tuple[list[Driver], list[Check]]:
    """The drivers that can load at all, each warmed up by two loads."""
    found, missing = [], []
    for driver in drivers:
        try:
            for _ in range(2):
                load_ms(driver, case, threads)
            found.append(driver)
        except ImportError as reason:
            note = str(reason)
            missing.append(Check(f"{driver.name} left out", case.name, None, "", note=note))
    return found, missing


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds = 15 if options.quick else 80
    report.settings |= {"rounds": rounds}
    for case in models.all_cases(settings.BUILD_FOLDER / "models", options.models):
        progress(f"{NAME}: {case.name}")
        drivers, missing = usable(all_drivers(), case, options.threads)
        ms: dict[str, list[float]] = {d.name: [] for d in drivers}
        for r in range(rounds):
            gc.collect()
            for driver in (*drivers[r % len(drivers) :], *drivers[: r % len(drivers)]):
                ms[driver.name].append(load_ms(driver, case, options.threads))
        for name, values in ms.items():
            summary = summarize(values).as_dict()
            report.series.append(Series(case.name, name, "ms", summary, curve(values)))
        if "zerolane" in ms:
            for peer, target in (("onnxruntime", 1.1), ("c", None)):
                ratio = paired_ratio(ms["zerolane"], ms[peer])
                report.checks.append(ratio_check(f"load / {peer}", case.name, ratio, target, "<="))
        report.checks += missing
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
