"""Another order of channels, in which 2:4 keeps more: the graph computes the same before it.

After Pool and Yu, "Channel Permutations for N:M Sparsity", 2021: swaps of two channels between
groups of four as long as the kept magnitude grows. The order changes in all that makes, follows or
takes the channels, so nothing is left to undo.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.optimize.pruning.choose import blocks
from zerolane.optimize.pruning.flow import Flow, array_of, set_array

_QUAD = 4
_COLUMNS = 128  # of the weights looked at in the search; the result is judged on all
_TRIES = 400

Segment = tuple[int, int]  # where a run of the block's channels begins, and how often each repeats


def permute(flow: Flow, seed: int) -> dict[str, NDArray[np.int64]]:
    """Reorder the channels of each block where it pays; the flow is not to be used afterwards.

    Returns, by output of the layers that make them, which channel of before is at each place.
    """
    rng = np.random.default_rng(seed)
    orders: dict[str, NDArray[np.int64]] = {}
    makers = {(layer.weight, layer.made_axis): layer.node.output[0] for layer in flow.layers}
    sums = {layer.weight: layer.reduced_axis for layer in flow.layers if layer.groups == 1}
    every = [
        (name if table is flow.weights else None, axis, flow.channels.classes(ids))
        for table in (flow.weights, flow.values)
        for name, axes in table.items()
        for axis, ids in enumerate(axes)
        if ids is not None
    ]
    for block in blocks(flow, None):
        order = _order(flow, set(block.classes.tolist()))
        places = _places(every, order)
        if places is None or len(order) < 2 * _QUAD:
            continue
        taken = []
        for (name, axis), segments in places.items():
            weight = array_of(flow.constants[name], flow.payloads)
            if sums.get(name) != axis or weight.shape[axis] % _QUAD:
                continue
            rows = np.moveaxis(np.abs(weight.astype(np.float32)), axis, 0)
            rows = rows.reshape(len(rows), -1)
            taken += [
                rows[start : start + len(order)]
                for start, repeat in segments
                if repeat == 1 and start % _QUAD == 0 and len(order) % _QUAD == 0
            ]
        if not taken:
            continue
        sizes = np.concatenate(taken, axis=1)
        found = search(sizes, rng)
        if kept_magnitude(sizes[found]) <= kept_magnitude(sizes):
            continue
        for (name, axis), segments in places.items():
            tensor = flow.constants[name]
            weight = array_of(tensor, flow.payloads)
            index = np.arange(weight.shape[axis])
            for start, repeat in segments:
                moved = start + (found[:, None] * repeat + np.arange(repeat)).ravel()
                index[start : start + len(order) * repeat] = moved
            set_array(tensor, flow.payloads, np.take(weight, index, axis))
            if (name, axis) in makers:
                made = makers[name, axis]
                orders[made] = orders.get(made, np.arange(len(index)))[index]
    return orders


def kept_magnitude(sizes: NDArray[Any]) -> float:
    """What 2:4 along axis 0 keeps of magnitudes [channels, others]."""
    quads = np.sort(sizes.reshape(-1, _QUAD, sizes.shape[1]), axis=1)
    return float(quads[:, _QUAD // 2 :].sum(dtype=np.float64))


def search(sizes: NDArray[Any], rng: np.random.Generator) -> NDArray[np.int64]:
    """An order of the channels of [channels, others] in which 2:4 keeps much."""
    if sizes.shape[1] > _COLUMNS:
        sizes = sizes[:, rng.choice(sizes.shape[1], _COLUMNS, replace=False)]
    order = np.arange(len(sizes))
    groups = len(sizes) // _QUAD
    swaps = [(i, _QUAD + j) for i in range(_QUAD) for j in range(_QUAD)]
    both = np.tile(np.arange(2 * _QUAD), (len(swaps) + 1, 1))
    for row, (i, j) in enumerate(swaps, 1):
        both[row, [i, j]] = j, i
    for _ in range(min(_TRIES, groups * (groups - 1))):
        a, b = rng.choice(groups, 2, replace=False) * _QUAD
        eight = np.concatenate([order[a : a + _QUAD], order[b : b + _QUAD]])
        tried = np.sort(sizes[eight][both].reshape(len(both), 2, _QUAD, -1), axis=2)
        kept = tried[:, :, _QUAD // 2 :].sum((1, 2, 3))
        best = eight[both[int(np.argmax(kept))]]
        order[a : a + _QUAD], order[b : b + _QUAD] = best[:_QUAD], best[_QUAD:]
    return order


def _order(flow: Flow, classes: set[int]) -> NDArray[np.int64]:
    """The classes as the first layer that makes them has them."""
    for layer in flow.layers:
        if layer.made is None:
            continue
        made = flow.channels.classes(layer.made)
        mine = made[np.isin(made, list(classes))]
        if set(mine.tolist()) == classes:
            _, first = np.unique(mine, return_index=True)
            return np.asarray(mine[np.sort(first)])
    return np.zeros(0, np.int64)


def _places(
    every: list[tuple[str | None, int, NDArray[np.int64]]], order: NDArray[np.int64]
) -> dict[tuple[str, int], list[Segment]] | None:
    """Where the weights have these channels; None where some axis has them in another order."""
    found: dict[tuple[str, int], list[Segment]] = {}
    for name, axis, classes in every:
        segments = _segments(classes, order)
        if segments is None:
            return None
        if segments and name is not None:
            found[name, axis] = segments
    return found


def _segments(classes: NDArray[np.int64], order: NDArray[np.int64]) -> list[Segment] | None:
    places = np.flatnonzero(np.isin(classes, order))
    segments: list[Segment] = []
    while len(places):
        start = int(places[0])
        same = classes[start:] == order[0]
        repeat = int(np.argmin(same)) if not same.all() else len(same)
        wanted = np.repeat(order, repeat)
        if not repeat or not np.array_equal(classes[start : start + len(wanted)], wanted):
            return None
        segments.append((start, repeat))
        places = places[len(wanted) :]
    return segments
