"""ScaledGelu: x P(X <= x) for a normal X, or its approximation by tanh."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def scaled_gelu(
    x: NDArray[Any], *, alpha: float, scale: float, approximate: str
) -> NDArray[np.float64]:
    """scale * gelu(alpha * x). Infinities have their limits: 0 on the left."""
    # Attributes are float32 in models.
    z = float(np.float32(alpha)) * x.astype(np.float64)
    if approximate == "tanh":
        gate = 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    else:
        gate = 0.5 * _erfc(-z / math.sqrt(2))
    product: NDArray[np.float64] = float(np.float32(scale)) * np.where(np.isneginf(z), 0, z * gate)
    return product
