# SPDX-License-Identifier: Apache-2.0
"""Floors of the machine: copies of many sizes each way, and the bare launch of a graph."""

from __future__ import annotations

import numpy as np

from bench.gpu import frame
from bench.gpu.floor import TO_DEVICE, TO_HOST, CopyFloor, bare_graph
from bench.gpu.frame import Options
from bench.gpu.machine import stand_in
from bench.results import Check, Report, Series
from bench.settings import progress
from bench.stats import curve, summarize

TITLE = "copies and the bare graph launch, in a C loop"
SIZES = tuple(1 << n for n in range(8, 31, 2))
WAYS = {"to device": TO_DEVICE, "to host": TO_HOST}


def run(options: Options) -> Report:
    report = frame.new_report("copy", TITLE, options)
    rounds = 10 if options.quick else 60
    sizes = [s for s in SIZES if s <= (1 << 22 if stand_in() else 1 << 30)]
    for pinned in (True, False):
        memory = "pinned" if pinned else "pageable"
        for size in sizes:
            progress(f"gpu_copy: {memory}, {size} bytes")
            floor = CopyFloor(size, pinned)
            for way, kind in WAYS.items():
                us = floor.us(kind, rounds)
                detail: dict[str, object] = {
                    "bytes": size,
                    "gb_s": round(size / 1000 / float(np.median(us)), 3),
                }
                told = summarize(us).as_dict()
                subject = f"{memory} {way}"
                report.series.append(
                    Series(subject, f"{size} bytes", "us", told, curve(us), detail)
                )
            floor.close()
        for way in WAYS:
            best = max(
                float(str(s.detail["gb_s"]))
                for s in report.series
                if s.subject == f"{memory} {way}"
            )
            report.checks.append(Check("bandwidth", f"{memory} {way}", best, "GB/s"))
    graph = bare_graph()
    graph.time(50, 1)
    us = [v / 1000 for v in graph.time(2000 if not options.quick else 100, 1)]
    summary = summarize(us)
    report.series.append(
        Series("bare graph launch and wait", "c.graph", "us", summary.as_dict(), curve(us))
    )
    report.checks.append(
        Check(
            "bare graph launch and wait",
            "one node",
            summary.median,
            "us",
            (summary.p25, summary.p75),
        )
    )
    return report


if __name__ == "__main__":
    frame.main(run, TITLE)
