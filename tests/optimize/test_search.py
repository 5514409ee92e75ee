"""The search for what must be kept: which nodes, in how many trials."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from zerolane.optimize.precision.search import expected_trials, search


def needing(culprits: set[int]) -> Callable[[frozenset[int]], bool]:
    return lambda kept: culprits <= kept


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 65, 1000])
def test_one_culprit(count: int) -> None:
    for culprit in {0, count // 3, count // 2, count - 1}:
        found = search(range(count), lambda keep: keep, needing({culprit}))
        assert found.keep == (culprit,)
        assert found.good
        assert len(found.trials) <= math.ceil(math.log2(count)) + 3
        assert len(found.trials) <= expected_trials(count)


@pytest.mark.parametrize("seed", range(20))
def test_several_culprits(seed: int) -> None:
    draw = random.Random(seed)
    count = draw.randrange(2, 300)
    culprits = set(draw.sample(range(count), min(count, draw.randrange(1, 6))))
    found = search(range(count), lambda keep: keep, needing(culprits))
    assert set(found.keep) == culprits
    assert list(found.keep) == sorted(culprits), "in the order of the nodes"
    assert len(found.trials) <= expected_trials(count, len(culprits)) + len(culprits)


def test_nothing_to_keep_takes_one_trial() -> None:
    found = search("abc", lambda keep: keep, lambda kept: True)
    assert (found.keep, found.good, len(found.trials)) == ((), True, 1)


def test_that_nothing_helps_takes_two_trials() -> None:
    found = search("abc", lambda keep: keep, lambda kept: False)
    assert (found.keep, found.good, len(found.trials)) == (("a", "b", "c"), False, 2)


def test_one_of_two_is_enough() -> None:
    """Two ways to be good: the result needs every node that it names."""
    found = search(range(50), lambda keep: keep, lambda kept: 7 in kept or 30 in kept)
    assert found.keep == (7,)


def test_errors_that_add_up_are_kept_within_a_budget() -> None:
    """Each node costs something; the few large ones are enough, and none of them can be spared."""
    cost = dict.fromkeys(range(100), 0.001) | {13: 0.5, 77: 0.4}

    def good(kept: frozenset[int]) -> bool:
        return sum(c for node, c in cost.items() if node not in kept) <= 0.12

    found = search(range(100), lambda keep: keep, good)
    assert found.keep == (13, 77)


@pytest.mark.parametrize("seed", range(20))
def test_where_keeping_more_may_harm_the_result_is_good_all_the_same(seed: int) -> None:
    draw = random.Random(seed)
    noise: dict[frozenset[int], bool] = {}

    def good(kept: frozenset[int]) -> bool:
        if len(kept) in (0, 40):
            return len(kept) == 40
        return noise.setdefault(kept, draw.random() < 0.5)

    found = search(range(40), lambda keep: keep, good)
    assert found.good
    assert good(frozenset(found.keep))


def test_no_candidate_is_built_twice_and_start_is_always_kept() -> None:
    built: list[frozenset[int]] = []

    def build(keep: frozenset[int]) -> frozenset[int]:
        built.append(keep)
        return keep

    found = search(range(64), build, needing({3, 40, 99}), start=[99])
    assert found.keep == (3, 40)
    assert len(built) == len(set(built)) == len(found.trials)
    assert all(99 in keep for keep in built)
