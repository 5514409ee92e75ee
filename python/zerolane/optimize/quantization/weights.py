"""Constant weights in few bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane._lazy import require
from zerolane.optimize.quantization.ranges import FLOAT8_LARGEST

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Stored:
    """Weights as stored, and their scales: one, or one for each index along `axis`."""

    values: NDArray[Any]
    scales: Floats
    axis: int | None


def channel_axis(op: str, trans_b: bool, group: int) -> int | None:
    """The axis of a layer's weights that its result's channels come from; None: no one axis."""
    if op == "Conv":
        return 0
    if op == "ConvTranspose":
        return 1 if group == 1 else None
    if op == "Gemm":
        return 0 if trans_b else 1
    return 1  # MatMul with weights [K, N]


def to_int8(weights: Floats, axis: int | None) -> Stored:
    """Symmetric, from -127 to 127, so that runtimes may negate."""
    scales = _largest(weights, axis) / np.float32(127)
    values = np.clip(np.rint(weights / _along(scales, axis, weights.ndim)), -127, 127)
    return Stored(values.astype(np.int8), scales, axis)


def to_float8(weights: Floats, axis: int | None) -> Stored:
    """float8e4m3fn, with the largest weight of a channel at the largest number."""
    ml_dtypes = require("ml_dtypes", "optimize", "storing weights in float8")
    scales = _largest(weights, axis) / np.float32(FLOAT8_LARGEST)
    values = weights / _along(scales, axis, weights.ndim)
    return Stored(values.astype(ml_dtypes.float8_e4m3fn), scales, axis)


def to_int4(weights: Floats, block: int) -> Stored:
    """[K, N] in blocks of `block` rows, from -7 to 7; values come unpacked, as int8.

    K is filled up with zeros to whole blocks by the caller. Scales: [K / block, N].
    """
    k, n = weights.shape
    blocks = weights.reshape(k // block, block, n)
    scales = np.maximum(np.abs(blocks).max(1) / np.float32(7), np.float32(1e-30))
    values = np.clip(np.rint(blocks / scales[:, None]), -7, 7).astype(np.int8)
    return Stored(values.reshape(k, n), scales, 0)


def bias_to_int32(bias: Floats, scales: Floats) -> NDArray[np.int32]:
    """In the unit of the products: scales are those of input times weights, one or one a channel.

    Saturates; `bias_overflows` tells.
    """
    exact = bias.astype(np.float64) / scales.astype(np.float64)
    limit = 2.0**31 - 1
    return np.clip(np.rint(exact), -limit, limit).astype(np.int32)


def bias_overflows(bias: Floats, scales: Floats) -> bool:
    """Whether a bias is beyond int32 (or so near that a sum of products would be)."""
    exact = np.abs(bias.astype(np.float64) / scales.astype(np.float64))
    return bool((exact > 2.0**30).any())


def _largest(weights: Floats, axis: int | None) -> Floats:
    others = None if axis is None else tuple(a for a in range(weights.ndim) if a != axis)
    found = np.abs(weights).max(axis=others, initial=0)
    return np.maximum(np.asarray(found, np.float32), np.float32(1e-30))


def _along(scales: Floats, axis: int | None, rank: int) -> Floats:
    if axis is None:
        return scales
    return scales.reshape([-1 if a == axis else 1 for a in range(rank)])
