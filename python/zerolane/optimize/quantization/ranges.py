"""From the values that were seen to scales and zero points.

A real number r is stored as q with r = (q - zero) * scale, q saturating (ONNX QuantizeLinear).
Entropy calibration: the threshold whose clipped and coarsened distribution is nearest to the one
seen, by Kullback-Leibler divergence (S. Migacz, "8-bit inference with TensorRT", 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 2048
_LEVELS = 128  # of the magnitude, in 8 bits
FLOAT8_LARGEST = 448.0  # of float8e4m3fn

Histogram = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Range:
    """What was seen of a value: its least and largest, and how often each magnitude came.

    histogram: BINS counts of |value| from 0 to `edge`; None where the method needs none.
    """

    low: float
    high: float
    edge: float = 0.0
    histogram: Histogram | None = None

    def joined(self, other: Range) -> Range:
        """Of two values that share a scale."""
        low, high = min(self.low, other.low), max(self.high, other.high)
        if self.histogram is None or other.histogram is None:
            return Range(low, high)
        a, b = (self, other) if self.edge >= other.edge else (other, self)
        assert a.histogram is not None
        assert b.histogram is not None
        return Range(low, high, a.edge, a.histogram + stretched(b.histogram, b.edge, a.edge))


@dataclass(frozen=True, slots=True)
class Scale:
    """How a value is stored. dtype: "uint8", "int8" or "float8e4m3fn"; the last has no zero."""

    scale: float
    zero: int
    dtype: str


def stretched(counts: Histogram, edge: float, to: float) -> Histogram:
    """A histogram of |value| up to `edge` in bins up to `to`, which is no smaller."""
    if edge == to or not counts.any():
        return counts
    centres = (np.arange(BINS) + 0.5) * (edge / BINS)
    bins = np.minimum((centres * (BINS / to)).astype(np.int64), BINS - 1)
    return np.bincount(bins, weights=counts, minlength=BINS).astype(np.float64)


def clipped(seen: Range, method: str, percentile: float) -> tuple[float, float]:
    """The range that is to be told apart: all of it, or with rare large values clipped."""
    low, high = seen.low, seen.high
    if method != "minmax" and seen.histogram is not None and seen.histogram.any():
        cut = _entropy(seen) if method == "entropy" else _percentile(seen, percentile)
        low, high = max(low, -cut), min(high, cut)
    return low, high


def scale_of(low: float, high: float, dtype: str, *, symmetric: bool) -> Scale:
    """The scale for values from low to high; 0 is always exact."""
    low, high = min(low, 0.0), max(high, 0.0)
    largest = max(-low, high)
    if dtype == "float8e4m3fn":
        return Scale(_positive(largest / FLOAT8_LARGEST), 0, dtype)
    if symmetric:
        zero = 0 if dtype == "int8" else 128
        return Scale(_positive(largest / 127), zero, dtype)
    scale = _positive((high - low) / 255)
    zero = int(np.clip(round(-low / scale), 0, 255))
    return Scale(scale, zero if dtype == "uint8" else zero - 128, dtype)


def _positive(scale: float) -> float:
    """As a float32 that is normal: a value that is always 0 gets a scale too."""
    return float(np.float32(max(scale, 1e-30)))


def _percentile(seen: Range, percentile: float) -> float:
    assert seen.histogram is not None
    share = np.cumsum(seen.histogram) / seen.histogram.sum()
    last = int(np.searchsorted(share, percentile / 100))
    return (min(last, BINS - 1) + 1) * seen.edge / BINS


def _entropy(seen: Range) -> float:
    """The threshold with the least divergence."""
    assert seen.histogram is not None
    counts = seen.histogram.copy()
    counts[0] = 0  # what a Relu cut off is exact anyway, and would outweigh all else
    if not counts.any():
        return seen.edge
    used = int(np.flatnonzero(counts)[-1]) + 1
    if used <= _LEVELS:
        return used * seen.edge / BINS
    best, least = used, np.inf
    for end in range(_LEVELS, used + 1, 4):
        found = _divergence(counts, end)
        if found < least:
            best, least = end, found
    return best * seen.edge / BINS


def _divergence(counts: Histogram, end: int) -> float:
    kept = counts[:end]
    reference = kept.copy()
    reference[-1] += counts[end:].sum()
    group = np.arange(end) * _LEVELS // end
    sums = np.bincount(group, weights=kept, minlength=_LEVELS)
    filled = np.bincount(group, weights=kept > 0, minlength=_LEVELS)
    coarse = np.where(kept > 0, (sums / np.maximum(filled, 1))[group], 0.0)
    p, q = reference / reference.sum(), coarse / max(coarse.sum(), 1e-30)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-10))).sum())
