"""Which channels go: a ranking of the classes, and how many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zerolane.optimize.pruning.channels import Ids
from zerolane.optimize.pruning.flow import Flow, Layer

Matrix = NDArray[np.float64]
Spread = NDArray[np.float64]
"""The covariance of channels [C, C], or their variances [C] where there are too many."""

LEAST = 0.1
"""The share of a block's channels that stays at least, and one channel."""

_RIDGE = 1e-3

_TOGETHER = 64
"""Updates of a matrix that are made at once."""

_ROUND, _ROUND_FROM = 8, 32  # vector widths: blocks of 32 channels and more keep multiples of 8


@dataclass(frozen=True)
class Block:
    """Classes of channels that one layer makes, or several whose channels are tied together."""

    layers: tuple[str, ...]
    classes: NDArray[np.int64]
    importance: NDArray[np.float64]


@dataclass(frozen=True)
class Pinned:
    """A layer whose channels stay."""

    node: str
    op: str
    reason: str


def blocks(
    flow: Flow,
    spreads: Mapping[str, Spread] | None,
    report: Callable[[float, str], object] = lambda done, doing: None,
) -> list[Block]:
    """The removable classes by block, each class with how much is lost without it.

    spreads: of the channels of what layers take in, by the name of that value. With them see
    `_greedily`. Without, a class counts the mean magnitude of the weights that make it, over that
    of the layer (Li et al., "Pruning Filters for Efficient ConvNets", 2017).
    """
    found: list[tuple[list[str], set[int]]] = []
    for layer in flow.layers:
        if layer.made is None or layer.made is layer.reduced:
            continue
        mine = {int(c) for c in flow.channels.classes(layer.made)}
        mine = {c for c in mine if flow.channels.reason(c) is None}
        if not mine:
            continue
        names, joined = [_name(layer)], mine
        for other in [entry for entry in found if entry[1] & mine]:
            names, joined = other[0] + names, joined | other[1]
            found.remove(other)
        found.append((names, joined))
    made = []
    for index, (names, classes) in enumerate(found):
        report(index / len(found), f"ranking the channels of {names[0]}")
        order = np.array(sorted(classes), np.int64)
        lost = _by_weights(flow, order) if spreads is None else _greedily(flow, order, spreads)
        made.append(Block(tuple(names), order, lost))
    return made


def pinned(flow: Flow) -> list[Pinned]:
    """The layers whose channels stay, all or some, and the first reason."""
    rows = []
    for layer in flow.layers:
        if layer.made is None:
            continue
        reasons = [flow.channels.reason(int(c)) for c in flow.channels.classes(layer.made)]
        reason = next((r for r in reasons if r is not None), None)
        if reason is not None:
            rows.append(Pinned(_name(layer), layer.node.op_type, reason))
    return rows


def choose(found: list[Block], ratio: float, scope: str) -> set[int]:
    """The classes to remove: `ratio` of all ("global") or of each block ("layer")."""
    gone: set[int] = set()
    total = sum(len(b.classes) for b in found)
    counts = [round(len(b.classes) * ratio) for b in found]
    if scope == "global":
        every = np.concatenate([b.importance for b in found]) if found else np.zeros(0)
        limit = np.sort(every)[min(round(total * ratio), total - 1)] if total else 0.0
        counts = [int((b.importance < limit).sum()) for b in found]
    for block, count in zip(found, counts, strict=True):
        size = len(block.classes)
        stays = max(size - count, int(np.ceil(size * LEAST)), 1)
        if size >= _ROUND_FROM and stays < size:
            stays = min(max(_ROUND, int(stays / _ROUND + 0.5) * _ROUND), size)
        order = np.argsort(block.importance, kind="stable")
        gone.update(int(c) for c in block.classes[order[: size - stays]])
    return gone


def _name(layer: Layer) -> str:
    return str(layer.node.name or layer.node.output[0])


def _matrix(flow: Flow, layer: Layer, axis: int) -> NDArray[np.float64]:
    """The weight with `axis` first and all else in one."""
    weight = flow.constant(layer.weight)
    assert weight is not None
    return np.moveaxis(weight.astype(np.float64), axis, 0).reshape(weight.shape[axis], -1)


def _by_weights(flow: Flow, classes: NDArray[np.int64]) -> NDArray[np.float64]:
    lost = np.zeros(len(classes))
    for layer in flow.layers:
        if layer.made is None or layer.made is layer.reduced:
            continue
        rows = _matrix(flow, layer, layer.made_axis)
        place = _places(flow, layer.made, classes)
        if len(rows) != len(place):
            continue
        size = np.abs(rows).mean(1)
        size = size / max(float(size.mean()), 1e-30)
        np.add.at(lost, place[place >= 0], size[place >= 0])
    return lost


class _Taker:
    """A layer that takes classes in: its energy and the inverse of the spread, by element.

    What taking elements out does to the inverse is of rank one each. These updates are gathered and
    then made together, in a product of matrices; of all elements the diagonal alone is needed.
    """

    def __init__(self, place: NDArray[np.int64], energy: Matrix, inverse: Matrix) -> None:
        self.place, self.energy = place, energy
        self.diagonal = np.diag(inverse).copy()
        self._inverse = inverse
        self._due = np.zeros((len(inverse), _TOGETHER))
        self._count = 0

    def take_out(self, chosen: int) -> None:
        """The inverse of the spread of what is left, by Schur's complement; marks those gone."""
        for element in np.flatnonzero(self.place == chosen):
            due = self._due[:, : self._count]
            column = self._inverse[element] - due @ due[element]
            column /= np.sqrt(max(float(column[element]), 1e-300))
            self.diagonal -= np.square(column)
            self._due[:, self._count] = column
            self._count += 1
            if self._count == _TOGETHER:
                self._inverse -= self._due @ self._due.T
                self._count = 0
        self.place = np.where(self.place == chosen, -1, self.place)


def _greedily(
    flow: Flow, classes: NDArray[np.int64], spreads: Mapping[str, Spread]
) -> NDArray[np.float64]:
    """What goes with each class in the best order: the least loss first, then the next least.

    The loss of an element c is what no other that is left can stand in for: the squared weights
    that it meets, times the variance of x_c given the others, 1 / inverse(cov)_cc, over the
    variance of all that the layer takes in. Least squares then shifts the rest onto the others
    (`reconstruct`). As in Optimal Brain Surgeon (Hassibi and Stork, 1993), on channels.
    """
    takers = _takers(flow, classes, spreads)
    lost = np.zeros(len(classes))
    left = np.ones(len(classes), bool)
    most = 0.0
    for _ in range(len(classes)):
        scores = np.zeros(len(classes))
        for taker in takers:
            mine = taker.place >= 0
            size = taker.energy[mine] / taker.diagonal[mine]
            np.add.at(scores, taker.place[mine], size)
        chosen = int(np.argmin(np.where(left, scores, np.inf)))
        most = max(most, float(scores[chosen]))
        lost[chosen], left[chosen] = most, False
        for taker in takers:
            taker.take_out(chosen)
    return lost


def _takers(flow: Flow, classes: NDArray[np.int64], spreads: Mapping[str, Spread]) -> list[_Taker]:
    takers = []
    for layer in flow.layers:
        spread = spreads.get(layer.node.input[0])
        if layer.reduced is None or spread is None:
            continue
        rows = _matrix(flow, layer, layer.reduced_axis)
        place = _places(flow, layer.reduced, classes)
        if not (place >= 0).any() or len(rows) != len(place) or spread.ndim == 0:
            continue
        if layer.groups > 1:
            if len(spread) == len(rows):
                continue  # depthwise: it passes channels on
            spread = np.diag(np.diag(_square(spread)).reshape(layer.groups, -1).mean(0))
        spread = _square(spread)
        energy = np.square(rows).sum(1)
        whole = float(energy @ np.diag(spread))
        ridge = _RIDGE * max(float(np.trace(spread)) / len(spread), 1e-30)
        inverse = np.asarray(np.linalg.inv(spread + ridge * np.eye(len(spread))), np.float64)
        takers.append(_Taker(place, energy / max(whole, 1e-30), inverse))
    return takers


def _square(spread: Spread) -> NDArray[np.float64]:
    return np.diag(spread) if spread.ndim == 1 else spread


def _places(flow: Flow, ids: Ids, classes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Of each element the place of its class in sorted `classes`, -1 where it is none of them."""
    own = flow.channels.classes(ids)
    place = np.clip(np.searchsorted(classes, own), 0, len(classes) - 1)
    return np.where(classes[place] == own, place, -1)
