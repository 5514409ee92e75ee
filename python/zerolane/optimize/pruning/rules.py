"""What each operator does to channels. An operator that is not here keeps all that touches it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import NodeProto

from zerolane.optimize.pruning import moves, reshapes
from zerolane.optimize.pruning.channels import Ids
from zerolane.optimize.pruning.flow import Axes, Flow, Kept, Layer

Rule = Callable[[Flow, NodeProto], None]

_ALONE = "another operand has elements that stay"


def _integer(node: NodeProto, name: str, default: int) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), default)


# Layers: they sum over channels, and make new ones.


def _conv(flow: Flow, node: NodeProto) -> None:
    name, weight = node.input[:2]
    if not flow.is_weight(weight):
        flow.pin(name, "the weights of Conv are computed")
        flow.pin(weight, "the weights of Conv are computed")
        return
    groups = _integer(node, "group", 1)
    made_count, per_group = flow.constants[weight].dims[:2]
    reduced = _only_channels(flow, node)
    made: Ids | None
    if groups == 1:
        flow.meet(weight, 1, reduced, "a weight serves two layers")
        made = flow.make(weight, 0)
    elif per_group == 1:  # depthwise: each channel makes its own
        made = None if reduced is None else np.repeat(reduced, made_count // groups)
        flow.meet(weight, 0, made, "a weight serves two layers")
        if reduced is not None:
            inputs = reduced
            flow.edits.append(lambda kept: _set_groups(node, int(kept(inputs).sum())))
    else:
        # Every group loses the same places, so that the groups stay of one size.
        if reduced is not None:
            rows = reduced.reshape(groups, per_group)
            flow.channels.join(rows, np.broadcast_to(rows[0], rows.shape))
            reduced = rows[0]
        flow.meet(weight, 1, reduced, "a weight serves two layers")
        made = flow.make(weight, 0)
        if made is not None:
            rows = made.reshape(groups, -1)
            flow.channels.join(rows, np.broadcast_to(rows[0], rows.shape))
    flow.layers.append(Layer(node, weight, 1, 0, reduced, made, groups))
    _bias(flow, node, 2, made)
    flow.give(node.output[0], [None, made, *[None] * (len(flow.constants[weight].dims) - 2)])


def _conv_transpose(flow: Flow, node: NodeProto) -> None:
    name, weight = node.input[:2]
    if not flow.is_weight(weight) or _integer(node, "group", 1) != 1:
        flow.pin(name, "ConvTranspose with groups or computed weights has no rule")
        flow.pin(weight, "the weights of ConvTranspose are computed")
        return
    reduced = _only_channels(flow, node)
    flow.meet(weight, 0, reduced, "a weight serves two layers")
    made = flow.make(weight, 1)
    flow.layers.append(Layer(node, weight, 0, 1, reduced, made))
    _bias(flow, node, 2, made)
    flow.give(node.output[0], [None, made, *[None] * (len(flow.constants[weight].dims) - 2)])


def _only_channels(flow: Flow, node: NodeProto) -> Ids | None:
    """The numbers of axis 1; those of all other axes stay."""
    axes = flow.axes(node.input[0])
    for axis, ids in enumerate(axes):
        if axis != 1:
            flow.channels.pin(ids, f"{node.op_type} computes along it")
    return axes[1] if len(axes) > 1 else None


def _bias(flow: Flow, node: NodeProto, index: int, made: Ids | None) -> None:
    if len(node.input) > index and node.input[index]:
        flow.meet(node.input[index], 0, made, "its bias is computed")


def _gemm(flow: Flow, node: NodeProto) -> None:
    a, b = node.input[:2]
    a_axis = 0 if _integer(node, "transA", 0) else 1
    transposed = bool(_integer(node, "transB", 0))
    if not flow.is_weight(b) or flow.is_weight(a):
        flow.pin(a, "Gemm of two computed values, or with its weight first, has no rule")
        flow.pin(b, "Gemm of two computed values, or with its weight first, has no rule")
        return
    axes = flow.axes(a) or [None, None]
    reduced = axes[a_axis]
    flow.meet(b, int(transposed), reduced, "a weight serves two layers")
    made = flow.make(b, 1 - int(transposed))
    flow.layers.append(Layer(node, b, int(transposed), 1 - int(transposed), reduced, made))
    flow.give(node.output[0], [axes[1 - a_axis], made])
    if len(node.input) > 2 and node.input[2]:
        bias = node.input[2]
        dims = flow.shape(bias)
        if dims and dims[-1] != 1:
            flow.meet(bias, len(dims) - 1, made, _ALONE)


def _matmul(flow: Flow, node: NodeProto) -> None:
    a, b = node.input
    left, right = flow.axes(a), flow.axes(b)
    if flow.is_weight(b) and len(right) == 2 and not flow.is_weight(a) and len(left) > 1:
        flow.meet(b, 0, left[-1], "a weight serves two layers")
        made = flow.make(b, 1)
        flow.layers.append(Layer(node, b, 0, 1, left[-1], made))
        flow.give(node.output[0], [*left[:-1], made])
        return
    if flow.is_weight(a) or flow.is_weight(b) or len(left) < 2 or len(right) < 2:
        for name in (a, b):
            flow.pin(name, "MatMul with this form of operands has no rule")
        return
    rank = max(len(left), len(right))
    batch = [
        _aligned(flow, (a, b), rank, axis, _ALONE) for axis in range(rank - 2)
    ]  # as elementwise operators do
    flow.meet(b, len(right) - 2, left[-1], _ALONE)
    flow.give(node.output[0], [*batch, left[-2], right[-1]])


# Operators that keep channels apart.


def _aligned(flow: Flow, names: tuple[str, ...], rank: int, axis: int, reason: str) -> Ids | None:
    """The numbers of one axis of the result of operands that are broadcast against each other."""
    found: Ids | None = None
    takes_part: list[tuple[str, int]] = []
    for name in names:
        dims = flow.shape(name)
        if dims is None:
            for other in names:
                flow.pin(other, f"the rank of {name!r} is not known")
            return None
        own = axis - (rank - len(dims))
        if own < 0 or dims[own] == 1:
            continue
        takes_part.append((name, own))
        ids = flow.axes(name)[own]
        found = ids if found is None else found
    for name, own in takes_part:
        flow.meet(name, own, found, reason)
    return found


def _elementwise(flow: Flow, node: NodeProto) -> None:
    names = tuple(name for name in node.input if name)
    shapes = [flow.shape(name) for name in names]
    rank = max((len(s) for s in shapes if s is not None), default=0)
    axes = [_aligned(flow, names, rank, axis, _ALONE) for axis in range(rank)]
    for output in node.output:
        flow.give(output, axes)


def _carry(flow: Flow, node: NodeProto) -> None:
    """The first input decides; others are single numbers."""
    flow.give(node.output[0], flow.axes(node.input[0]))
    for output in node.output[1:]:
        if output in flow.uses:
            flow.pin(node.input[0], f"{node.op_type} gives a second output")


def _per_channel(flow: Flow, node: NodeProto) -> None:
    """BatchNormalization, InstanceNormalization: a number a channel in each parameter."""
    channels = _only_channels(flow, node)
    for name in node.input[1:]:
        if name:
            flow.meet(name, 0, channels, "its parameters are computed")
    rank = len(flow.axes(node.input[0]))
    flow.give(node.output[0], [None, channels, *[None] * (rank - 2)] if rank > 1 else [])


def _pool(flow: Flow, node: NodeProto) -> None:
    channels, rank = _only_channels(flow, node), len(flow.axes(node.input[0]))
    if len(node.output) > 1 and node.output[1]:
        flow.pin(node.input[0], f"{node.op_type} gives indices")
    flow.give(node.output[0], [None, channels, *[None] * (rank - 2)] if rank > 1 else [])


def _across(default: int, onward: bool) -> Rule:
    """Operators that compute along one axis (`onward`: along all from it on) and keep the rest."""

    def rule(flow: Flow, node: NodeProto) -> None:
        axes = list(flow.axes(node.input[0]))
        axis = _integer(node, "axis", default) % max(len(axes), 1)
        for place in range(axis, len(axes) if onward else axis + 1):
            flow.channels.pin(axes[place], f"{node.op_type} computes across it")
            axes[place] = None
        flow.give(node.output[0], axes)
        for output in node.output[1:]:
            if output in flow.uses:
                flow.pin(node.input[0], f"{node.op_type} gives a second output")

    return rule


def _softmax(flow: Flow, node: NodeProto) -> None:
    modern = flow.opset >= 13  # before, it flattened all axes from the one named on
    _across(-1 if modern else 1, not modern)(flow, node)


def _reduce(flow: Flow, node: NodeProto) -> None:
    own = flow.axes(node.input[0])
    if not flow.live(node.input[0]):
        return
    given = next((list(a.ints) for a in node.attribute if a.name == "axes"), None)
    if len(node.input) > 1 and node.input[1]:
        told = flow.vector(node.input[1]) or []
        given = [a for a in told if isinstance(a, int)]
        if not given or len(given) < len(told):
            flow.pin(node.input[0], f"the axes of {node.op_type} are computed")
            return
    if node.op_type in ("ArgMax", "ArgMin"):
        given = [_integer(node, "axis", 0)]
    reduced = {a % len(own) for a in given} if given else set(range(len(own)))
    axes: Axes = []
    for axis, ids in enumerate(own):
        if axis not in reduced:
            axes.append(ids)
            continue
        flow.channels.pin(ids, f"{node.op_type} computes across it")
        if _integer(node, "keepdims", 1):
            axes.append(None)
    flow.give(node.output[0], axes)


def _set_groups(node: NodeProto, count: int) -> None:
    next(a for a in node.attribute if a.name == "group").i = count


def _grouped_norm(flow: Flow, node: NodeProto) -> None:
    flow.pin(node.input[0], "GroupNormalization computes across channels")


RULES: dict[str, Rule] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(
        (
            *("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "Pow", "PRelu", "Where"),
            *("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or", "Xor"),
            *("Mod", "BitShift"),
        ),
        _elementwise,
    ),
    **dict.fromkeys(
        (
            *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "ThresholdedRelu", "Sigmoid", "Tanh"),
            *("HardSigmoid", "HardSwish", "Mish", "Gelu", "Swish", "Softplus", "Softsign", "Erf"),
            *("Clip", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Reciprocal"),
            *("Exp", "Log", "Sin", "Cos", "Not", "IsNaN", "IsInf", "Identity", "Cast", "Dropout"),
            *("Shrink", "Atan", "Asin", "Acos", "Tan", "Sinh", "Cosh"),
        ),
        _carry,
    ),
    "BatchNormalization": _per_channel,
    "InstanceNormalization": _per_channel,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalMaxPool"), _pool),
    **dict.fromkeys(("GlobalAveragePool", "GlobalLpPool"), _pool),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), _softmax),
    "LayerNormalization": _across(-1, True),
    "RMSNormalization": _across(-1, True),
    "LpNormalization": _across(-1, False),
    "LRN": _across(1, False),
    "CumSum": moves.stay("CumSum computes across elements"),
    "GroupNormalization": _grouped_norm,
    **dict.fromkeys(
        (
            *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1"),
            *("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
            *("ArgMax", "ArgMin"),
        ),
        _reduce,
    ),
    "Reshape": reshapes.reshape,
    "Flatten": reshapes.flatten,
    **moves.RULES,
}
"""By operator type. ONNX's own domain has no prefix."""

__all__ = ["RULES", "Kept", "Rule"]
