"""CtcGreedyDecode: the best path, one step at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def best_paths(
    log_probs: NDArray[Any],
    lengths: NDArray[Any] | None,
    *,
    blank: int,
    merge_repeats: bool,
    layout: str,
) -> Iterator[tuple[list[int], float]]:
    """The labels and the score of each sequence."""
    sequences = log_probs.transpose(1, 0, 2) if layout == "TNC" else log_probs
    for n, sequence in enumerate(sequences.astype(np.float64)):
        labels: list[int] = []
        score = 0.0
        before = -1
        for step in sequence if lengths is None else sequence[: lengths[n]]:
            # NaN loses to every number; all of them NaN is class 0.
            numbers = np.flatnonzero(~np.isnan(step))
            best = int(numbers[step[numbers].argmax()]) if numbers.size > 0 else 0
            score += step[best]
            if best != blank % len(step) and not (merge_repeats and best == before):
                labels.append(best)
            before = best
        yield labels, score


def ctc_greedy_decode(
    log_probs: NDArray[Any], lengths: NDArray[Any] | None = None, **attributes: Any
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Labels [N, T] with -1 behind the last, how many they are [N], scores [N]."""
    count, steps = log_probs.shape[:2][:: -1 if attributes["layout"] == "TNC" else 1]
    padded = np.full((count, steps), -1, np.int64)
    found = np.zeros(count, np.int64)
    scores = np.zeros(count)
    for n, (labels, score) in enumerate(best_paths(log_probs, lengths, **attributes)):
        padded[n, : len(labels)] = labels
        found[n] = len(labels)
        scores[n] = score
    return padded, found, scores


def inputs(op: str) -> Iterator[Case]:
    """Cases for an op of this kind: few classes, long runs, lengths, NaN and infinities."""
    from zerolane._arrays import numpy_dtype
    from zerolane.ops.testing import Case

    rng = np.random.default_rng(11)
    for dtype in ("float32", "float16", "bfloat16"):
        for shape in ((2, 7, 5), (1, 1, 1), (3, 67, 29), (0, 4, 3), (2, 0, 3), (1, 301, 67)):
            # Sixteenths: exact in every type, with many equal ones.
            x = np.round(16 * np.repeat(rng.normal(-2, 1, shape), 2, axis=1)[:, ::2]) / 16
            x[rng.random(shape) < 0.02] = rng.choice([np.nan, -np.inf])
            for layout in ("NTC", "TNC"):
                given = x if layout == "NTC" else x.transpose(1, 0, 2)
                given = np.ascontiguousarray(given).astype(numpy_dtype(dtype))
                lengths = rng.integers(0, shape[1] + 1, shape[0])
                attributes = {"layout": layout, "merge_repeats": layout == "NTC"}
                yield Case(op, (given,), attributes)
                yield Case(op, (given, lengths), {**attributes, "blank": -1})


def cases() -> Iterator[Case]:
    """What an op with lengths that must fit can be given."""
    return inputs("zerolane::CtcGreedyDecode")
