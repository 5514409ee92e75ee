"""The first element at which two results differ, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from zerolane.ops.testing.case import TOLERANCES, Array


def difference(
    what: str, got: Array, expected: Array, *, tolerance: float | None = None
) -> str | None:
    """What is wrong with `what` ("output 'y'"), or None. NaN equals NaN, an infinity equals itself.

    tolerance: as of `Case`; None: by the element type. Integers and bools are exact.
    """
    if got.dtype != expected.dtype:
        return f"{what}: got {got.dtype.name}, expected {expected.dtype.name}"
    if got.shape != expected.shape:
        return f"{what}: got shape {list(got.shape)}, expected {list(expected.shape)}"
    if got.dtype.kind in "iub":
        return _first(what, got, expected, got != expected)
    wide = np.complex128 if got.dtype.kind == "c" else np.float64
    x, y = got.astype(wide), expected.astype(wide)
    allowed = TOLERANCES.get(got.dtype.name, 0.0) if tolerance is None else tolerance
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(x - y) <= allowed * np.maximum(1.0, np.where(np.isfinite(y), np.abs(y), 1.0))
        same = near | (x == y) | (np.isnan(x) & np.isnan(y))
    return _first(what, got, expected, ~same)


def bits_differ(what: str, got: Array, expected: Array) -> str | None:
    """The same, where every bit must be equal."""
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return difference(what, got, expected)
    size = max(got.dtype.itemsize, 1)
    a, b = (np.frombuffer(array.tobytes(), np.uint8).reshape(-1, size) for array in (got, expected))
    return _first(what, got, expected, (a != b).any(axis=1).reshape(got.shape))


def first_difference(
    names: Sequence[str],
    got: Sequence[Array],
    expected: Sequence[Array],
    *,
    tolerance: float | None = None,
    bits: bool = False,
) -> str | None:
    """Of several outputs, the first that differs."""
    if len(got) != len(expected):
        return f"got {len(got)} outputs, expected {len(expected)}"
    for name, a, b in zip(names, got, expected, strict=True):
        what = f"output {name!r}"
        found = bits_differ(what, a, b) if bits else difference(what, a, b, tolerance=tolerance)
        if found is not None:
            return found
    return None


def element(array: Array, flat: int) -> str:
    """Where the element of that number lies: "[2, 3]"."""
    return str([int(i) for i in np.unravel_index(flat, array.shape)])


def _first(what: str, got: Array, expected: Array, wrong: Any) -> str | None:
    count = int(np.count_nonzero(wrong))
    if count == 0:
        return None
    flat = int(np.flatnonzero(wrong)[0])
    a, b = got.reshape(-1)[flat], expected.reshape(-1)[flat]
    more = f" ({count} of {got.size} elements differ)" if count > 1 else ""
    return f"{what}, element {element(got, flat)}: got {a!s}, expected {b!s}{more}"
