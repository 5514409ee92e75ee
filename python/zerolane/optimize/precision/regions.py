"""Nodes that stay in float32 for where they stand in a graph, not for what operator they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from zerolane.optimize.onnx_graph import CONTROL_FLOW, FLOAT, Node, Scope, Value
from zerolane.optimize.precision.keep import FLOAT16, MOVES, takes_any
from zerolane.optimize.precision.rounding import FLOAT16_NORMAL, FLOAT16_OVERFLOWS, FLOAT16_VANISHES

_MOVING = MOVES | {"ConstantOfShape"}
_ELEMENTWISE = frozenset(
    (
        *("Add", "Sub", "Mul", "Div", "Neg", "Abs", "Sqrt", "Pow", "Reciprocal"),
        *("Exp", "Log", "Floor", "Ceil", "Round"),
    )
)
_CHEAP = _ELEMENTWISE | frozenset(
    (
        *("Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Erf", "HardSigmoid", "Elu"),
        *("Sum", "Min", "Max", "Mean", "Where", "MaxPool", "GlobalMaxPool", "Softplus", "Gelu"),
    )
)
_WAVE = frozenset(("Sin", "Cos"))
_BOUNDING = frozenset(
    (
        *("Softmax", "LogSoftmax", "Sigmoid", "Tanh", "HardSigmoid", "Erf", "Clip", "Min", "Max"),
        *("Div", "Reciprocal", "Log", "Exp"),
    )
)
_CARRYING = _MOVING | frozenset(["Add", "Sub", "Mul", "Neg", "Abs", "Sum", "Where", "Sqrt", "Pow"])
_BOUNDS = {("Clip", 1), ("Clip", 2), ("Min", 0), ("Min", 1), ("Max", 0), ("Max", 1)}
_WIDE_INTEGERS = {
    TensorProto.INT16,
    TensorProto.UINT16,
    TensorProto.INT32,
    TensorProto.UINT32,
    TensorProto.INT64,
    TensorProto.UINT64,
}
_NARROW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FEW = 1024
_IN_CHUNKS_OF = 1 << 22
_SCALE_ERROR = 2.0**-8

Reasons = dict[Node, str]


def from_whole_numbers(main: Scope, dtype: str) -> Reasons:
    """Nodes that compute with whole numbers only: positions, sizes, masks."""
    exact = 2048 if dtype == FLOAT16 else 256
    reason = f"it computes with whole numbers; above {exact} they are not all {dtype} numbers"
    marked: set[Value] = set()
    found: Reasons = {}
    for node in main.walk():
        floats = [v for v in node.inputs if v is not None and v.is_float]
        outputs = [v for v in node.outputs if v is not None and v.is_float]
        source = node.inputs[0] if node.inputs else None
        if node.op == "Range" or (
            node.op == "Cast" and source is not None and source.elem in _WIDE_INTEGERS
        ):
            marked.update(outputs)
            continue
        alike = node.op in MOVES or node.op in _ELEMENTWISE or node.op in _WAVE
        few = node.op == "MatMul" and all(v in marked or _size(v) <= _FEW for v in floats)
        pure = all(v in marked or v.constant is not None for v in floats)
        if (alike or few) and pure and any(v in marked for v in floats):
            found[node] = reason
            if node.op not in _WAVE:
                marked.update(outputs)
    return found


def widened_on_purpose(main: Scope) -> Reasons:
    """Nodes of a mixed model that work in float32 on values computed in a narrower type."""
    marked: dict[Value, str] = {}
    found: Reasons = {}
    for node in main.walk():
        if node.op == "Cast":
            source, output = node.inputs[0], node.outputs[0]
            if (
                source is not None
                and output is not None
                and output.is_float
                and source.elem in _NARROW
                and source.producer is not None
                and source.producer.op not in ("Cast", "Constant")
            ):
                marked[output] = node.name
            continue
        if node.op in CONTROL_FLOW:
            continue
        origin = next((marked[v] for v in node.inputs if v in marked), None)
        if origin is not None:
            found[node] = f"the model widens its input to float32 itself (cast {origin!r})"
            marked.update((v, origin) for v in node.outputs if v is not None and v.is_float)
    return found


def out_of_range(
    main: Scope, floats: Callable[[TensorProto], NDArray[np.float32]]
) -> tuple[Reasons, int]:
    """Nodes with a constant that float16 cannot hold, and those that carry its effect on.

    A scalar that becomes zero counts too: it is mostly there to keep a divisor from being zero.
    The second value is the number of constants too large.
    """
    found: Reasons = {}
    large = 0
    for node in main.walk():
        fill = node.attribute("value") if node.op == "ConstantOfShape" else None
        if fill is not None and fill.t.data_type == FLOAT:
            most = float(np.abs(floats(fill.t)).max(initial=0.0))
            if np.isfinite(most) and most >= FLOAT16_OVERFLOWS:
                large += 1
                _follow(node, f"its value {most:.3g} is too large for float16", found)
    for scope in main.scopes():
        for value in list(scope.values.values()):
            if value.constant is None or not value.is_float:
                continue
            array = floats(value.constant).reshape(-1)
            most, why, uses = _largest(array), "", value.uses
            scaling = [(n, i) for n, i in uses if _is_scale(n, i)]
            if most >= FLOAT16_OVERFLOWS:
                large += 1
                why = f"constant {value.name!r} reaches {most:.3g}, float16 ends at 65504"
                uses = [(n, i) for n, i in uses if (n.op, i) not in _BOUNDS]
            elif array.size == 1 and 0 < most <= FLOAT16_VANISHES:
                why = f"constant {value.name!r} is {most:.3g}, which float16 rounds to zero"
            elif scaling and np.any(_scale_error(array) > _SCALE_ERROR):
                why = f"scale {value.name!r} is below {FLOAT16_NORMAL:.2g}, too coarse in float16"
                uses = scaling
            for node, _ in uses if why else ():
                if not takes_any(node, 0):
                    _follow(node, why, found)
    return found, large


def between(
    main: Scope,
    kept: Iterable[Node],
    narrow: Callable[[Value], bool | None],
    wants: Callable[[Node, int], bool],
    narrow_output: Callable[[Value], bool],
) -> set[Node]:
    """Nodes that had better stay float32 because all around them is.

    Those that pass float32 values on to float32 neighbours; those that do little work between kept
    nodes; and those without a float output (as comparisons) whose inputs are not all narrow.
    `narrow(value)` says which type a value has when no such node is kept: None for constants, which
    can be had in both. `wants(node, index)`: the input is narrow then. `narrow_output(value)`: an
    output of the model that has to be narrow.
    """
    fixed = set(kept)
    candidates = [n for n in main.walk() if n.op in _MOVING | _CHEAP and n not in fixed]
    chosen = set(candidates)

    def is_narrow(value: Value) -> bool | None:
        if value.producer in chosen and value.is_float:
            return False
        return narrow(value)

    def wants_narrow(node: Node, index: int) -> bool:
        if node in chosen or node in fixed or node.op in CONTROL_FLOW:
            return False
        if takes_any(node, index):
            output = node.outputs[0]
            if node.op != "Cast" or output is None:
                return False
            if not output.is_float:
                return output.elem in _NARROW
            return narrow_output(output) or any(wants_narrow(*use) for use in output.uses)
        return wants(node, index) and any(v is not None and v.is_float for v in node.outputs)

    def fits(node: Node) -> bool:
        inputs = [v for v in node.inputs if v is not None and v.is_float]
        outputs = [v for v in node.outputs if v is not None and v.is_float]
        if any(is_narrow(v) for v in inputs) or any(narrow_output(v) for v in outputs):
            return False
        if any(wants_narrow(*use) for v in outputs for use in v.uses):
            return False
        # A model's own inputs and outputs do not make work on them worth keeping.
        outside = any(v.fed for v in inputs) or any(v.returned for v in outputs)
        fixed_input = any(is_narrow(v) is False for v in inputs)
        return node.op in _MOVING or (fixed_input and not outside)

    changed = True
    while changed:
        out = {n for n in chosen if not fits(n)}
        chosen -= out
        changed = bool(out)
    for node in main.walk():
        inputs = [v for v in node.inputs if v is not None and v.is_float]
        if (
            inputs
            and node not in fixed
            and not node.bodies
            and not any(v is not None and v.is_float for v in node.outputs)
            and any(is_narrow(v) is False for v in inputs)
        ):
            chosen.add(node)
    return chosen


def _follow(start: Node, reason: str, found: Reasons) -> None:
    """Mark a node, and behind it what carries its range on, up to where that is bounded."""
    todo = [start]
    while todo:
        node = todo.pop()
        if node in found or node.op in CONTROL_FLOW or node.op == "Cast":
            continue
        found[node] = reason
        if node.op in _CARRYING and node.op not in _BOUNDING:
            after = [use for v in node.outputs if v is not None for use, _ in v.uses]
            todo += [n for n in after if n.op in _CARRYING or n.op in _BOUNDING]


def _largest(array: NDArray[np.float32]) -> float:
    """The largest finite |value|; no copy of the whole array is made."""
    most = 0.0
    for start in range(0, array.size, _IN_CHUNKS_OF):
        size = np.abs(array[start : start + _IN_CHUNKS_OF])
        chunk = float(size.max())
        if not np.isfinite(chunk):
            chunk = float(np.max(size, initial=0.0, where=np.isfinite(size)))
        most = max(most, chunk)
    return most


def _is_scale(node: Node, index: int) -> bool:
    return node.op in ("QuantizeLinear", "DequantizeLinear") and index == 1


def _scale_error(array: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        error = np.abs(array.astype(np.float16).astype(np.float32) - array) / np.abs(array)
    return np.asarray(np.nan_to_num(error, nan=0.0, posinf=0.0))


def _size(value: Value) -> int:
    if value.constant is None or value.elem != FLOAT:
        return 1 << 62
    return int(np.prod(value.constant.dims, dtype=np.int64))
