"""How far two values of one output are apart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# bfloat16 and the float8 types have kind "V".
_FLOAT_KINDS = "fV"


@dataclass(frozen=True, slots=True)
class WorstElement:
    """Where two arrays are farthest apart, and what is there."""

    index: tuple[int, ...]
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One output of two runs. `dtype` and `shape` are those of (a, b); None: it is not there.

    mismatches: elements out of tolerance, of `elements`; both 0 if the arrays cannot be compared,
        and `note` says why.
    max_abs, max_rel: the largest |a - b| and |a - b| / |b| (where b is not 0) of numbers; NaN
        against a number counts as infinite.
    worst: the element with the largest |a - b|, where they are not all equal.
    """

    name: str
    ok: bool
    dtype: tuple[str | None, str | None]
    shape: tuple[tuple[int, ...] | None, tuple[int, ...] | None]
    elements: int = 0
    mismatches: int = 0
    max_abs: float = 0.0
    max_rel: float = 0.0
    nans: tuple[int, int] = (0, 0)
    worst: WorstElement | None = None
    note: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "ok": self.ok,
            "dtype": list(self.dtype),
            "shape": [None if s is None else list(s) for s in self.shape],
            "elements": self.elements,
            "mismatches": self.mismatches,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            "nans": list(self.nans),
            "worst": None
            if self.worst is None
            else {"index": list(self.worst.index), "a": self.worst.a, "b": self.worst.b},
            "note": self.note,
        }

    def __str__(self) -> str:
        text = f"{'ok  ' if self.ok else 'FAIL'} {self.name}: {self.note}"
        if self.note and not self.elements:
            return text
        text += "; " if self.note else ""
        text += (
            f"max abs {number_text(self.max_abs)}, max rel "
            f"{number_text(self.max_rel)}, {self.mismatches} of {self.elements} out of tolerance"
        )
        if self.worst is not None:
            text += f", worst at {list(self.worst.index)}: {self.worst.a!r} and {self.worst.b!r}"
        return text


def number_text(value: float) -> str:
    """A tolerance or an error in three digits: 0, 1e-05, 0.00213, inf."""
    return f"{value:.3g}"


def compare_values(
    name: str, a: Any, b: Any, *, atol: float, rtol: float
) -> Iterator[OutputDifference]:
    """The differences of one output: one row for an array, several for sequences and maps."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        if a.keys() != b.keys():
            note = f"keys differ: {sorted(map(repr, a.keys() ^ b.keys()))} are on one side only"
            yield OutputDifference(name, False, ("map", "map"), ((len(a),), (len(b),)), note=note)
        else:
            values = [np.asarray([m[key] for key in a]) for m in (a, b)]
            yield _compare_arrays(name, *values, atol=atol, rtol=rtol)
    elif _is_sequence(a) and _is_sequence(b):
        if len(a) != len(b):
            note = f"lengths differ: {len(a)} and {len(b)} values"
            kind = ("sequence", "sequence")
            yield OutputDifference(name, False, kind, ((len(a),), (len(b),)), note=note)
        for place, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from compare_values(f"{name}[{place}]", x, y, atol=atol, rtol=rtol)
        if not a and not b:
            yield OutputDifference(name, True, ("sequence", "sequence"), ((0,), (0,)))
    elif _kind(a) != _kind(b):
        note = f"kinds differ: {_kind(a)} and {_kind(b)}"
        yield OutputDifference(name, False, (_kind(a), _kind(b)), (None, None), note=note)
    else:
        yield _compare_arrays(name, _array(a), _array(b), atol=atol, rtol=rtol)


def missing(name: str, value: Any, *, side: int) -> OutputDifference:
    """An output that only `a` (side 0) or `b` (side 1) has."""
    kind, shape = _kind(value), None
    if kind == "array":
        array = _array(value)
        kind, shape = _dtype_name(array), array.shape
    note = f"only {'ab'[side]} has it"
    if side == 0:
        return OutputDifference(name, False, (kind, None), (shape, None), note=note)
    return OutputDifference(name, False, (None, kind), (None, shape), note=note)


def _is_sequence(value: Any) -> bool:
    """A sequence of tensors or maps; a list of plain numbers or strings is an array."""
    return isinstance(value, list | tuple) and all(
        hasattr(item, "shape") or isinstance(item, Mapping | list | tuple) for item in value
    )


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "map"
    return "sequence" if _is_sequence(value) else "array"


def _array(value: Any) -> Array:
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        return np.from_dlpack(value)
    return np.asarray(value)


def _compare_arrays(name: str, a: Array, b: Array, *, atol: float, rtol: float) -> OutputDifference:
    dtypes = _dtype_name(a), _dtype_name(b)
    shapes = a.shape, b.shape
    if a.shape != b.shape:
        note = f"shapes differ: {list(a.shape)} and {list(b.shape)}"
        return OutputDifference(name, False, dtypes, shapes, note=note)
    note = "" if dtypes[0] == dtypes[1] else f"dtypes differ: {dtypes[0]} and {dtypes[1]}"
    if note and not all(array.dtype.kind in _FLOAT_KINDS for array in (a, b)):
        return OutputDifference(name, False, dtypes, shapes, note=note)
    max_rel, nans = 0.0, (0, 0)
    if dtypes[0] in ("string", "bool"):
        wrong = np.asarray(a != b)
        distance = wrong.astype(np.float64)
    else:
        integers = a.dtype.kind in "iu"
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        x, y = a.astype(wide), b.astype(wide)
        distance = _integer_distance(a, b) if integers else _float_distance(x, y)
        size = np.where(np.isfinite(y), np.abs(y), 0.0)
        wrong = distance > (atol if integers else atol + rtol * size)
        max_rel = float((distance[size > 0] / size[size > 0]).max(initial=0.0))
        nans = int(np.isnan(x).sum()), int(np.isnan(y).sum())
    mismatches = int(wrong.sum())
    return OutputDifference(
        name,
        mismatches == 0 and not note,
        dtypes,
        shapes,
        elements=int(a.size),
        mismatches=mismatches,
        max_abs=float(distance.max(initial=0.0)),
        max_rel=max_rel,
        nans=nans,
        worst=_worst(a, b, distance, wrong),
        note=note,
    )


def _integer_distance(a: Array, b: Array) -> Array:
    # In the unsigned type of the same width, larger minus smaller wraps to the exact distance.
    wide = a.dtype.newbyteorder("=").str.replace("i", "u")
    high, low = np.maximum(a, b).astype(wide), np.minimum(a, b).astype(wide)
    return np.asarray(np.subtract(high, low).astype(np.float64))


def _float_distance(x: Array, y: Array) -> Array:
    """|x - y|; 0 for NaN and NaN and for equal infinities, infinite for NaN and a number."""
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.abs(x - y)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
    return np.where(same, 0.0, np.where(np.isnan(distance), np.inf, distance))


def _worst(a: Array, b: Array, distance: Array, wrong: Array) -> WorstElement | None:
    if not distance.size or distance.max() == 0:
        return None
    # The farthest one that is out of tolerance, if any is: that is the one to look at.
    flat = int(np.argmax(np.where(wrong, distance, -1.0) if wrong.any() else distance))
    index = tuple(int(i) for i in np.unravel_index(flat, a.shape))
    return WorstElement(index, _plain(a.reshape(-1)[flat]), _plain(b.reshape(-1)[flat]))


def _plain(value: Any) -> Any:
    item = value.item() if isinstance(value, np.generic) else value
    return item if isinstance(item, bool | int | float | complex | str) else float(item)


def _dtype_name(array: Array) -> str:
    return "string" if array.dtype.kind in "USOT" else array.dtype.name
