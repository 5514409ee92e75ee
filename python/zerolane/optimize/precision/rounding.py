"""Float32 numbers to float16 and bfloat16, as bits; NumPy itself has no bfloat16."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

CODES = {"float16": int(TensorProto.FLOAT16), "bfloat16": int(TensorProto.BFLOAT16)}

FLOAT16_OVERFLOWS = 65520.0  # from here on rounding gives infinity
FLOAT16_NORMAL = 2.0**-14
FLOAT16_VANISHES = 2.0**-25  # up to here rounding gives zero

_IN_CHUNKS_OF = 1 << 22


@dataclass
class Constants:
    """What rounding did to the constants that were converted, in numbers of values."""

    values: int = 0
    subnormal: int = 0
    flushed: int = 0
    saturated: int = 0


def narrow_bits(array: NDArray[np.float32], dtype: str, counts: Constants) -> NDArray[np.uint16]:
    """The bits of the values in `dtype`, rounded to nearest even; finite ones stay finite."""
    bits = np.empty(array.size, np.uint16)
    for start in range(0, array.size, _IN_CHUNKS_OF):
        part = array[start : start + _IN_CHUNKS_OF]
        bits[start : start + part.size] = _narrow_part(part, dtype, counts)
    return bits


def _narrow_part(part: NDArray[np.float32], dtype: str, counts: Constants) -> NDArray[np.uint16]:
    counts.values += part.size
    if dtype == "float16":
        with np.errstate(over="ignore", under="ignore"):
            half = part.astype(np.float16)
        bits = half.view(np.uint16)
        size = bits & 0x7FFF
        over = (size == 0x7C00) & np.isfinite(part)
        if over.any():
            counts.saturated += int(over.sum())
            bits = np.where(over, bits - 1, bits)  # the largest finite number instead
        counts.subnormal += int(((size > 0) & (size < 0x0400)).sum())
        counts.flushed += int(((size == 0) & (part != 0)).sum())
        return np.asarray(bits)
    finite = np.isfinite(part)
    wide = part.view(np.uint32).astype(np.uint64)
    rounded = ((wide + 0x7FFF + ((wide >> 16) & 1)) >> 16).astype(np.uint16)
    infinite = finite & ((rounded & 0x7FFF) == 0x7F80)
    rounded = np.where(infinite, rounded - 1, rounded)  # as above
    return np.where(np.isnan(part), np.uint16(0x7FC0), rounded).astype(np.uint16)


def rounded(array: NDArray[np.float32], dtype: str) -> NDArray[np.float32]:
    """The values rounded to `dtype`, as float32; too large ones become infinite in float16."""
    if dtype == "float16":
        with np.errstate(over="ignore", under="ignore"):
            return array.astype(np.float16).astype(np.float32)
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    return from_bits(narrow_bits(flat, dtype, Constants()), dtype).reshape(array.shape)


def from_bits(bits: NDArray[np.uint16], dtype: str) -> NDArray[np.float32]:
    """The values of `narrow_bits`, as float32."""
    if dtype == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)
