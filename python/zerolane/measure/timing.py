"""Times calls of several contestants in turn, so that all of them see the same machine."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns

import numpy as np
from numpy.typing import NDArray

from zerolane.errors import InvalidArgument
from zerolane.measure.progress import Report

Call = Callable[[], object]

_MOST_CALLS = 200_000
_ROUNDS = 50
_WARM_UP_S = 0.2


@dataclass(frozen=True, slots=True)
class Latency:
    """Order statistics of calls timed one by one, in microseconds."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float

    @classmethod
    def of(cls, us: NDArray[np.float64]) -> Latency:
        p50, p90, p99, p999 = (float(p) for p in np.percentile(us, (50, 90, 99, 99.9)))
        return cls(p50, p90, p99, p999, float(us.max()), float(us.mean()))


@dataclass(frozen=True, slots=True)
class Ratio:
    """A ratio of times: the median of the quotients of neighbouring blocks, and their spread."""

    median: float
    p25: float
    p75: float

    @classmethod
    def of(cls, top: Timing, bottom: Timing) -> Ratio:
        p25, p50, p75 = np.percentile(top.blocks_us / bottom.blocks_us, (25, 50, 75))
        return cls(float(p50), float(p25), float(p75))


@dataclass(frozen=True, slots=True, eq=False)
class Timing:
    """Microseconds of every call in order, and the median of each block of calls.

    Each call carries the cost of reading the clock, some 50 ns.
    """

    samples_us: NDArray[np.float64]
    blocks_us: NDArray[np.float64]


def interleave(
    contestants: Mapping[str, Sequence[Call]],
    *,
    calls: int | None,
    seconds: float,
    warmup: int | None,
    report: Report,
) -> dict[str, Timing]:
    """Time every contestant in blocks, A B A B, up to 50 blocks each, and return the times by name.

    contestants: for each the calls to make, over and over again.
    calls: timed calls of each; None: what takes the slowest about `seconds`, 20 to 200,000.
    warmup: calls before the first timed one; None: what fits in 0.2 s, at least three.
    The first call of a block refills the caches and is not timed. The garbage collector is off.
    """
    _check(calls, seconds, warmup)
    turns = {name: itertools.cycle(list_of_calls) for name, list_of_calls in contestants.items()}
    typical_us = 0.0
    for step, (name, turn) in enumerate(turns.items()):
        report(0.0 if step == 0 else 0.01, f"warming up {name}")
        typical_us = max(typical_us, _warm_up(turn, warmup))
    count = calls or max(20, min(_MOST_CALLS, int(seconds * 1e6 / typical_us)))
    rounds = min(_ROUNDS, max(1, count // 5))
    sizes = [count // rounds + (r < count % rounds) for r in range(rounds)]
    times: dict[str, list[list[int]]] = {name: [] for name in turns}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for done, size in enumerate(sizes):
            report(done / rounds, f"timing {' and '.join(turns)}")
            for name, turn in turns.items():
                next(turn)()
                times[name].append(_time(list(itertools.islice(turn, size))))
    finally:
        if collecting:
            gc.enable()
    report(1.0, f"timed {' and '.join(turns)}")
    return {
        name: Timing(
            np.concatenate([np.asarray(block, np.float64) for block in blocks]) / 1e3,
            np.asarray([np.median(block) for block in blocks]) / 1e3,
        )
        for name, blocks in times.items()
    }


def _time(calls: Iterable[Call]) -> list[int]:
    times: list[int] = []
    add, clock = times.append, perf_counter_ns
    for call in calls:
        start = clock()
        call()
        add(clock() - start)
    return times


def _warm_up(turn: Iterable[Call], warmup: int | None) -> float:
    """Microseconds that a warm call takes, at least a tenth of one."""
    end = time.perf_counter() + _WARM_UP_S
    times: list[int] = []
    for call in turn:
        times += _time([call])
        enough = time.perf_counter() > end and len(times) >= 3
        if enough if warmup is None else len(times) >= max(1, warmup):
            break
    return max(0.1, float(np.median(times[len(times) // 2 :])) / 1e3)


def _check(calls: int | None, seconds: float, warmup: int | None) -> None:
    for name, value, ok, expected in (
        ("calls", calls, calls is None or (type(calls) is int and calls >= 1), "an int from 1 on"),
        ("seconds", seconds, 0 < seconds < float("inf"), "a positive number"),
        (
            "warmup",
            warmup,
            warmup is None or (type(warmup) is int and warmup >= 0),
            "a number of calls, or None",
        ),
    ):
        if not ok:
            raise InvalidArgument(
                f"reading {name!r} of a benchmark: it is {value!r}, expected {expected}; "
                "leave it out for the default",
                name,
            )
