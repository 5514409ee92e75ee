"""The smallest set of nodes to leave as they are so that the rest may be changed, in few trials.

Knows nothing of models: whoever asks builds a candidate from the names to keep and judges it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Node = TypeVar("Node", bound=Hashable)
Candidate = TypeVar("Candidate")


@dataclass(frozen=True, slots=True)
class Trial(Generic[Node]):
    """One candidate: how many nodes it kept, and whether it was good."""

    kept: int
    good: bool


@dataclass(frozen=True, slots=True)
class Found(Generic[Node]):
    """keep: in the order of the nodes given. good: False where even keeping all does not help."""

    keep: tuple[Node, ...]
    good: bool
    trials: tuple[Trial[Node], ...]


def search(
    nodes: Sequence[Node],
    build: Callable[[frozenset[Node]], Candidate],
    good: Callable[[Candidate], bool],
    *,
    start: Sequence[Node] = (),
) -> Found[Node]:
    """The nodes to keep. One culprit among N takes ceil(log2(N)) + 3 trials, each more log2(N) + 1.

    build: from the nodes to keep to a candidate. good: whether a candidate will do.
    start: nodes that are kept in any case and are no part of the result.

    Group testing: of the candidates that keep the first m nodes, the first good one has a culprit
    at its end, which halving finds; with that kept, the rest is searched in the same way. At the
    end each of several is left out once, so that all that remain are needed (1-minimal, as in
    delta debugging). It is assumed that keeping more never harms; where that fails the result is
    good all the same, but may be larger than needed.
    """
    trials: list[Trial[Node]] = []
    known: dict[frozenset[Node], bool] = {}
    base = frozenset(start)

    def holds(keep: Sequence[Node]) -> bool:
        chosen = base | frozenset(keep)
        if chosen not in known:
            known[chosen] = good(build(chosen))
            trials.append(Trial(len(chosen - base), known[chosen]))
        return known[chosen]

    def done(keep: Sequence[Node], well: bool) -> Found[Node]:
        place = {node: index for index, node in enumerate(nodes)}
        return Found(tuple(sorted(keep, key=place.__getitem__)), well, tuple(trials))

    if holds(()):
        return done((), True)
    if not holds(nodes):
        return done(tuple(nodes), False)
    culprits: list[Node] = []
    end = len(nodes)
    while True:
        low, high = 0, end  # keeping nodes[:high] is good, nodes[:low] is not, culprits always kept
        while high - low > 1:
            middle = (low + high) // 2
            if holds((*nodes[:middle], *culprits)):
                high = middle
            else:
                low = middle
        culprits.append(nodes[high - 1])
        end = high - 1
        if end == 0 or holds(culprits):
            break
    for node in culprits[:-1] if len(culprits) > 1 else ():
        rest = [other for other in culprits if other != node]
        if holds(rest):
            culprits = rest
    return done(culprits, holds(culprits))


def expected_trials(count: int, culprits: int = 1) -> int:
    """How many trials `search` takes for so many culprits at most, before it leaves any out."""
    return 2 + culprits * (math.ceil(math.log2(max(count, 2))) + 1)
