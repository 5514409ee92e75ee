"""Which channels go together: a number for each element of each axis, and a union of those."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
"""A number for each element of an axis. Elements with numbers of one class go together."""


class Channels:
    """A disjoint-set forest over channel numbers; classes may be pinned, which is for a reason."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._pins: dict[int, str] = {}
        self._sources: set[int] = set()

    def fresh(self, count: int) -> Ids:
        """Numbers of channels that a layer makes, so that it can also make fewer."""
        ids = self._new(count)
        self._sources.update(ids.tolist())
        return ids

    def loose(self, count: int) -> Ids:
        """Numbers of elements that go where those go that they are joined with."""
        return self._new(count)

    def fixed(self, count: int, reason: str) -> Ids:
        """Numbers of elements that have to stay."""
        ids = self._new(count)
        self.pin(ids, reason)
        return ids

    def join(self, a: Ids, b: Ids) -> None:
        """Put each element of `a` into the class of the element of `b` at its place."""
        assert a.shape == b.shape
        for x, y in np.unique(np.stack([a.ravel(), b.ravel()], 1), axis=0).tolist():
            x, y = self._find(x), self._find(y)
            if x == y:
                continue
            self._parent[y] = x
            if y in self._pins:
                self._pins.setdefault(x, self._pins.pop(y))
            if y in self._sources:
                self._sources.add(x)

    def pin(self, ids: Ids | None, reason: str) -> None:
        """These stay. The first reason is the one that is told."""
        if ids is not None:
            for x in np.unique(ids).tolist():
                self._pins.setdefault(self._find(x), reason)

    def classes(self, ids: Ids) -> Ids:
        """The class of each element, as the number that stands for it."""
        unique, inverse = np.unique(ids, return_inverse=True)
        found = np.array([self._find(x) for x in unique.tolist()], np.int64)
        return found[inverse.reshape(ids.shape)]

    def reason(self, number: int) -> str | None:
        """Why the class of a number has to stay; None where it may go."""
        root = self._find(number)
        if root in self._pins:
            return self._pins[root]
        return None if root in self._sources else "no layer makes it"

    def _new(self, count: int) -> Ids:
        start = len(self._parent)
        self._parent.extend(range(start, start + count))
        return np.arange(start, start + count)

    def _find(self, x: int) -> int:
        parent = self._parent
        while parent[x] != x:
            parent[x] = parent[parent[x]]
            x = parent[x]
        return x
