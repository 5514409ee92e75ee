# SPDX-License-Identifier: Apache-2.0
"""What a bound call costs beyond the bare launch of the same graph and the wait for it.

The floor is a C loop that launches a graph of the same engine, captured from an execution context
of the vendor's bindings. Where those are not installed, or the engine is not one of theirs, the
floor is a graph of one node: the kernels' time then counts against us, and there is no target.
"""

from __future__ import annotations

from typing import Any

from bench.gpu import frame
from bench.gpu.floor import Captured, bare_graph
from bench.gpu.frame import Options
from bench.gpu.machine import stand_in
from bench.gpu.rivals.tensorrt_python import TensorRtPythonDriver
from bench.gpu.rivals.zerolane_gpu import ZerolaneGpuDriver
from bench.models import Case
from bench.results import Check, Report
from bench.rivals.contract import Feed, Form
from bench.settings import progress
from bench.stats import summarize
from bench.timing import Timing, interleave

TITLE = "bound calls with and without a graph, over the bare graph launch"
TARGET_US = 10.0
BACKENDS = ("tensorrt-rtx", "tensorrt", "onnxruntime")


def same_engine(case: Case, wanted: Feed, backend: str) -> Captured:
    """The engine's work as a graph of the table, from a context of the vendor's bindings."""
    runner = TensorRtPythonDriver(backend).load(case.path, 1).runner(case.inputs, wanted)

    def enqueue(stream: int) -> None:
        if not runner.context.execute_async_v3(stream):
            raise RuntimeError("execute_async_v3 was refused")

    return Captured(enqueue, runner)


def over_the_floor(ours: Timing, floor: Timing) -> tuple[float, tuple[float, float]]:
    """Median and middle half of the difference of neighbouring blocks, in microseconds."""
    difference = summarize((ours.blocks - floor.blocks) / 1000)
    return difference.median, (difference.p25, difference.p75)


def run(options: Options) -> Report:
    report = frame.new_report("graph", TITLE, options)
    plan = options.plan()
    report.settings |= {"plan": vars(plan)}
    for case in frame.cases(options):
        wanted = frame.reference(case)
        for backend in BACKENDS:
            if options.late(report, f"{case.name}, {backend}"):
                continue
            progress(f"gpu_graph: {case.name}, {backend}")
            _measure(report, case, wanted, backend, plan)
            report.write(options.out)
    return report


def _measure(report: Report, case: Case, wanted: Feed, backend: str, plan: Any) -> None:
    subject = f"{case.name}, {backend}"
    kinds = ("graph", "device")
    found = frame.contestants(case, wanted, [ZerolaneGpuDriver(backend)], kinds)
    report.checks += found.checks
    if not found.forms:
        return
    exact, floor = False, bare_graph()
    if backend != "onnxruntime" and not stand_in():
        try:
            floor = same_engine(case, wanted, backend)
            exact = True
        except Exception as error:  # the vendor's bindings may be missing or refuse to be captured
            note = frame.note_of(error)
            report.checks.append(Check("exact floor left out", subject, None, "", note=note))
    name = "c.graph" if exact else "c.graph of one node"
    forms: list[Form] = [floor.form(name, lambda: wanted), *found.forms]
    timings = interleave(forms, plan)
    report.series += frame.latency_series(subject, timings)
    for form in found.forms:
        value, spread = over_the_floor(timings[form.name], timings[name])
        target = TARGET_US if exact and form.name.endswith(".graph") else None
        measure = f"{form.name} - {name}"
        report.checks.append(Check(measure, subject, value, "us", spread, target))
    if exact:
        device = floor.device_us()
        report.checks.append(Check("kernel time floor", subject, device, "us"))
        for form in found.forms:
            median = summarize(timings[form.name].blocks / 1000).median
            report.checks.append(Check(f"{form.name} / kernel time", subject, median / device, "x"))


if __name__ == "__main__":
    frame.main(run, TITLE)
