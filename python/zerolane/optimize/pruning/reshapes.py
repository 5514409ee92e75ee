"""What reshaping does to channels: merged, split, moved along."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto

from zerolane.optimize.pruning.channels import Ids
from zerolane.optimize.pruning.flow import Axes, Dim, Flow, Kept

_UNKNOWN = "its shape is computed at run time; fold constants first (zl.optimize.graph)"


def reshape(flow: Flow, node: NodeProto) -> None:
    """Reshape with a shape that is constant, or made of sizes of values."""
    name, output = node.input[0], node.output[0]
    vector = flow.vector(name)
    if vector is not None:
        flow.vectors[output] = vector
    if not flow.live(name):
        return
    spec, before, after = flow.vector(node.input[1]), flow.shape(name), flow.shape(output)
    if 0 in (spec or ()) and any(a.name == "allowzero" and a.i for a in node.attribute):
        spec = None  # an empty array: nothing is known of it
    if spec is None or before is None or after is None or len(spec) != len(after):
        flow.pin(name, _UNKNOWN)
        return
    axes = _moved(flow, name, before, _resolved(name, before, after, spec), spec)
    constant = flow.is_weight(node.input[1])
    for axis, (ids, size) in enumerate(zip(axes, spec, strict=True)):
        if ids is not None and isinstance(size, int) and size > 0 and not constant:
            flow.channels.pin(ids, _UNKNOWN)
            axes[axis] = None
    flow.give(output, axes)
    if constant and any(ids is not None for ids in axes):
        flow.edits.append(lambda kept: _rewrite(flow, node, axes, spec, kept))


def flatten(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    before, after = flow.shape(name), flow.shape(output)
    if not flow.live(name):
        return
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    if before is None or after is None:
        flow.pin(name, _UNKNOWN)
        return
    axis = axis + len(before) if axis < 0 else axis
    first: Dim = (name, 0) if axis == 1 else -1
    flow.give(output, _moved(flow, name, before, after, [first, -1]))


def _resolved(
    name: str, before: Sequence[int | None], after: Sequence[int | None], spec: Sequence[Dim]
) -> list[int | None]:
    """The sizes after a reshape, with that of -1 where the unknown sizes around it cancel."""
    sizes = list(after)
    unknown = {axis for axis, size in enumerate(before) if size is None}
    taken = {
        size[1] if isinstance(size, tuple) else axis
        for axis, size in enumerate(spec)
        if size == 0 or (isinstance(size, tuple) and size[0] == name)
    }
    rest = [axis for axis, size in enumerate(spec) if size == -1]
    if len(rest) == 1 and taken == unknown and sizes[rest[0]] is None:
        told = [size for axis, size in enumerate(sizes) if axis != rest[0] and size is not None]
        known = [size for size in before if size is not None]
        sizes[rest[0]] = int(np.prod(known, dtype=np.int64) // max(int(np.prod(told)), 1))
    return sizes


def _rewrite(flow: Flow, node: NodeProto, axes: Axes, spec: Sequence[Dim], kept: Kept) -> None:
    sizes = [
        int(kept(ids).sum()) if ids is not None and isinstance(size, int) and size > 0 else size
        for ids, size in zip(axes, spec, strict=True)
    ]
    if sizes != list(spec):
        node.input[1] = flow.add_constant(node.input[1], np.array(sizes, np.int64))


def _moved(
    flow: Flow,
    name: str,
    before: Sequence[int | None],
    after: Sequence[int | None],
    spec: Sequence[Dim],
) -> Axes:
    """The axes after a reshape: equal sizes at both ends stay, what is between is one block.

    Row-major order makes both ends exact: with equal sizes in front, what follows holds the same.
    """
    own = flow.axes(name)
    result: Axes = [None] * len(after)
    rows = [axis for axis, size in enumerate(before) if size != 1]
    columns = [axis for axis, size in enumerate(after) if size != 1]

    def same(i: int, j: int) -> bool:
        if before[i] is not None:
            return before[i] == after[j]
        return spec[j] == (name, i) or (spec[j] == 0 and i == j)

    while rows and columns and same(rows[0], columns[0]):
        result[columns.pop(0)] = own[rows.pop(0)]
    while rows and columns and same(rows[-1], columns[-1]):
        result[columns.pop()] = own[rows.pop()]
    if (
        rows
        and columns
        and before[rows[0]] is None
        and after[columns[0]] is None
        and _product(before, rows[1:]) == _product(after, columns[1:]) != None  # noqa: E711
    ):
        result[columns.pop(0)] = own[rows.pop(0)]
    size = _product(before, rows)
    if size is None or size != _product(after, columns):
        for axis in rows:
            flow.channels.pin(own[axis], _UNKNOWN)
        return result
    live = [axis for axis in rows if own[axis] is not None]
    if not live:
        return result
    for axis in live[1:]:
        flow.channels.pin(own[axis], "a reshape merges two axes of channels")
    lengths = [before[axis] or 1 for axis in rows]
    wide = [after[axis] or 1 for axis in columns]
    place = rows.index(live[0])
    ids = own[live[0]]
    assert ids is not None
    shaped = ids.reshape([-1 if k == place else 1 for k in range(len(rows))])
    grid = np.broadcast_to(shaped, lengths).reshape(wide)
    axis, split = _split(flow, grid)
    result[columns[axis]] = split
    return result


def _split(flow: Flow, grid: Ids) -> tuple[int, Ids]:
    """The axis of a grid that is to have the numbers; they are joined along all others."""
    varies = [k for k in range(grid.ndim) if (np.take(grid, [0], k) != grid).any()]
    axis = varies[-1] if varies else 0
    rows = np.moveaxis(grid, axis, -1).reshape(-1, grid.shape[axis])
    flow.channels.join(rows, np.broadcast_to(rows[0], rows.shape))
    return axis, rows[0].copy()


def _product(sizes: Sequence[int | None], axes: Sequence[int]) -> int | None:
    product = 1
    for axis in axes:
        size = sizes[axis]
        if size is None:
            return None
        product *= size
    return product
