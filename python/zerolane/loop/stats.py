"""What a loop counts and times."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from zerolane import _native

_FRACTIONS = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of a histogram whose buckets are 3 % wide, each rounded up; zeros where nothing is in it."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


@dataclass(frozen=True, slots=True)
class Missed:
    """Ticks without a result in time, by cause.

    woke_late: the system ran the loop's thread too late. ran_long: the run took too long; ticks
    that passed meanwhile count too. run_failed: it raised. input_stale: an input was older than
    `max_age_ms`.
    """

    woke_late: int
    ran_long: int
    run_failed: int
    input_stale: int

    @property
    def total(self) -> int:
        return self.woke_late + self.ran_long + self.run_failed + self.input_stale


@dataclass(frozen=True, slots=True)
class LoopStats:
    """Since the start.

    ticks: times that a tick was due. runs: of the model. waiting: ticks before every input had been
    written once, which are not missed. stale_reads: inputs of a run that were the same as in the
    run before. safe_outputs: times that the safe output was written. running_ms: how long the run
    in progress has taken, 0 where there is none. call_us: the run alone. late_us: from the time a
    tick was due to the thread's waking. age_us: from the writing of the oldest input to that of the
    outputs.
    """

    ticks: int
    runs: int
    waiting: int
    missed: Missed
    stale_reads: int
    safe_outputs: int
    running_ms: float
    call_us: Percentiles
    late_us: Percentiles
    age_us: Percentiles

    @property
    def missed_share(self) -> float:
        """Missed ticks as a share of those that could have run; 0 where there were none."""
        return self.missed.total / max(1, self.ticks - self.waiting)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def read_stats(loop: _native.Loop) -> LoopStats:
    counts = loop.counts()
    missed = {name: counts.pop(name) for name in Missed.__slots__}

    def percentiles(which: str) -> Percentiles:
        values = loop.percentiles_us(which, list(_FRACTIONS.values()))
        return Percentiles(loop.recorded(which), **dict(zip(_FRACTIONS, values, strict=True)))

    return LoopStats(
        missed=Missed(**missed),
        call_us=percentiles("call"),
        late_us=percentiles("late"),
        age_us=percentiles("age"),
        **counts,
    )
