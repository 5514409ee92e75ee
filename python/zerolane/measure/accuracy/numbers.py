"""`cosine`, `psnr`, `max_error`: how near the numbers of all outputs stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from zerolane.measure.accuracy.agreement import Array, Outputs, array, failure

ENOUGH_DB = 60.0
"""A peak signal-to-noise ratio from which two outputs count as equal by `psnr`."""

Measure = Callable[[Array, Array], float]


class _Numbers:
    """A measure of two arrays of floats: the mean over samples, of the output that is worst.

    The outputs: the named ones, else all. Those of other types score the share of equal elements;
    sequences and maps count by their elements. An output that is missing or of another shape
    scores 0.
    """

    options: ClassVar[Mapping[str, int]] = {}
    name: ClassVar[str]
    measure: ClassVar[Measure]

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None:
        self._names = tuple(outputs)

    def reduce(self, outputs: Outputs) -> dict[str, list[Array]]:
        missing = [name for name in self._names if name not in outputs]
        if missing:
            raise failure(
                self.name,
                f"there is no output {missing[0]!r}, the model gives {list(outputs)}",
                "name those, or none",
                missing[0],
            )
        # Copied, because a run may hand out memory that its next call writes to.
        return {
            name: [part.copy() for part in _leaves(outputs[name])]
            for name in self._names or outputs
        }

    def score(
        self, reference: Sequence[dict[str, list[Array]]], got: Iterable[dict[str, list[Array]]]
    ) -> float:
        scores: dict[str, list[float]] = {}
        for wanted, made in zip(reference, got, strict=True):
            for name, parts in wanted.items():
                scores.setdefault(name, []).append(self._output(parts, made.get(name, [])))
        return min((float(np.mean(each)) for each in scores.values()), default=1.0)

    def _output(self, wanted: list[Array], made: list[Array]) -> float:
        if [a.shape for a in wanted] != [b.shape for b in made]:
            return 0.0
        return min((self._pair(a, b) for a, b in zip(wanted, made, strict=True)), default=1.0)

    def _pair(self, a: Array, b: Array) -> float:
        if not a.size:
            return 1.0
        if a.dtype.kind != "f" or b.dtype.kind != "f":
            return float(np.mean(a == b))
        x, y = a.astype(np.float64).reshape(-1), b.astype(np.float64).reshape(-1)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        if same.all():
            return 1.0
        usable = np.isfinite(x) & np.isfinite(y)
        if not (usable | same).all():
            return 0.0
        return float(np.clip(type(self).measure(x[usable], y[usable]), 0.0, 1.0))


def cosine(a: Array, b: Array) -> float:
    """a.b / (|a| |b|); 1 for two zero vectors, 0 for one."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    if size == 0:
        return float(not a.any() and not b.any())
    return float(a @ b) / size


def psnr(a: Array, b: Array) -> float:
    """20 log10(range of a / root of the mean squared difference) in dB; infinite for equal ones.

    The range is the largest less the smallest value of the reference `a`, or its largest magnitude
    where it is constant (peak signal-to-noise ratio as in ITU-T J.340, with the signal's own peak).
    """
    error = float(np.sqrt(np.mean(np.square(a - b)))) if a.size else 0.0
    if error == 0:
        return float("inf")
    peak = float(a.max() - a.min()) or float(np.abs(a).max())
    return 20 * float(np.log10(peak / error)) if peak else float("-inf")


def scaled_error(a: Array, b: Array) -> float:
    """The largest |a - b| over the largest |a|: what the tolerance of `zl.optimize.fp16` limits."""
    most, largest = float(np.abs(a - b).max(initial=0.0)), float(np.abs(a).max(initial=0.0))
    if largest == 0:
        return float("inf") if most else 0.0
    return most / largest


class Cosine(_Numbers):
    """The cosine of the angle between the outputs of a sample, as vectors; 0 for obtuse ones."""

    name: ClassVar[str] = "cosine"
    measure: ClassVar[Measure] = staticmethod(cosine)


class Psnr(_Numbers):
    """The peak signal-to-noise ratio over 60 dB, 1 at most: 0.5 means 30 dB."""

    name: ClassVar[str] = "psnr"
    measure: ClassVar[Measure] = staticmethod(lambda a, b: psnr(a, b) / ENOUGH_DB)


class MaxError(_Numbers):
    """1 less the largest difference over the largest value: 0.98 means an error of 2 %."""

    name: ClassVar[str] = "max_error"
    measure: ClassVar[Measure] = staticmethod(lambda a, b: 1 - scaled_error(a, b))


def _leaves(value: Any) -> Iterator[Array]:
    if isinstance(value, Mapping):
        yield array(list(value.values()))
    elif isinstance(value, list | tuple) and any(
        hasattr(item, "shape") or isinstance(item, Mapping | list | tuple) for item in value
    ):
        for item in value:
            yield from _leaves(item)
    else:
        yield array(value)
