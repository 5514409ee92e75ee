"""DynamicQuantize: symmetric, with the scale taken from the data."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference.quantize import quantize


def dynamic_quantize(x: NDArray[Any]) -> tuple[NDArray[np.int8], NDArray[Any]]:
    """int8 and the scale that maps the largest finite size to 127; 1 if there is none."""
    sizes = np.abs(x[np.isfinite(x)]).astype(np.float32)
    scale = (sizes.max(initial=0) / np.float32(127)).astype(x.dtype)
    if scale == 0:
        scale = np.ones((), x.dtype)
    return quantize(x, scale, np.zeros((), np.int8), axis=0), scale
