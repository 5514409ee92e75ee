"""Which layers have to go back to float so that an accuracy floor holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_MOST = 40
"""Evaluations at the most; then what held so far is taken, with more layers than are needed."""


def fewest(ranking: Sequence[str], holds: Callable[[Sequence[str]], bool]) -> list[str]:
    """Layers to leave in float, the order of `ranking` within; all of them where nothing else does.

    ranking: all layers, the likeliest first. holds: whether the floor holds with these in float.
    The shortest beginning of the ranking that holds, found by halving, ends in a layer that is
    needed. That one is noted, and unless the floor holds with those noted, the search goes on among
    the others. One such layer takes log2(N) + 2 evaluations wherever it is ranked.
    """
    count = 0

    def tried(names: Sequence[str]) -> bool:
        nonlocal count
        count += 1
        return holds(names)

    needed: list[str] = []
    while not tried(needed):
        rest = [name for name in ranking if name not in needed]
        low, high = 0, len(rest)  # the former fails, the latter leaves nothing quantized
        while high - low > 1:
            middle = (low + high) // 2
            if tried(needed + rest[:middle]):
                high = middle
            else:
                low = middle
        needed.append(rest[high - 1])
        if high == 1 or len(needed) == len(ranking):
            break  # known to hold
        if count >= _MOST:
            needed += rest[: high - 1]
            break
    return [name for name in ranking if name in needed]
