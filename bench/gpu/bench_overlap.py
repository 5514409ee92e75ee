# SPDX-License-Identifier: Apache-2.0
"""Copy in, compute and copy out by themselves, one after the other, and overlapped by lanes.

Overlapped lanes cannot be faster than the largest of the three; how near they come is the figure.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from bench.gpu import frame, models
from bench.gpu.device_arrays import on_device
from bench.gpu.floor import TO_DEVICE, TO_HOST, CopyFloor
from bench.gpu.frame import Options
from bench.gpu.machine import stand_in
from bench.gpu.rivals.zerolane_gpu import ZerolaneGpuDriver
from bench.models import Case
from bench.results import Check, Report, Series
from bench.settings import progress
from bench.stats import curve, summarize

TITLE = "copies and compute by themselves and overlapped by lanes"
LANES = (1, 2, 3, 4)
TARGET = 0.9
BACKENDS = ("tensorrt-rtx", "tensorrt", "onnxruntime")


def overlapped_us(bindings: list[Any], calls: int) -> float:
    """Microseconds a call when every binding is called by a thread of its own."""
    begin = threading.Barrier(len(bindings) + 1)
    errors: list[BaseException] = []

    def work(binding: Any) -> None:
        begin.wait(60)
        try:
            for _ in range(calls):
                binding()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(b,)) for b in bindings]
    for t in threads:
        t.start()
    begin.wait(60)
    start = time.perf_counter()
    for t in threads:
        t.join()
    taken = time.perf_counter() - start
    if errors:
        raise errors[0]
    return taken * 1e6 / (calls * len(bindings))


def _calls_us(call: Any, rounds: int) -> list[float]:
    for _ in range(5):
        call()
    out = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        call()
        out.append((time.perf_counter_ns() - start) / 1000)
    return out


def _measure(report: Report, case: Case, backend: str, rounds: int) -> None:
    subject = f"{case.name}, {backend}"
    handle = ZerolaneGpuDriver(backend).load(case.path, 1)
    session = handle.session(case.inputs, graphs=backend != "onnxruntime")
    outputs = {n: np.asarray(y) for n, y in session.run(case.inputs).items()}
    error = frame.error_of(outputs, frame.reference(case))
    report.checks.append(Check("error", subject, error, "relative", None, frame.MOST_ERROR))

    on_gpu = session.bind(**{n: on_device(a) for n, a in case.inputs.items()})
    times = {"compute": _calls_us(on_gpu, rounds)}
    for name, kind, arrays in (
        ("copy in", TO_DEVICE, case.inputs),
        ("copy out", TO_HOST, outputs),
    ):
        floor = CopyFloor(sum(a.nbytes for a in arrays.values()))
        times[name] = floor.us(kind, rounds)
        floor.close()
    bindings = [handle.lane(case.inputs, outputs) for _ in range(max(LANES))]
    times["one after the other"] = _calls_us(bindings[0], rounds)
    for name, us in times.items():
        report.series.append(Series(subject, name, "us", summarize(us).as_dict(), curve(us)))
    medians = {name: float(np.median(us)) for name, us in times.items()}
    largest = max(("copy in", "compute", "copy out"), key=lambda n: medians[n])
    per_call = max(medians["one after the other"], 1.0)
    calls = max(5, min(400, int((1e5 if rounds < 30 else 4e5) / per_call)))
    best = 0.0
    for count in LANES:
        for binding in bindings[:count]:
            for _ in range(3):
                binding()
        us = [overlapped_us(bindings[:count], calls) for _ in range(3 if rounds < 30 else 7)]
        summary = summarize(us)
        detail: dict[str, object] = {"lanes": count}
        name = f"{count} lanes"
        report.series.append(Series(subject, name, "us", summary.as_dict(), curve(us), detail))
        best = max(best, medians[largest] / summary.median)
    together = sum(medians[n] for n in ("copy in", "compute", "copy out"))
    report.checks += [
        Check(f"{largest} alone / overlapped", subject, best, "x", None, TARGET, ">="),
        Check("copies + compute / one after the other", subject, together / per_call, "x"),
    ]


def run(options: Options) -> Report:
    report = frame.new_report("overlap", TITLE, options)
    rounds = 10 if options.quick else 100
    report.settings |= {"rounds": rounds, "lanes": LANES}
    cases = [models.balanced(options.models, 16 if stand_in() else models.BALANCED_ROWS)]
    if not stand_in():
        cases.append(models.resnet50(options.models, 64))
    for case in cases:
        for backend in BACKENDS:
            if options.late(report, f"{case.name}, {backend}"):
                continue
            progress(f"gpu_overlap: {case.name}, {backend}")
            try:
                _measure(report, case, backend, rounds)
            except Exception as error:  # the other backends may still run
                note = frame.note_of(error)
                subject = f"{case.name}, {backend}"
                report.checks.append(Check("left out", subject, None, "", note=note))
                progress(f"    left out: {note}")
            report.write(options.out)
    return report


if __name__ == "__main__":
    frame.main(run, TITLE)
