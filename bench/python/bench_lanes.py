# SPDX-License-Identifier: Apache-2.0
"""Lanes: N of them beside one session with N threads, and what a hand-off to one costs.

A hand-off is timed with a model of one small operator; what the operator takes by a direct call is
subtracted, so that the round trip alone remains.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

import zerolane as zl
from bench import models, settings
from bench.results import Check, Report, Series
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from zerolane import _native

NAME = "lanes"
TITLE = "lanes beside one session with as many threads"
TARGETS = {"squeezenet": 1.05, "shufflenet": 1.25}


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds, seconds = (3, 1.0) if options.quick else (10, 3.0)
    report.settings |= {"rounds": rounds, "seconds_a_round": seconds}
    for name in TARGETS:
        _throughput(report, name, rounds, seconds)
    _hand_off(report, 2000 if options.quick else 20_000)
    return report


def _throughput(report: Report, name: str, rounds: int, seconds: float) -> None:
    """Runs a second of N lanes, of one lane, and of one session of the peer with N threads."""
    import onnxruntime

    count = _native.usable_cpus()
    path = models.light(name)
    progress(f"{NAME}: {name}, {rounds} rounds of {seconds} s")
    session = zl.load(path, threads=1)
    spec = session.inputs[0]
    x = np.random.default_rng(0).standard_normal(spec.shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count
    peer = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session(x), peer.run(None, {spec.name: x})[0], rtol=1e-4, atol=1e-6)
    rates: dict[str, list[float]] = {"lanes": [], "one lane": [], "peer": []}
    with zl.Lanes(session, count) as many, zl.Lanes(session, 1) as one:
        for _ in range(rounds):
            rates["lanes"].append(_rate(lambda n: sum(1 for _ in many.map(repeat(x, n))), seconds))
            rates["peer"].append(
                _rate(lambda n: sum(1 for _ in range(n) if peer.run(None, {spec.name: x})), seconds)
            )
            rates["one lane"].append(
                _rate(lambda n: sum(1 for _ in one.map(repeat(x, n))), seconds)
            )
    over = [a / b for a, b in zip(rates["lanes"], rates["peer"], strict=True)]
    scale = [a / b / count for a, b in zip(rates["lanes"], rates["one lane"], strict=True)]
    report.checks += [
        Check(f"{count} lanes", name, median(rates["lanes"]), "/s"),
        Check("one lane", name, median(rates["one lane"]), "/s"),
        Check(f"onnxruntime.run, {count} threads", name, median(rates["peer"]), "/s"),
        Check(
            "lanes over the peer",
            name,
            median(over),
            "x",
            (min(over), max(over)),
            TARGETS[name],
            ">=",
        ),
        Check(
            f"{count} lanes over {count} x one lane",
            name,
            median(scale),
            "x",
            (min(scale), max(scale)),
            0.95,
            ">=",
        ),
    ]


def _rate(work: Any, seconds: float) -> float:
    """Runs a second, in parts of sixteen."""
    done = 0
    begin = time.perf_counter()
    while time.perf_counter() < begin + seconds:
        done += work(16)
    return done / (time.perf_counter() - begin)


def _hand_off(report: Report, calls: int) -> None:
    progress(f"{NAME}: hand-offs")
    case = models.one_operator(settings.BUILD_FOLDER / "models")
    session = zl.load(case.path, threads=1)
    (x,) = case.inputs.values()
    bound = session.bind(x)
    direct = _times(lambda: session(x), calls)
    report.checks.append(Check("direct call", "hand-off", median(direct), "us"))
    pool = ThreadPoolExecutor(1)
    with zl.Lanes(session, 1, spin_us=100) as warm, zl.Lanes(session, 1) as asleep:
        rows = {
            "lane that spins": _times(lambda: warm.submit(x).result(), calls),
            "lane that sleeps": _times(lambda: asleep.submit(x).result(), calls),
            "concurrent.futures": _times(lambda: pool.submit(bound).result(), calls),
        }
    pool.shutdown()
    for name, times in rows.items():
        own = median(direct)
        hand_off = median(times) - own
        target = 3.0 if name == "lane that spins" else None
        report.checks.append(
            Check(f"{name}, round trip without the call", "hand-off", hand_off, "us", None, target)
        )
        report.series.append(
            Series("hand-off", name, "us", summarize(times).as_dict(), curve(times))
        )
    ratio = median(rows["lane that sleeps"]) / median(rows["concurrent.futures"])
    report.checks.append(Check("asleep over concurrent.futures", "hand-off", ratio, "x", None, 1.0))


def _times(call: Any, calls: int) -> list[float]:
    for _ in range(calls // 10):
        call()
    times = []
    for _ in range(calls):
        begin = perf_counter_ns()
        call()
        times.append((perf_counter_ns() - begin) / 1e3)
    return times


if __name__ == "__main__":
    settings.main(run, TITLE)
