"""What every framework's adapter gives: names and samples of inputs, an export, a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from zerolane.errors import InvalidArgument, ShapeMismatch

Arrays = dict[str, NDArray[Any]]
Dynamic = Mapping[str, Mapping[int, str]]
"""Input name to the names of its free dimensions by axis: {"x": {0: "N"}}."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What an export is asked for. sample: of two rows or more where the batch is free."""

    sample: Arrays
    dynamic: Dynamic
    opset: int | None
    outputs: Sequence[str]


class Origin(Protocol):
    """A model in its framework.

    framework: its name for people. versions: of the packages that take part. sample: inputs by name
    in the order of the model, as given or made up.
    """

    framework: str
    versions: dict[str, str]
    sample: Arrays

    def export(self, wishes: Wishes) -> ModelProto:
        """The ONNX model, with the inputs of `sample` in that order."""

    def run(self, inputs: Arrays) -> list[Any]:
        """What the framework computes, in the order of the export's outputs."""

    def free_axes(self) -> Dynamic | None:
        """The free dimensions that the model itself knows of; None: it knows of none."""


def named(sample: Any, names: Sequence[str], doing: str) -> Arrays:
    """The sample as arrays by name. sample: one array, several in order, or a dict by name."""
    if isinstance(sample, Mapping):
        unknown = next((name for name in sample if name not in names), None)
        if unknown is not None:
            raise InvalidArgument(
                f"{doing}: the sample has a value for {unknown!r}, the model's inputs are "
                f"{list(names)}; correct the name",
                str(unknown),
            )
        return {name: array(sample[name]) for name in names if name in sample}
    values = list(sample) if isinstance(sample, tuple | list) else [sample]
    if len(values) > len(names):
        raise ShapeMismatch(
            f"{doing}: the sample has {len(values)} values, the model takes {len(names)} "
            f"({', '.join(names)}); give one for each",
            "sample",
        )
    return {name: array(value) for name, value in zip(names, values, strict=False)}


def array(value: Any) -> NDArray[Any]:
    """A NumPy array of an array or tensor of any framework."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    return np.asarray(value)


def resized(sample: Arrays, dynamic: Dynamic, name: str, size: int) -> Arrays:
    """The sample with `size` rows, its own over and over, along every axis called `name`."""
    made = {}
    for key, value in sample.items():
        for axis, dim in dynamic.get(key, {}).items():
            if dim == name and value.shape[axis]:
                value = np.take(value, np.arange(size) % value.shape[axis], axis)
        made[key] = value
    return made
