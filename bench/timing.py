# SPDX-License-Identifier: Apache-2.0
"""Times calls of several contestants in interleaved blocks: A B C, B C A, C A B, ..."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.rivals.contract import Form
from bench.stats import Ratio, paired_ratio

Samples = NDArray[np.float64]


@dataclass(frozen=True)
class Plan:
    """How much is measured. A block has `batches` batches, then calls timed one by one.

    A batch holds enough calls to last `batch_us`, so that the clock's own cost (some 50 ns)
    vanishes in it; the single calls show the tail and carry that cost.
    """

    rounds: int
    batches: int = 15
    batch_us: float = 100.0
    most_singles: int = 150
    singles_us: float = 7500.0
    warm_up_s: float = 0.2

    def singles_of(self, ns: float) -> int:
        """How many calls of `ns` each are timed alone in a block: five at least."""
        return max(5, min(self.most_singles, int(self.singles_us * 1000 / ns)))

    @classmethod
    def of(cls, quick: bool) -> Plan:
        return cls(rounds=30) if quick else cls(rounds=200)


@dataclass(frozen=True)
class Timing:
    """Nanoseconds per call: a median for each block, and every call that was timed alone."""

    blocks: Samples
    singles: Samples

    def over(self, other: Timing) -> Ratio:
        """This one's time divided by the other's, block by block."""
        return paired_ratio(list(self.blocks), list(other.blocks))


def python_batches(
    fn: Callable[..., object], args: tuple[Any, ...], batches: int, calls: int
) -> list[int]:
    """Nanoseconds of each batch; the call is spelled out for each number of arguments."""
    out: list[int] = []
    if len(args) == 0:
        for _ in repeat(None, batches):
            start = perf_counter_ns()
            for _ in repeat(None, calls):
                fn()
            out.append(perf_counter_ns() - start)
    elif len(args) == 1:
        (a,) = args
        for _ in repeat(None, batches):
            start = perf_counter_ns()
            for _ in repeat(None, calls):
                fn(a)
            out.append(perf_counter_ns() - start)
    elif len(args) == 2:
        a, b = args
        for _ in repeat(None, batches):
            start = perf_counter_ns()
            for _ in repeat(None, calls):
                fn(a, b)
            out.append(perf_counter_ns() - start)
    else:
        for _ in repeat(None, batches):
            start = perf_counter_ns()
            for _ in repeat(None, calls):
                fn(*args)
            out.append(perf_counter_ns() - start)
    return out


def measure_batches(form: Form, batches: int, calls: int) -> list[int]:
    if form.native is not None:
        return form.native(batches, calls)
    return python_batches(form.fn, form.args, batches, calls)


def calls_per_batch(form: Form, plan: Plan) -> int:
    """Warms the form up, and returns how many calls last about `batch_us`."""
    calls = 1
    end = time.perf_counter() + plan.warm_up_s
    per_call = float("inf")
    while time.perf_counter() < end:
        per_call = min(per_call, measure_batches(form, 1, calls)[0] / calls)
        calls = max(1, round(plan.batch_us * 1000 / per_call))
    return calls


def interleave(forms: Sequence[Form], plan: Plan) -> dict[str, Timing]:
    """Times every form in turn, `plan.rounds` times, each round starting with the next form.

    The collector is off meanwhile, as in timeit. Keys are the forms' names.
    """
    calls = {f.name: calls_per_batch(f, plan) for f in forms}
    blocks: dict[str, list[float]] = {f.name: [] for f in forms}
    singles: dict[str, list[int]] = {f.name: [] for f in forms}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for r in range(plan.rounds):
            first = r % len(forms)
            for form in (*forms[first:], *forms[:first]):
                n = calls[form.name]
                _refill, *block = measure_batches(form, plan.batches + 1, n)
                per_call = float(np.median(block)) / n
                blocks[form.name].append(per_call)
                singles[form.name] += measure_batches(form, plan.singles_of(per_call), 1)
    finally:
        if collecting:
            gc.enable()
    return {
        f.name: Timing(np.asarray(blocks[f.name]), np.asarray(singles[f.name], np.float64))
        for f in forms
    }
