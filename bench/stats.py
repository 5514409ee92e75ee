# SPDX-License-Identifier: Apache-2.0
"""The statistics every benchmark uses: summaries with spread, paired ratios, quantile curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

# Dense towards the slow end, where latency distributions differ.
CURVE_PERCENTS: tuple[float, ...] = (
    *(float(p) for p in range(99)),
    *(99.0, 99.2, 99.4, 99.6, 99.8, 99.9, 99.95, 99.99, 100.0),
)


@dataclass(frozen=True)
class Summary:
    """Order statistics of one series, in the series' own unit."""

    count: int
    minimum: float
    p5: float
    p25: float
    median: float
    p75: float
    p95: float
    p99: float
    p999: float
    maximum: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """Median and spread of the quotients of blocks measured side by side."""

    median: float
    p5: float
    p25: float
    p75: float
    p95: float


def summarize(values: Sequence[float] | NDArray[np.generic]) -> Summary:
    """Order statistics of a non-empty series."""
    a = np.asarray(values, dtype=np.float64)
    points = (0, 5, 25, 50, 75, 95, 99, 99.9, 100)
    return Summary(a.size, *(float(v) for v in np.percentile(a, points)))


def paired_ratio(top: Sequence[float], bottom: Sequence[float]) -> Ratio:
    """Ratio of two equally long series of blocks, taken block by block.

    Neighbouring blocks share the machine's mood (clock, other load), so their quotient is steadier
    than the quotient of two medians.
    """
    q = np.asarray(top, dtype=np.float64) / np.asarray(bottom, dtype=np.float64)
    p5, p25, median, p75, p95 = (float(v) for v in np.percentile(q, (5, 25, 50, 75, 95)))
    return Ratio(median, p5, p25, p75, p95)


def curve(values: Sequence[float] | NDArray[np.generic]) -> list[float]:
    """The series' values at CURVE_PERCENTS: its distribution in a hundred numbers."""
    points = np.percentile(np.asarray(values, dtype=np.float64), CURVE_PERCENTS)
    return [round(float(v), 3) for v in points]
