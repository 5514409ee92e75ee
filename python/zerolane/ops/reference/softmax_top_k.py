"""SoftmaxTopK: the k largest of softmax(logits / temperature)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def softmax_top_k(
    logits: NDArray[Any], *, k: int, temperature: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities and classes, both [..., k]: equal ones by class, NaN last."""
    x = logits.astype(np.float64)
    largest = np.where(np.isnan(x), -np.inf, x).max(axis=-1, keepdims=True)
    weights = np.exp((x - largest) / float(np.float32(temperature)))
    probabilities = weights / weights.sum(axis=-1, keepdims=True)
    # A stable sort keeps equal ones in order, and NumPy sorts NaN behind everything.
    indices = np.argsort(-x, axis=-1, kind="stable")[..., :k]
    return np.take_along_axis(probabilities, indices, axis=-1), indices
