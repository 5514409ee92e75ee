"""`top1`: the share of decisions that stay the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from zerolane.measure.accuracy.agreement import (
    Array,
    Outputs,
    array,
    failure,
    is_float,
    most_names,
    pick,
)

_FROM_MAPS = 4  # rank from which the classes are on axis 1, as in maps [N,C,H,W]


class Top1:
    """The share of rows whose largest value is in the same place (top-1 agreement).

    The output: the named one, else the first of floats with more than one column, else the first
    of integers or strings, which are decisions already. Classes are on the last axis, from rank 4
    on (maps) on axis 1. A row with NaN agrees only with one that has NaN too.
    """

    options: ClassVar[Mapping[str, int]] = {}

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None:
        most_names("top1", outputs, 1)
        self._name = outputs[0] if outputs else ""

    def reduce(self, outputs: Outputs) -> Array:
        name = self._name or _found(outputs)
        value = array(pick("top1", outputs, name))
        if value.dtype.kind != "f":
            return value.copy()
        if not _has_classes(value):
            raise failure(
                "top1",
                f"output {name!r} is {list(value.shape)}, expected several classes on its last "
                "axis (axis 1 from rank 4 on)",
                "name another output, 'top1:OUTPUT', or take max_error, cosine or a function",
                name,
            )
        axis = _axis(value)
        chosen = value.argmax(axis)
        return np.where(np.isnan(value).any(axis), -1, chosen)

    def score(self, reference: Sequence[Array], got: Iterable[Array]) -> float:
        equal = total = 0
        for a, b in zip(reference, got, strict=True):
            total += a.size
            if a.shape == b.shape:
                equal += int(np.asarray(a == b).sum())
        return equal / total if total else 1.0


def _axis(value: Array) -> int:
    return 1 if value.ndim >= _FROM_MAPS else -1


def _has_classes(value: Array) -> bool:
    return value.ndim >= 1 and value.shape[_axis(value)] > 1


def _found(outputs: Outputs) -> str:
    plain = [name for name, v in outputs.items() if not isinstance(v, list | tuple | Mapping)]
    floats = [name for name in plain if is_float(outputs[name])]
    wide = [name for name in floats if _has_classes(np.asarray(outputs[name]))]
    decided = [name for name in plain if np.asarray(outputs[name]).dtype.kind in "iuOUST"]
    found: Any = next(iter((*wide, *decided)), None)
    if found is None:
        raise failure(
            "top1",
            f"none of the outputs {list(outputs)} has several classes, or integers or strings",
            "take max_error, cosine or a function",
        )
    return str(found)
