"""What can be said of times that follow no known distribution: by their order alone.

Blocks are measured side by side, so that they share the machine's mood; what is compared are their
quotients. Calls within a block are not independent, so blocks are the unit of every test.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """The probability of at least so many successes."""
    return math.fsum(
        math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        for k in range(successes, trials + 1)
    )


def sign_test(ratios: Sequence[float]) -> float:
    """How probable so many ratios above 1 are, if above and below were equally likely.

    The one-sided sign test (Dixon and Mood, 1946); ratios of 1 count as below.
    """
    return binomial_tail(sum(r > 1 for r in ratios), len(ratios), 0.5)


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the median with this confidence, from two order statistics.

    The widest symmetric pair that the binomial distribution allows (David and Nagaraja, Order
    Statistics, 7.1); with too few values for the confidence, all of them.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    count = len(ordered)
    skip = 0
    while 2 * binomial_tail(count - skip, count, 0.5) <= 1 - confidence and 2 * skip < count - 1:
        skip += 1
    low = max(skip - 1, 0)
    return float(ordered[low]), float(ordered[count - 1 - low])


def quantile_exceeds(above: int, calls: int, share: float, alpha: float) -> bool:
    """Whether more than `share` of all calls lie above a limit, as `above` of `calls` did."""
    if above <= calls * share:
        return False
    if calls > 300:  # the exact sum overflows; the normal tail with its continuity correction
        spread = math.sqrt(calls * share * (1 - share))
        return 0.5 * math.erfc((above - 0.5 - calls * share) / spread / math.sqrt(2)) < alpha
    return binomial_tail(above, calls, share) < alpha
