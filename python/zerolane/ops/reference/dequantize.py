"""Dequantize: as ONNX DequantizeLinear says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference.quantize import along


def dequantize(
    x: NDArray[Any], scale: NDArray[Any], zero_point: NDArray[Any] | None = None, *, axis: int
) -> NDArray[Any]:
    """(x - zero_point) * scale, in float32, rounded once to the type of scale."""
    zero = np.zeros((), np.int32) if zero_point is None else along(zero_point, x, axis)
    distance = x.astype(np.int32) - zero.astype(np.int32)
    product = distance.astype(np.float32) * along(scale, x, axis).astype(np.float32)
    return np.asarray(product).astype(scale.dtype)
