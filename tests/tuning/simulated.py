"""A machine whose clock moves only when something is measured on it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from zerolane.tuning.halving import Block, Budget, Search, Trail
from zerolane.tuning.setting import Setting


def ways(count: int) -> list[Setting]:
    """So many settings, told apart by their threads; the first is the baseline."""
    return [Setting(threads=n) for n in range(1, count + 1)]


@dataclass
class Machine:
    """true_us: of a call of each setting. mood: what a neighbour makes of it at a time.

    spikes: the share of calls that take 20 times as long. load_s: for the first block.
    """

    true_us: dict[Setting, float]
    noise: float = 0.03
    mood: Callable[[float], float] = lambda now: 1.0
    spikes: dict[Setting, float] = field(default_factory=dict)
    load_s: float = 0.0
    now: float = 0.0
    broken: frozenset[Setting] = frozenset()
    measured: list[Setting] = field(default_factory=list)
    seed: int = 0

    def clock(self) -> float:
        return self.now

    def measure(self, setting: Setting, seconds: float) -> Block:
        from zerolane.tuning.halving import Unusable

        if setting in self.broken:
            raise Unusable("broken here")
        if setting not in self.measured:
            self.now += self.load_s
        self.measured.append(setting)
        rng = random.Random(f"{self.seed}/{len(self.measured)}")
        calls = max(3, min(200, int(seconds * 1e6 / self.true_us[setting])))
        us = []
        for turn in range(calls):
            spiked = turn < calls * self.spikes.get(setting, 0.0)
            one = self.true_us[setting] * rng.lognormvariate(0, self.noise) * (20 if spiked else 1)
            us.append(one * self.mood(self.now))
        self.now += sum(us) / 1e6
        return Block(tuple(us), sum(us), calls)


def cost(block: Block) -> float:
    return float(np.median(block.us))


def search(
    machine: Machine,
    seconds: float,
    *,
    trails: Sequence[Trail] | None = None,
    seed: int = 0,
    p99_us: float | None = None,
    told: list[str] | None = None,
) -> Search:
    settings = list(machine.true_us)
    lines = [] if told is None else told
    return Search(
        [Trail(s) for s in settings] if trails is None else list(trails),
        machine.measure,
        cost,
        settings[0],
        Budget.begin(seconds, machine.clock),
        lambda done, doing: None,
        p99_us=p99_us,
        seed=seed,
        on_block=lambda trail, sweep, block: lines.append(f"{trail.setting.key} {sweep}"),
    )
