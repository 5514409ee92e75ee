"""`ctc`: how near the text stays that a model with CTC outputs reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from zerolane.measure.accuracy.agreement import (
    Array,
    Outputs,
    array,
    failure,
    is_float,
    most_names,
    pick,
)


class Ctc:
    """1 - edit distance / length of the longer text, the mean over all lines.

    Lines are read by the best path: the largest class of each step, repeats merged, blanks dropped
    (Graves et al., "Connectionist Temporal Classification", 2006). The distance counts insertions,
    deletions and substitutions (Levenshtein, 1966). Two empty lines are equal.

    The output: the named one, else the first of floats [N,T,C] ([T,C] is one line). Options:
    `blank`, its class (0; -1 is the last), and `time`, the axis of the steps (1; 0 for [T,N,C]).
    """

    options: ClassVar[Mapping[str, int]] = {"blank": 0, "time": 1}

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None:
        most_names("ctc", outputs, 1)
        self._name = outputs[0] if outputs else ""
        self._blank, self._time = options["blank"], options["time"]
        if self._time not in (0, 1):
            raise failure(
                "ctc", f"time is {self._time}, expected the axis 0 or 1", "leave it out for 1"
            )

    def reduce(self, outputs: Outputs) -> list[Array]:
        name = self._name or next(
            (n for n, v in outputs.items() if is_float(v) and np.ndim(v) in (2, 3)), ""
        )
        value = array(pick("ctc", outputs, name)) if name else np.zeros(0)
        if value.ndim not in (2, 3) or value.dtype.kind != "f":
            raise failure(
                "ctc",
                f"output {name!r} is {value.dtype} {list(value.shape)}, expected floats [N,T,C]"
                if name
                else f"none of the outputs {list(outputs)} is floats [N,T,C]",
                "name the output, 'ctc:OUTPUT', or take a function",
                name,
            )
        if value.ndim == 2:
            value = value[None]
        elif self._time == 0:
            value = value.swapaxes(0, 1)
        return best_path(value, self._blank)

    def score(self, reference: Sequence[list[Array]], got: Iterable[list[Array]]) -> float:
        shares: list[float] = []
        for wanted, read in zip(reference, got, strict=True):
            rest = [np.zeros(0, np.int64)] * (len(wanted) - len(read))
            for a, b in zip(wanted, [*read, *rest][: len(wanted)], strict=True):
                longest = max(len(a), len(b))
                shares.append(1 - edit_distance(a, b) / longest if longest else 1.0)
        return float(np.mean(shares)) if shares else 1.0


def best_path(scores: Array, blank: int = 0) -> list[Array]:
    """[N,T,C] to N lists of classes: repeats merged, blanks dropped."""
    blank %= scores.shape[-1]
    lines = []
    for row in scores.argmax(-1):
        previous = np.concatenate([[-1], row[:-1]])
        lines.append(row[(row != previous) & (row != blank)])
    return lines


def edit_distance(a: Array, b: Array) -> int:
    """Least number of insertions, deletions and substitutions between two sequences.

    The usual table, a row at a time. In a row, row[j] = min(best[j], row[j-1] + 1) is the running
    minimum of best[j] - j, plus j.
    """
    places = np.arange(len(b) + 1)
    row = places.copy()
    for count, symbol in enumerate(a, 1):
        best = np.minimum(row + 1, np.concatenate([[count], row[:-1] + (b != symbol)]))
        row = np.minimum.accumulate(best - places) + places
    return int(row[-1])
