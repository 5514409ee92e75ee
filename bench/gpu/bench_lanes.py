# SPDX-License-Identifier: Apache-2.0
"""Throughput of 1 to 8 callers at once, each with its own context, stream and host memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from bench.gpu import frame
from bench.gpu.frame import Options
from bench.gpu.rivals import Lane, all_drivers
from bench.models import Case
from bench.results import Check, Report, Series
from bench.rivals.contract import Driver, Feed
from bench.settings import progress
from bench.stats import curve, summarize

TITLE = "calls a second by 1 to 8 lanes, host memory at both ends"
LANES = (1, 2, 4, 8)
SUBJECTS = ("policy", "digits_cnn", "resnet50")


def throughput(lanes: Sequence[Lane], seconds: float) -> float:
    """Calls a second of all lanes together, each called by a thread of its own."""
    begin = threading.Barrier(len(lanes) + 1)
    stop = threading.Event()
    counts = [0] * len(lanes)
    errors: list[BaseException] = []

    def work(n: int) -> None:
        call, done = lanes[n], 0
        try:
            call()
            begin.wait(60)
            while not stop.is_set():
                call()
                done += 1
        except BaseException as error:
            errors.append(error)
            begin.abort()
        counts[n] = done

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(lanes))]
    for t in threads:
        t.start()
    try:
        begin.wait(60)
    except threading.BrokenBarrierError:
        if not errors:
            errors.append(RuntimeError("the lanes did not get ready within 60 s"))
    start = time.perf_counter()
    if not errors:
        time.sleep(seconds)
    stop.set()
    for t in threads:
        t.join()
    taken = time.perf_counter() - start
    if errors:
        raise errors[0]
    return sum(counts) / taken


def run(options: Options) -> Report:
    report = frame.new_report("lanes", TITLE, options)
    rounds, seconds = (1, 0.1) if options.quick else (3, 0.6)
    report.settings |= {"lanes": LANES, "rounds": rounds, "seconds": seconds}
    for case in frame.cases(options):
        if case.name not in SUBJECTS:
            continue
        wanted = frame.reference(case)
        for driver in all_drivers():
            if options.late(report, f"{case.name}, {driver.name}"):
                continue
            progress(f"gpu_lanes: {case.name}, {driver.name}")
            try:
                found = frame.apart(measure, options, driver, case, wanted, rounds, seconds)
            except Exception as error:  # one library's fault must not end the others' race
                note = frame.note_of(error)
                who = f"{driver.name} left out"
                report.checks.append(Check(who, case.name, None, "", note=note))
                progress(f"    left out: {note}")
                continue
            report.series += found
            best = max(s.summary["median"] for s in found)
            report.checks.append(Check(f"{driver.name}, best", case.name, best, "calls/s"))
        report.write(options.out)
    return report


def measure(driver: Driver, case: Case, wanted: Feed, rounds: int, seconds: float) -> list[Series]:
    """Calls a second of the driver's lanes, a series for each number of them."""
    handle = driver.load(case.path, 1)
    lanes = [handle.lane(case.inputs, wanted) for _ in range(max(LANES))]  # type: ignore[attr-defined]
    found = []
    for count in LANES:
        rates = [throughput(lanes[:count], seconds) for _ in range(rounds)]
        detail: dict[str, object] = {"lanes": count}
        subject, told = f"{case.name}, {count} lanes", summarize(rates).as_dict()
        found.append(Series(subject, driver.name, "calls/s", told, curve(rates), detail))
    return found


if __name__ == "__main__":
    frame.main(run, TITLE)
