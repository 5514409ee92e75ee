"""CtcGreedyDecodeFlat: the labels of CtcGreedyDecode without padding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference.ctc_greedy_decode import best_paths, inputs

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def ctc_greedy_decode_flat(
    log_probs: NDArray[Any], lengths: NDArray[Any] | None = None, **attributes: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """All labels [M], where each sequence begins in them [N + 1], scores [N]."""
    paths = list(best_paths(log_probs, lengths, **attributes))
    values = np.array([label for labels, _ in paths for label in labels], np.int64)
    row_splits = np.cumsum([0, *(len(labels) for labels, _ in paths)])
    return values, row_splits, np.array([score for _, score in paths])


def cases() -> Iterator[Case]:
    """What an op with lengths that must fit can be given."""
    return inputs("zerolane::CtcGreedyDecodeFlat")
