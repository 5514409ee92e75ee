# SPDX-License-Identifier: Apache-2.0
"""Resident memory over a million calls: bound, free, with random shapes, from many threads.

Each scenario runs in a process of its own. "Flat" is a growth of at most 1 MiB after warm-up: one
byte a call, when the smallest block a heap can lose is sixteen.
"""

from __future__ import annotations

import gc
import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from bench import models, settings
from bench.environment import memory_kib
from bench.results import Check, Report, Series
from bench.rivals.onnxruntime import OnnxRuntimeDriver
from bench.rivals.zerolane import ZerolaneDriver
from bench.settings import Settings, progress

NAME = "memory"
TITLE = "resident memory over many calls"
POINTS = 20
CALLER_THREADS = 8
FLAT_KIB = 1024

Work = Callable[[int], None]


@dataclass(frozen=True)
class Scenario:
    """`prepare(path, threads)` returns the work: a function that makes a number of calls."""

    name: str
    prepare: Callable[[Path, int], Work]
    judged: bool = True


def _session(path: Path, threads: int) -> Any:
    return ZerolaneDriver().load(path, threads).session


def bound(path: Path, threads: int) -> Work:
    b = _session(path, threads).bind(x=(1, 4))

    def work(calls: int) -> None:
        for _ in repeat(None, calls):
            b()

    return work


def fixed_shape(path: Path, threads: int) -> Work:
    return _caller(_session(path, threads), [np.ones((1, 4), np.float32)])


def random_shapes(path: Path, threads: int) -> Work:
    return _caller(_session(path, threads), _random_arrays())


def peer_random_shapes(path: Path, threads: int) -> Work:
    handle = OnnxRuntimeDriver().load(path, threads)
    feeds = [{"x": a} for a in _random_arrays()]
    return _caller(handle.run, feeds)


def many_threads(path: Path, threads: int) -> Work:
    work = _caller(_session(path, threads), _random_arrays())

    def spread(calls: int) -> None:
        share = calls // CALLER_THREADS
        callers = [threading.Thread(target=work, args=(share,)) for _ in range(CALLER_THREADS)]
        for t in callers:
            t.start()
        for t in callers:
            t.join()

    return spread


def _random_arrays() -> list[Any]:
    """A thousand shapes up to 64 by 64, made beforehand: only the callee's memory can grow."""
    rng = np.random.default_rng(0)
    return [np.ones(tuple(rng.integers(1, 65, 2)), np.float32) for _ in range(1000)]


def _caller(fn: Callable[[Any], object], arguments: list[Any]) -> Work:
    def work(calls: int) -> None:
        for start in range(0, calls, len(arguments)):
            for a in arguments[: calls - start]:
                fn(a)

    return work


SCENARIOS = (
    Scenario("bound, fixed shape", bound),
    Scenario("s(x), fixed shape", fixed_shape),
    Scenario("s(x), random shapes", random_shapes),
    Scenario(f"s(x), random shapes, {CALLER_THREADS} threads", many_threads),
    Scenario("onnxruntime run, random shapes", peer_random_shapes, judged=False),
)


def watch(scenario: Scenario, path: Path, threads: int, calls: int) -> list[int]:
    """Resident KiB after warm-up and after each of POINTS equal parts of the calls."""
    work = scenario.prepare(path, threads)
    work(max(calls // 20, 8000))
    gc.collect()
    sizes = [memory_kib()] * (POINTS + 1)  # filled in place: the list must not be what grows
    for i in range(1, POINTS + 1):
        work(calls // POINTS)
        sizes[i] = memory_kib()
    return sizes


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    path = models.dynamic_operator(settings.BUILD_FOLDER / "models").path
    calls = 100_000 if options.quick else 1_000_000
    report.settings |= {"calls": calls}
    spawn = multiprocessing.get_context("spawn")
    for scenario in SCENARIOS:
        progress(f"{NAME}: {scenario.name}, {calls} calls")
        with ProcessPoolExecutor(1, mp_context=spawn) as fresh:
            try:
                sizes = fresh.submit(watch, scenario, path, options.threads, calls).result()
            except ImportError as reason:
                note = str(reason)
                report.checks.append(Check("left out", scenario.name, None, "", note=note))
                continue
        growth = sizes[-1] - sizes[0]
        target = float(FLAT_KIB) if scenario.judged else None
        note = f"{sizes[0] / 1024:.1f} MiB at start, highest {max(sizes) / 1024:.1f}"
        report.checks.append(
            Check("growth", scenario.name, float(growth), "KiB", None, target, note=note)
        )
        detail: dict[str, object] = {"rss_kib": sizes}
        report.series.append(
            Series(
                scenario.name, "resident", "KiB", {"median": float(np.median(sizes))}, [], detail
            )
        )
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
