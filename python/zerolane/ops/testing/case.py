"""What is tested: one op with one set of inputs and attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

# Relative, and for numbers below 1 absolute: a few units in the last place of each type.
TOLERANCES = {"float64": 1e-10, "float32": 1e-5, "float16": 2e-3, "bfloat16": 1.6e-2}


@dataclass(frozen=True, eq=False)
class Case:
    """An op, the inputs it is given (None: left out) and its attributes.

    about: what is special, for messages. tolerance: how far results may be from the reference,
    |got - expected| <= tolerance * max(1, |expected|); None: that of the reference module, else of
    TOLERANCES. Integers are exact. version: of the op's definition; None: the newest.
    """

    op: str
    inputs: tuple[Array | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    about: str = ""
    tolerance: float | None = None
    version: int | None = None

    def __post_init__(self) -> None:
        # Row-major and aligned, as bodies want them; np.ascontiguousarray would change scalars.
        dense = (None if a is None else np.require(a, requirements=["C", "A"]) for a in self.inputs)
        object.__setattr__(self, "inputs", tuple(dense))

    def __str__(self) -> str:
        words = [self.op, *map(_signature, self.inputs)]
        words += [f"{name}={_short(value)}" for name, value in self.attributes.items()]
        return " ".join([*words, self.about]).strip()

    @property
    def elements(self) -> int:
        """Of all inputs together."""
        return sum(array.size for array in self.inputs if array is not None)

    def same_op(self, other: Case) -> bool:
        """Whether one object serves both."""
        return (self.op, self.version) == (other.op, other.version) and (
            _short(self.attributes) == _short(other.attributes)
        )


def _signature(array: Array | None) -> str:
    if array is None:
        return "none"
    return f"{array.dtype.name}[{','.join(map(str, array.shape))}]"


def _short(value: Any) -> str:
    return repr(value.tolist() if isinstance(value, np.ndarray) else value).replace(" ", "")
