"""What a named metric is: a reduction of a sample's outputs, and a score of two lists of those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from zerolane.errors import Error, InvalidArgument

Array = NDArray[Any]
Outputs = Mapping[str, Any]


class Agreement(Protocol):
    """Scores the outputs of a model against those of the reference, sample by sample.

    outputs: the names of the outputs to look at, in the metric's order; none: found by the metric.
    options: numbers by name. Both are what stands behind the colon of a metric's name.
    """

    options: ClassVar[Mapping[str, int]]
    """The numbers it takes, with their defaults."""

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None: ...

    def reduce(self, outputs: Outputs) -> Any:
        """What is kept of the outputs of one sample, as small as the metric allows."""

    def score(self, reference: Sequence[Any], got: Iterable[Any]) -> float:
        """0 to 1 for the reduced outputs of all samples; equal ones score 1."""


def failure(metric: str, found: str, remedy: str, subject: str = "metric") -> Error:
    """An InvalidArgument about outputs that a metric cannot score."""
    return InvalidArgument(f"scoring with {metric!r}: {found}; {remedy}", subject)


def pick(metric: str, outputs: Outputs, name: str) -> Any:
    """One output by name."""
    if name not in outputs:
        raise failure(
            metric,
            f"there is no output {name!r}, the model gives {list(outputs)}",
            f"name one of them, '{metric}:{next(iter(outputs), 'OUTPUT')}'",
            name,
        )
    return outputs[name]


def array(value: Any) -> Array:
    """A NumPy array of an output; the small float types widen to float32."""
    made = np.asarray(value)
    # bfloat16 and the float8 types have kind "V".
    return made.astype(np.float32) if made.dtype.kind == "V" else made


def is_float(value: Any) -> bool:
    return not isinstance(value, list | tuple | Mapping) and np.asarray(value).dtype.kind in "fV"


def most_names(metric: str, outputs: Sequence[str], most: int) -> None:
    if len(outputs) > most:
        raise failure(
            metric,
            f"{len(outputs)} outputs are named ({', '.join(outputs)}), expected {most} at most",
            "leave the others out",
        )
