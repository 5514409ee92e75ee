"""Order statistics against what is known of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from zerolane.tuning.rank import binomial_tail, median_interval, quantile_exceeds, sign_test


def test_sign_test_is_the_binomial_one() -> None:
    assert sign_test([2.0] * 7) == pytest.approx(1 / 128)
    assert sign_test([2.0] * 6 + [0.5]) == pytest.approx(8 / 128)
    assert sign_test([1.0, 0.9]) == 1.0  # a tie speaks for nobody
    assert binomial_tail(0, 5, 0.1) == pytest.approx(1)
    assert binomial_tail(3, 5, 0.1) == pytest.approx(0.00856)


def test_interval_of_known_sizes() -> None:
    # Tables of order statistics: ranks 2 and 9 of 10, 6 and 15 of 20, 40 and 61 of 100.
    for count, low, high in ((10, 2, 9), (20, 6, 15), (100, 40, 61)):
        assert median_interval([*range(1, count + 1)]) == (low, high)
    assert median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)
    assert median_interval([4.0]) == (4.0, 4.0)


def test_interval_covers() -> None:
    rng = np.random.default_rng(5)
    inside = 0
    for _ in range(600):
        low, high = median_interval(rng.lognormal(0, 1, 15).tolist())
        inside += low <= 1.0 <= high
    assert inside / 600 > 0.94


def test_quantile_exceeds() -> None:
    assert not quantile_exceeds(0, 1000, 0.01, 0.01)
    assert not quantile_exceeds(12, 1000, 0.01, 0.01)
    assert quantile_exceeds(30, 1000, 0.01, 0.01)
    assert quantile_exceeds(3, 10, 0.01, 0.01)
    assert not quantile_exceeds(1, 20, 0.01, 0.01)
    assert quantile_exceeds(60_000, 1_000_000, 0.01, 0.01)  # no overflow
    exact = sum(math.comb(290, k) * 0.01**k * 0.99 ** (290 - k) for k in range(9, 291))
    assert quantile_exceeds(9, 290, 0.01, exact * 1.01)
    assert not quantile_exceeds(9, 290, 0.01, exact * 0.99)
