"""Quantize: as ONNX QuantizeLinear says, computed in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def along(values: NDArray[Any], x: NDArray[Any], axis: int) -> NDArray[Any]:
    """A scalar or [1] as it is, others shaped to meet x along the axis."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def quantize(
    x: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any], *, axis: int
) -> NDArray[Any]:
    """saturate(round(x / scale) + zero_point), ties to even, NaN to the least integer."""
    limits = np.iinfo(zero_point.dtype)
    quotient = x.astype(np.float32) / along(scale, x, axis).astype(np.float32)
    # Exact: no quotient that matters has more than 24 digits.
    shifted = np.rint(quotient.astype(np.float64)) + along(zero_point, x, axis)
    cut = np.clip(np.where(np.isnan(shifted), limits.min, shifted), limits.min, limits.max)
    return np.asarray(cut).astype(zero_point.dtype)
