"""How far two values of one output are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

NOISE_FACTOR = 4
"""Differences up to so many times the noise count as noise: a few runs do not show all of it."""

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
    mean_abs, mean_rel: the mean |a - b|, and that over the mean |b|. cosine: of the angle between a
        and b as vectors. psnr_db: peak signal-to-noise ratio, the peak being the range of b;
        infinite for equal ones. Of finite numbers; None where there are none.
    noise: the largest |b' - b| of runs b' of the reference that should be equal; None: not looked
        for. sample: the one that `worst` is of, where several were run.
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
    mean_abs: float = 0.0
    mean_rel: float = 0.0
    cosine: float | None = None
    psnr_db: float | None = None
    noise: float | None = None
    sample: int = 0

    @property
    def verdict(self) -> str | None:
        """ "equal", "noise" (at most NOISE_FACTOR times the reference's own) or "error".

        None where the noise was not measured.
        """
        if self.noise is None:
            return None
        if not self.elements and not self.ok:
            return "error"
        if self.max_abs == 0:
            return "equal"
        return "noise" if self.max_abs <= NOISE_FACTOR * self.noise else "error"

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
            "mean_abs": self.mean_abs,
            "mean_rel": self.mean_rel,
            "cosine": self.cosine,
            "psnr_db": self.psnr_db,
            "noise": self.noise,
            "of_noise": self.of_noise,
            "verdict": self.verdict,
            "sample": self.sample,
        }

    @property
    def of_noise(self) -> float | None:
        """max_abs over the noise; None where that is not known, infinite where it is 0."""
        if self.noise is None:
            return None
        if self.noise == 0:
            return math.inf if self.max_abs else 0.0
        return self.max_abs / self.noise

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
        if self.cosine is not None and self.max_abs:
            text += f"; mean abs {number_text(self.mean_abs)}, cosine {self.cosine:.6f}"
        if self.psnr_db is not None and self.max_abs:
            text += f", PSNR {self.psnr_db:.1f} dB"
        if self.of_noise is not None:
            text += f"; {number_text(self.of_noise)} x the noise of the reference: {self.verdict}"
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
    means: tuple[float, float, float | None, float | None] = (0.0, 0.0, None, None)
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
        means = _means(x, y, distance)
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
        mean_abs=means[0],
        mean_rel=means[1],
        cosine=means[2],
        psnr_db=means[3],
    )


def _means(x: Array, y: Array, distance: Array) -> tuple[float, float, float | None, float | None]:
    """Mean |x - y|, that over the mean |y|, the cosine, and the peak signal-to-noise ratio."""
    usable = np.isfinite(x) & np.isfinite(y)
    if not usable.any():
        return 0.0, 0.0, None, None
    a, b, gap = x[usable], y[usable], distance[usable]
    mean, size = float(gap.mean()), float(np.abs(b).mean())
    relative = mean / size if size else (math.inf if mean else 0.0)
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    dot = float(np.real(np.vdot(b, a)))
    cosine = dot / length if length else float(not a.any() and not b.any())
    noise = float(np.sqrt(np.square(gap).mean()))
    if b.dtype.kind == "c":
        return mean, relative, cosine, None
    peak = float(b.max() - b.min()) or float(np.abs(b).max())
    if noise == 0:
        return mean, relative, cosine, math.inf
    return mean, relative, cosine, 20 * math.log10(peak / noise) if peak else -math.inf


def over_samples(name: str, rows: Sequence[OutputDifference]) -> OutputDifference:
    """One row for an output of several samples: sums of counts, the worst of all else."""
    if len(rows) == 1:
        return rows[0]
    at = max(range(len(rows)), key=lambda i: (not rows[i].ok, rows[i].max_abs))
    worst = rows[at]
    elements = sum(row.elements for row in rows)
    cosines = [row.cosine for row in rows if row.cosine is not None]
    ratios = [row.psnr_db for row in rows if row.psnr_db is not None]
    return replace(
        worst,
        name=name,
        ok=all(row.ok for row in rows),
        elements=elements,
        mismatches=sum(row.mismatches for row in rows),
        max_abs=max(row.max_abs for row in rows),
        max_rel=max(row.max_rel for row in rows),
        nans=(sum(row.nans[0] for row in rows), sum(row.nans[1] for row in rows)),
        mean_abs=sum(row.mean_abs * row.elements for row in rows) / max(elements, 1),
        mean_rel=max(row.mean_rel for row in rows),
        cosine=min(cosines, default=None),
        psnr_db=min(ratios, default=None),
        sample=at,
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
