"""`embedding`: whether what lies near stays near."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

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

_BLOCK = 256  # rows compared with all others at once: memory is _BLOCK x rows
_TIE = 1e-6


class Embedding:
    """The share of the `k` (1) nearest neighbours of each row that stay the same.

    All rows of all samples are compared with each other by the cosine of their angle. A neighbour
    also counts where the reference has it as near as its own k-th, to 1e-6: equal rows may swap.
    The output: the named one, else the first of floats; each row of its first axis is a vector.
    """

    options: ClassVar[Mapping[str, int]] = {"k": 1}

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None:
        most_names("embedding", outputs, 1)
        self._name = outputs[0] if outputs else ""
        self._k = options["k"]
        if self._k < 1:
            raise failure("embedding", f"k is {self._k}, expected 1 or more", "leave it out for 1")

    def reduce(self, outputs: Outputs) -> Array:
        name = self._name or next(
            (n for n, v in outputs.items() if is_float(v) and np.ndim(v) > 0), ""
        )
        value = array(pick("embedding", outputs, name)) if name else np.zeros(0, bool)
        if value.ndim < 1 or value.dtype.kind != "f":
            raise failure(
                "embedding",
                f"output {name!r} is {value.dtype} {list(value.shape)}, expected rows of floats"
                if name
                else f"none of the outputs {list(outputs)} is rows of floats",
                "name the output, 'embedding:OUTPUT'",
                name,
            )
        rows = value.reshape(len(value), -1).astype(np.float64)
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        unit = np.divide(rows, length, out=np.zeros_like(rows), where=length != 0)
        return np.asarray(unit)

    def score(self, reference: Sequence[Array], got: Iterable[Array]) -> float:
        wanted = np.concatenate(list(reference))
        made = np.concatenate(list(got))
        if len(wanted) < self._k + 2:
            raise failure(
                "embedding",
                f"the samples give {len(wanted)} rows, expected {self._k + 2} or more, so that "
                "neighbours can change",
                "give more samples",
                "samples",
            )
        if len(made) != len(wanted):
            return 0.0
        kept = 0.0
        for start in range(0, len(wanted), _BLOCK):
            block = slice(start, start + _BLOCK)
            near, now = wanted[block] @ wanted.T, made[block] @ made.T
            own = np.arange(len(near)), np.arange(start, start + len(near))
            near[own], now[own] = -np.inf, -np.inf
            near, now = (np.where(np.isnan(x), -np.inf, x) for x in (near, now))
            least = np.partition(near, -self._k, axis=1)[:, -self._k, None]
            chosen = np.argpartition(now, -self._k, axis=1)[:, -self._k :]
            there = np.isfinite(np.take_along_axis(now, chosen, 1))
            same = np.take_along_axis(near, chosen, 1) >= least - _TIE
            kept += float((same & there).sum())
        return kept / (len(wanted) * self._k)
