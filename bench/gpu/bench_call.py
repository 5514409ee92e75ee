# SPDX-License-Identifier: Apache-2.0
"""Latency of one call at batch 1: zerolane against onnxruntime, the vendor's bindings and torch.

Everyone's answer is compared with ONNX Runtime's on the CPU first. Ratios are of neighbouring
blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

import numpy as np

from bench.gpu import frame
from bench.gpu.floor import TO_DEVICE, TO_HOST, CopyFloor
from bench.gpu.frame import Options
from bench.gpu.rivals import all_drivers
from bench.models import Case
from bench.results import Check, Report, ratio_check
from bench.rivals.contract import Driver, Feed
from bench.settings import progress
from bench.timing import Timing

TITLE = "latency of one call on a GPU, batch 1, interleaved blocks"

# The peer's kind and ours: the same work with memory in the same places.
PEERS = (
    ("onnxruntime.iobinding", ("device", "graph")),
    ("onnxruntime.graph", ("graph",)),
    ("onnxruntime.run", ("call", "bound", "host")),
    ("vendor(rtx).device", ("device",)),
    ("vendor(rtx).graph", ("graph",)),
    ("vendor(rtx).host", ("host",)),
    ("vendor(trt).device", ("device",)),
    ("vendor(trt).graph", ("graph",)),
    ("vendor(trt).host", ("host",)),
    ("torch.eager", ("device", "graph")),
    ("torch.graph", ("graph",)),
    ("torch.host graph", ("host",)),
)
OURS = ("zerolane(rtx)", "zerolane(trt)", "zerolane(ort)")


def ratios(subject: str, teams: Sequence[dict[str, Timing]]) -> list[Check]:
    """How many times as long the peer takes. No target but to be no slower than the same route.

    Of neighbouring blocks where both ran in one process, else of medians.
    """
    checks = []
    for peer, kinds in PEERS:
        for name in (f"{ours}.{kind}" for ours in OURS for kind in kinds):
            target = 1.0 if _same_library(peer, name.split(".")[0]) else None
            measure = f"{peer} / {name}"
            both = next((t for t in teams if peer in t and name in t), None)
            tops = [t[peer] for t in teams if peer in t]
            bottoms = [t[name] for t in teams if name in t]
            if both is not None:
                ratio = both[peer].over(both[name])
                checks.append(ratio_check(measure, subject, ratio, target, ">="))
            elif tops and bottoms:
                value = _median_us(tops[0]) / _median_us(bottoms[0])
                note = "medians of two processes"
                checks.append(Check(measure, subject, value, "x", None, target, ">=", note))
    return checks


def _median_us(timing: Timing) -> float:
    return float(np.median(timing.blocks)) / 1000


def _same_library(peer: str, ours: str) -> bool:
    pairs = {"onnxruntime": "zerolane(ort)", "vendor(rtx)": "zerolane(rtx)"}
    pairs["vendor(trt)"] = "zerolane(trt)"
    return pairs.get(peer.split(".")[0]) == ours


def _teams() -> tuple[list[Driver], list[Driver]]:
    """Everyone but the onnxruntime package, then that one beside those who do not disturb it."""
    drivers = list(all_drivers())
    package = [d for d in drivers if d.name == "onnxruntime"]
    others = [d for d in drivers if d.name != "onnxruntime"]
    beside = [d for d in others if d.name in ("zerolane(rtx)", "zerolane(trt)")]
    return others, package + beside


def copy_floor_us(case: Case, wanted: Feed) -> float:
    """Time of the input's and the output's bytes over the bus, each copied at once."""
    total = 0.0
    for arrays, kind in ((case.inputs, TO_DEVICE), (wanted, TO_HOST)):
        count = sum(a.nbytes for a in arrays.values())
        floor = CopyFloor(max(count, 1))
        us = sorted(floor.us(kind))
        total += us[len(us) // 2]
        floor.close()
    return total


def run(options: Options) -> Report:
    report = frame.new_report("call", TITLE, options)
    plan = options.plan()
    report.settings |= {"plan": vars(plan), "most_error": frame.MOST_ERROR}
    for case in frame.cases(options):
        if options.late(report, case.name):
            continue
        progress(f"gpu_call: {case.name}")
        wanted = frame.reference(case)
        teams: list[dict[str, Timing]] = []
        for team in _teams():
            try:
                checks, timings = frame.apart(frame.race, options, case, wanted, team, plan)
            except BrokenProcessPool as error:  # the other team may still run
                who = ", ".join(d.name for d in team)
                report.checks.append(Check(who, case.name, None, "", note=frame.note_of(error)))
                continue
            known = {s.contestant for s in report.series if s.subject == case.name}
            fresh = {name: t for name, t in timings.items() if name not in known}
            told = {c.measure for c in report.checks if c.subject == case.name}
            report.series += frame.latency_series(case.name, fresh)
            report.checks += [c for c in checks if c.measure not in told]
            teams.append(timings)
        report.checks += ratios(case.name, teams)
        timings = {name: t for team in reversed(teams) for name, t in team.items()}
        floor = copy_floor_us(case, wanted)
        report.checks.append(Check("copy floor", case.name, floor, "us"))
        for ours in OURS:
            host, graph = timings.get(f"{ours}.host"), timings.get(f"{ours}.graph")
            if host is not None and graph is not None:
                measure = f"{ours}.host / (copies + {ours}.graph)"
                value = _median_us(host) / (floor + _median_us(graph))
                report.checks.append(Check(measure, case.name, value, "x"))
        report.write(options.out)  # what is known stays known
    return report


if __name__ == "__main__":
    frame.main(run, TITLE)
