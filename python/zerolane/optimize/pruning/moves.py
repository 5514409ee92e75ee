"""What operators that only move values do to channels; and how shapes are followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from onnx import NodeProto

from zerolane.optimize.pruning.channels import Ids
from zerolane.optimize.pruning.flow import Axes, Dim, Flow, Kept

_MIXED = "Concat joins it with elements along another axis that stay"


def _ints(node: NodeProto, name: str) -> list[int] | None:
    return next((list(a.ints) for a in node.attribute if a.name == name), None)


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


def stay(reason: str) -> Callable[[Flow, NodeProto], None]:
    """A rule that lets nothing go."""

    def rule(flow: Flow, node: NodeProto) -> None:
        for name in node.input:
            flow.pin(name, reason)

    return rule


def _transpose(flow: Flow, node: NodeProto) -> None:
    axes = flow.axes(node.input[0])
    perm = _ints(node, "perm") or list(range(len(axes)))[::-1]
    if flow.live(node.input[0]):
        flow.give(node.output[0], [axes[p] for p in perm])


def _axes_of(flow: Flow, node: NodeProto) -> list[int] | None:
    """The axes of Squeeze and Unsqueeze: an attribute before opset 13, an input since."""
    given = _ints(node, "axes")
    if given is None and len(node.input) > 1 and node.input[1]:
        constant = flow.constant(node.input[1])
        given = None if constant is None else [int(a) for a in np.ravel(constant)]
    return given


def _unsqueeze(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    vector = flow.vector(name)
    if vector is not None:
        flow.vectors[output] = vector
    if not flow.live(name):
        return
    given = _axes_of(flow, node)
    if given is None:
        flow.pin(name, "the axes of Unsqueeze are computed")
        return
    rank = len(flow.axes(name)) + len(given)
    fresh = {a % rank for a in given}
    rest = iter(flow.axes(name))
    flow.give(output, [None if axis in fresh else next(rest) for axis in range(rank)])


def _squeeze(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    vector = flow.vector(name)
    if vector is not None:
        flow.vectors[output] = vector
    if not flow.live(name):
        return
    given, dims = _axes_of(flow, node), flow.shape(name) or ()
    if given is None and len(node.input) > 1:
        flow.pin(name, "the axes of Squeeze are computed")
        return
    gone = {axis for axis, size in enumerate(dims) if size == 1}
    gone = gone if given is None else {a % len(dims) for a in given}
    kept = [ids for axis, ids in enumerate(flow.axes(name)) if axis not in gone]
    flow.give(output, kept)


def _concat(flow: Flow, node: NodeProto) -> None:
    output = node.output[0]
    parts = [flow.vector(name) for name in node.input]
    if all(part is not None for part in parts):
        flow.vectors[output] = [dim for part in parts for dim in part or []]
    if not any(flow.live(name) for name in node.input):
        return
    shapes = [flow.shape(name) for name in node.input]
    rank = next((len(s) for s in shapes if s is not None), 0)
    axis = _integer(node, "axis", 1) % max(rank, 1)
    if any(s is None or s[axis] is None for s in shapes):
        for name in node.input:
            flow.pin(name, "Concat joins it with values of unknown size")
        return
    axes: Axes = [None] * rank
    for place in range(rank):
        own = [flow.axes(name)[place] for name in node.input]
        if place == axis:
            if any(ids is not None for ids in own):
                sizes = [s[axis] or 0 for s in shapes if s is not None]
                axes[place] = np.concatenate(
                    [
                        flow.channels.fixed(size, "it comes from no layer") if ids is None else ids
                        for ids, size in zip(own, sizes, strict=True)
                    ]
                )
            continue
        first = next((ids for ids in own if ids is not None), None)
        for name in node.input if first is not None else ():
            flow.meet(name, place, first, _MIXED)
        axes[place] = first
    flow.give(output, axes)


def _split(flow: Flow, node: NodeProto) -> None:
    name = node.input[0]
    if not flow.live(name):
        return
    own = flow.axes(name)
    axis = _integer(node, "axis", 0) % len(own)
    ids = own[axis]
    shapes = [flow.shape(output) for output in node.output]
    sizes = [s[axis] for s in shapes if s is not None]
    if ids is None:
        for output in node.output:
            flow.give(output, own)
        return
    computed = len(node.input) > 1 and node.input[1] and not flow.is_weight(node.input[1])
    if (
        computed
        or len(sizes) < len(shapes)
        or None in sizes
        or sum(s or 0 for s in sizes) != len(ids)
    ):
        flow.pin(name, "the sizes of Split are not known")
        return
    ends = np.cumsum([s or 0 for s in sizes])
    parts = np.split(ids, ends[:-1])
    for output, part in zip(node.output, parts, strict=True):
        flow.give(output, [part if place == axis else other for place, other in enumerate(own)])
    flow.edits.append(lambda kept: _resize_split(flow, node, parts, kept))


def _resize_split(flow: Flow, node: NodeProto, parts: Sequence[Ids], kept: Kept) -> None:
    sizes = [int(kept(part).sum()) for part in parts]
    if sizes == [len(part) for part in parts]:
        return
    for attribute in list(node.attribute):
        if attribute.name == "num_outputs":
            node.attribute.remove(attribute)
        elif attribute.name == "split":
            attribute.ints[:] = sizes
            return
    if flow.opset < 13:
        attribute = node.attribute.add(name="split", type=7)  # INTS
        attribute.ints.extend(sizes)
        return
    del node.input[1:]
    node.input.append(flow.add_constant(f"{node.output[0]}_sizes", np.array(sizes, np.int64)))


def _slice(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    told = _slices(flow, node)
    vector = flow.vectors.get(name)
    if vector is not None:
        if told is not None and len(told) == 1:
            flow.vectors[output] = vector[told[0][1]]
        else:
            flow._stay_in_vector(name, "Slice of its shape has no rule")
    if not flow.live(name):
        return
    if told is None:
        flow.pin(name, "the bounds of Slice are computed")
        return
    axes = list(flow.axes(name))
    cut: list[tuple[int, Ids, slice]] = []
    for place, (axis, bounds) in enumerate(told):
        ids = axes[axis]
        if ids is None:
            continue
        step = 1 if bounds.step is None else bounds.step
        if step != 1 or len(node.input) < 3:
            flow.channels.pin(ids, "Slice with steps, or of an old opset, has no rule")
            axes[axis] = None
            continue
        axes[axis] = ids[bounds]
        cut.append((place, ids, bounds))
    flow.give(output, axes)
    if cut:
        flow.edits.append(lambda kept: _move_slice(flow, node, cut, kept))


def _slices(flow: Flow, node: NodeProto) -> list[tuple[int, slice]] | None:
    """(axis, slice) of constant bounds, each axis from 0 on; None where they are computed."""
    rank = len(flow.shape(node.input[0]) or ()) or 1
    if len(node.input) < 3:
        starts, ends = _ints(node, "starts"), _ints(node, "ends")
        if starts is None or ends is None:
            return None
        axes, steps = _ints(node, "axes"), None
    else:
        given = [flow.constant(n) if n else None for n in node.input[1:]]
        if any(n and c is None for n, c in zip(node.input[1:], given, strict=True)):
            return None
        lists = [None if c is None else [int(x) for x in np.ravel(c)] for c in given]
        starts, ends, axes, steps = (*lists, None, None)[:4]
    assert starts is not None
    assert ends is not None
    axes = axes or list(range(len(starts)))
    steps = steps or [1] * len(starts)
    return [
        (axis % rank, slice(start, end, step))
        for axis, start, end, step in zip(axes, starts, ends, steps, strict=True)
    ]


def _move_slice(
    flow: Flow, node: NodeProto, cut: Sequence[tuple[int, Ids, slice]], kept: Kept
) -> None:
    starts, ends = (np.array(flow.vector(n), np.int64) for n in node.input[1:3])
    for place, ids, bounds in cut:
        stays = kept(ids)
        start, end, _ = bounds.indices(len(ids))
        starts[place] = stays[:start].sum()
        ends[place] = stays[: max(end, start)].sum()
    node.input[1] = flow.add_constant(f"{node.output[0]}_starts", starts)
    node.input[2] = flow.add_constant(f"{node.output[0]}_ends", ends)


def _gather(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    indices = flow.constant(node.input[1])
    vector = flow.vectors.get(name)
    if vector is not None:
        if indices is not None:
            flow.vectors[output] = [vector[int(i)] for i in np.ravel(indices)]
        else:
            flow._stay_in_vector(name, "Gather of its shape at computed places has no rule")
    if not flow.live(name):
        flow.pin(node.input[1], "it holds indices")
        return
    axes = list(flow.axes(name))
    axis = _integer(node, "axis", 0) % len(axes)
    shape = flow.shape(node.input[1])
    ids = axes[axis]
    if shape is None or (ids is not None and (indices is None or indices.ndim != 1)):
        flow.pin(name, "Gather at computed places has no rule")
        return
    flow.pin(node.input[1], "it holds indices")
    if ids is None or indices is None:
        flow.give(output, [*axes[:axis], *[None] * len(shape), *axes[axis + 1 :]])
        return
    wanted = indices.astype(np.int64) % len(ids)
    taken, source = ids[wanted], ids
    flow.give(output, [*axes[:axis], taken, *axes[axis + 1 :]])

    def renumber(kept: Kept) -> None:
        places = np.cumsum(kept(source)) - 1
        left = places[wanted[kept(taken)]]
        if len(left) < len(wanted):
            node.input[1] = flow.add_constant(f"{output}_indices", left.astype(np.int64))

    flow.edits.append(renumber)


def _shape(flow: Flow, node: NodeProto) -> None:
    name = node.input[0]
    dims = flow.shape(name)
    if dims is None:
        flow.pin(name, "Shape of a value of unknown rank")
        return
    start, end = _integer(node, "start", 0), _integer(node, "end", len(dims))
    axes = flow.axes(name)
    every: list[Dim] = [
        size if axes[axis] is None and size is not None else (name, axis)
        for axis, size in enumerate(dims)
    ]
    flow.vectors[node.output[0]] = every[slice(start, end)]


def _same(flow: Flow, node: NodeProto) -> None:
    """Cast and Identity: values and shapes pass."""
    vector = flow.vector(node.input[0])
    if vector is not None:
        flow.vectors[node.output[0]] = vector
    flow.give(node.output[0], flow.axes(node.input[0]))


def _expand(flow: Flow, node: NodeProto) -> None:
    name, output = node.input[0], node.output[0]
    if not flow.live(name):
        return
    target, after = flow.vector(node.input[1]), flow.shape(output)
    axes = flow.axes(name)
    if target is None or after is None:
        flow.pin(name, "the shape of Expand is computed")
        return
    full: Axes = [*[None] * (len(after) - len(axes)), *axes]
    for axis, size in enumerate(reversed(target)):
        place = len(after) - 1 - axis
        if size != 1:
            flow.channels.pin(full[place], "Expand says its size")
            full[place] = None
    flow.give(output, full)


def _pad(flow: Flow, node: NodeProto) -> None:
    name = node.input[0]
    axes = list(flow.axes(name))
    if not flow.live(name):
        return
    pads = _ints(node, "pads")
    if len(node.input) > 1:
        constant = flow.constant(node.input[1])
        pads = None if constant is None else [int(x) for x in np.ravel(constant)]
    if pads is None or len(pads) != 2 * len(axes):
        flow.pin(name, "the sizes of Pad are computed, or those of some axes only")
        return
    for axis, ids in enumerate(axes):
        if ids is not None and (pads[axis] or pads[axis + len(axes)]):
            flow.channels.pin(ids, "Pad widens it")
            axes[axis] = None
    flow.give(node.output[0], axes)


def _resize(flow: Flow, node: NodeProto) -> None:
    name = node.input[0]
    if not flow.live(name):
        return
    before, after, axes = flow.shape(name), flow.shape(node.output[0]), list(flow.axes(name))
    sizes = flow.vector(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    scales = flow.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    plain = not _ints(node, "axes") and before is not None and after is not None
    for axis, ids in enumerate(axes):
        if ids is None:
            continue
        same = plain and before is not None and after is not None and before[axis] == after[axis]
        held = scales is not None and len(scales) == len(axes) and float(scales[axis]) == 1
        written = (
            sizes is not None and flow.is_weight(node.input[3]) and isinstance(sizes[axis], int)
        )
        if not (same and (held or written)):
            flow.channels.pin(ids, "Resize changes it, or its sizes are computed")
            axes[axis] = None
    flow.give(node.output[0], axes)
    if sizes is None:
        return

    def rewrite(kept: Kept) -> None:
        new = [
            int(kept(ids).sum()) if ids is not None else size
            for ids, size in zip(axes, sizes, strict=True)
        ]
        if new != sizes:
            node.input[3] = flow.add_constant(node.input[3], np.array(new, np.int64))

    if any(ids is not None for ids in axes):
        flow.edits.append(rewrite)


def _depth_to_space(flow: Flow, node: NodeProto) -> None:
    axes = flow.axes(node.input[0])
    ids = axes[1] if len(axes) == 4 else None
    if ids is None:
        flow.pin(node.input[0], "DepthToSpace moves it")
        return
    block = _integer(node, "blocksize", 1) ** 2
    columns = any(a.name == "mode" and a.s == b"CRD" for a in node.attribute)
    rows = ids.reshape(-1, block).T if columns else ids.reshape(block, -1)
    flow.channels.join(rows, np.broadcast_to(rows[0], rows.shape))
    flow.give(node.output[0], [axes[0], rows[0].copy(), None, None])


def _space_to_depth(flow: Flow, node: NodeProto) -> None:
    axes = flow.axes(node.input[0])
    if len(axes) == 4 and axes[1] is not None:
        block = _integer(node, "blocksize", 1) ** 2
        flow.give(node.output[0], [axes[0], np.tile(axes[1], block), None, None])


RULES: dict[str, Callable[[Flow, NodeProto], None]] = {
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Shape": _shape,
    "Cast": _same,
    "Identity": _same,
    "Expand": _expand,
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
