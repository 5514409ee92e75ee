"""Successive halving over ways to run a model: measured in turn, the slower half given up.

Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter optimization",
AISTATS 2016: each round gets an equal part of the budget, and half of those left go after it. Here
a round is made of sweeps, and in a sweep everyone left is measured once, in an order that changes:
a noisy neighbour hits all. Who is surely behind goes before the end of a round.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from zerolane.measure.progress import Report
from zerolane.tuning.rank import quantile_exceeds, sign_test
from zerolane.tuning.setting import Setting

SWEEPS = 5  # a round
LAST_SWEEPS = 15  # of the round that decides
FINALISTS = 3
TIE = 1.05  # nobody this close to the best is given up for being in the slower half
ALPHA = 0.01


@dataclass(frozen=True, slots=True)
class Block:
    """Calls of one setting, one after the other.

    us: microseconds of each call. wall_us: from the first to the end of the last. rows: in all.
    """

    us: tuple[float, ...]
    wall_us: float
    rows: int


class Unusable(Exception):
    """A setting that cannot be run; the text is the reason."""


@dataclass(slots=True)
class Trail:
    """What a search knows of a setting: blocks by sweep, and why it was given up."""

    setting: Setting
    blocks: dict[int, Block] = field(default_factory=dict)
    dropped: str = ""
    broken: bool = False

    @property
    def us(self) -> list[float]:
        return [us for block in self.blocks.values() for us in block.us]


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds, from when it was made. clock: a function that returns seconds."""

    seconds: float
    clock: Callable[[], float] = time.perf_counter
    start: float = field(default=-1.0)

    @classmethod
    def begin(cls, seconds: float, clock: Callable[[], float] = time.perf_counter) -> Budget:
        return cls(seconds, clock, clock())

    @property
    def used(self) -> float:
        return self.clock() - self.start

    @property
    def left(self) -> float:
        return self.seconds - self.used


@dataclass(slots=True)
class Search:
    """The search. `run` may be called again with more budget: it goes on.

    measure: runs a setting for about so many seconds; raises Unusable.
    cost: of a block, in the unit in which settings are compared; less is better.
    baseline: never given up, so that everyone has blocks beside it.
    p99_us: who surely has more than 1 % of the calls above it is given up.
    record: is told of each block (setting, sweep, block) and of each one given up.
    """

    trails: list[Trail]
    measure: Callable[[Setting, float], Block]
    cost: Callable[[Block], float]
    baseline: Setting
    budget: Budget
    report: Report
    p99_us: float | None = None
    seed: int = 0
    on_block: Callable[[Trail, int, Block], object] = lambda trail, sweep, block: None
    on_drop: Callable[[Trail], object] = lambda trail: None

    @property
    def alive(self) -> list[Trail]:
        return [trail for trail in self.trails if not trail.dropped]

    def run(self) -> bool:
        """Returns whether the search came to its end; False: the budget ended first."""
        first = 1 + max((s for t in self.trails for s in t.blocks), default=-1)
        if any(t.blocks.keys() != {*range(first)} for t in self.alive):
            # The sweep in which the last run ended is done again by those who have not been in it.
            first = max(0, first - 1)
        rounds = 1 + max(0, math.ceil(math.log2(max(1, len(self.alive)) / FINALISTS)))
        sweep = first
        for done in range(rounds):
            end = self.budget.used + self.budget.left / (rounds - done)
            turns = SWEEPS if done < rounds - 1 else LAST_SWEEPS
            for turn in range(turns):
                if not self._sweep(sweep, (end - self.budget.used) / (turns - turn), done, rounds):
                    return False
                if self._base.broken:
                    return False  # nothing to compare with
                sweep += 1
                self._drop_hopeless()
            if done < rounds - 1:
                self._halve()
        return True

    def ratios(self, one: Trail, other: Trail) -> list[float]:
        """Costs of one over those of the other, in the sweeps that both were in."""
        both = sorted(one.blocks.keys() & other.blocks.keys())
        return [self.cost(one.blocks[s]) / self.cost(other.blocks[s]) for s in both]

    def ranked(self, trails: Iterable[Trail]) -> list[Trail]:
        """The best first, by the median of the ratios to the baseline; without blocks: last."""
        base = self._base

        def rank(trail: Trail) -> float:
            ratios = self.ratios(trail, base)
            return float(np.median(ratios)) if ratios else math.inf

        return sorted(trails, key=rank)  # stable: of equals the one that came first

    def _sweep(self, sweep: int, seconds: float, done: int, rounds: int) -> bool:
        order = [t for t in self.alive if sweep not in t.blocks]
        random.Random(f"{self.seed}/{sweep}").shuffle(order)
        if sweep == 0:
            order = self._first(order)
        for trail in order:
            self.report(
                min(0.99, self.budget.used / self.budget.seconds),
                f"tuning, round {done + 1} of {rounds}, {len(self.alive)} left: {trail.setting}",
            )
            owed = trail.setting == self.baseline and not trail.blocks
            if not owed and self.budget.left <= self._least(trail):
                return False
            try:
                block = self.measure(trail.setting, max(0.0, seconds) / len(order))
            except Unusable as reason:
                self._drop(trail, str(reason), broken=True)
                continue
            trail.blocks[sweep] = block
            self.on_block(trail, sweep, block)
        return True

    def _first(self, order: Sequence[Trail]) -> list[Trail]:
        """The baseline, which is measured whatever the budget, one of each artefact, the others.

        So a budget that ends in the first sweep has seen all that time was spent on making.
        """
        firsts = {t.setting.artefact: t.setting for t in reversed(order)}
        firsts[self.baseline.artefact] = self.baseline
        chosen = {*firsts.values()}
        return sorted(order, key=lambda t: (t.setting != self.baseline, t.setting not in chosen))

    @staticmethod
    def _least(trail: Trail) -> float:
        """Seconds that a block of it takes at least, as far as is known."""
        return min((b.wall_us / len(b.us) for b in trail.blocks.values()), default=0.0) / 1e6

    def _drop(self, trail: Trail, why: str, *, broken: bool = False) -> None:
        trail.dropped, trail.broken = why, broken
        self.on_drop(trail)

    def _drop_hopeless(self) -> None:
        """Who breaks the limit of p99, and who was slower than the best in nearly every sweep."""
        if self.p99_us is not None:
            for trail in self._others():
                us = trail.us
                above = sum(u > self.p99_us for u in us)
                if quantile_exceeds(above, len(us), 0.01, ALPHA):
                    self._drop(trail, f"{above} of {len(us)} calls beyond the limit of p99")
        best = self._leader()
        for trail in self._others():
            ratios = self.ratios(trail, best)
            if trail is best or not ratios:
                continue
            median = float(np.median(ratios))
            if median > TIE and sign_test(ratios) < ALPHA:
                self._drop(trail, f"{median:.2f} x the best's time, surely slower")

    def _halve(self) -> None:
        ordered, best = self.ranked(self.alive), self._leader()
        keep = max(FINALISTS, math.ceil(len(ordered) / 2))
        for trail in ordered[keep:]:
            median = float(np.median(self.ratios(trail, best)))
            if trail.setting != self.baseline and median > TIE:
                self._drop(trail, f"{median:.2f} x the best's time, in the slower half")

    @property
    def _base(self) -> Trail:
        return next(t for t in self.trails if t.setting == self.baseline)

    def _leader(self) -> Trail:
        """The best of those left that are not known to break the limit of p99."""
        limit = self.p99_us
        within = [
            t
            for t in self.alive
            if limit is None or (t.us and float(np.percentile(t.us, 99)) <= limit)
        ]
        return self.ranked(within or self.alive)[0]

    def _others(self) -> Sequence[Trail]:
        return [t for t in self.alive if t.setting != self.baseline]
