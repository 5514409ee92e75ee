"""How channels run through a graph: numbers on the axes of its values and weights.

An axis of a value either has numbers (`Ids`), or None: nothing on it can go. Each operator has a
rule (`rules`) that says what it does to the numbers of its inputs; of one without a rule, all that
touches it stays. What an operator's attributes and constants say of sizes is rewritten by `edits`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from zerolane.model_file import Payloads
from zerolane.optimize.graph_passes.cut import reads
from zerolane.optimize.onnx_graph import opsets
from zerolane.optimize.pruning.channels import Channels, Ids

Axes = list[Ids | None]
Array = NDArray[Any]
Dim = int | tuple[str, int]
"""An element of a shape: a number, or the size of (value, axis) at run time."""

Kept = Callable[[Ids], NDArray[np.bool_]]
"""Which elements of an axis stay."""


@dataclass(frozen=True)
class Layer:
    """A node that sums over channels with a weight: a convolution, Gemm or MatMul.

    reduced: the numbers of what it sums over, for each element of axis `reduced_axis` of the
        weight, and None where nothing of that can go. made: those of what it makes.
    groups: of a convolution; beyond 1, weight axis 1 holds only one group's channels.
    """

    node: NodeProto
    weight: str
    reduced_axis: int
    made_axis: int
    reduced: Ids | None
    made: Ids | None
    groups: int = 1


@dataclass
class Flow:
    """The numbers of a main graph, once `follow` has been through it."""

    model: ModelProto
    payloads: Payloads
    shapes: dict[str, tuple[int | None, ...]]
    channels: Channels = field(default_factory=Channels)
    values: dict[str, Axes] = field(default_factory=dict)
    weights: dict[str, Axes] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    edits: list[Callable[[Kept], None]] = field(default_factory=list)
    vectors: dict[str, list[Dim]] = field(default_factory=dict)
    _met: set[tuple[str, int]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.constants: dict[str, TensorProto] = {t.name: t for t in self.graph.initializer}
        self.uses = Counter(name for node in self.graph.node for name in node.input)

    @property
    def graph(self) -> GraphProto:
        return self.model.graph

    @property
    def opset(self) -> int:
        return opsets(self.model).get("", 1)

    # What rules ask

    def is_weight(self, name: str) -> bool:
        return name in self.constants

    def shape(self, name: str) -> tuple[int | None, ...] | None:
        """None where not even the rank is known."""
        if name in self.constants:
            return tuple(self.constants[name].dims)
        return self.shapes.get(name)

    def axes(self, name: str) -> Axes:
        """The numbers of a value's axes; of a constant, or of unknown rank, none has any."""
        return self.values.get(name) or [None] * len(self.shape(name) or ())

    def constant(self, name: str) -> Array | None:
        """The value of a constant, None for anything else."""
        tensor = self.constants.get(name)
        return None if tensor is None else array_of(tensor, self.payloads)

    def vector(self, name: str) -> list[Dim] | None:
        """A shape as far as it is known: constants, and sizes taken from values."""
        if name in self.vectors:
            return self.vectors[name]
        tensor = self.constants.get(name)
        if tensor is None or tensor.data_type not in (TensorProto.INT64, TensorProto.INT32):
            return None
        return [int(x) for x in np.ravel(array_of(tensor, self.payloads))]

    def live(self, name: str) -> bool:
        return any(axis is not None for axis in self.values.get(name, []))

    # What rules say

    def give(self, name: str, axes: Sequence[Ids | None]) -> None:
        """The numbers of an output."""
        if name and any(axis is not None for axis in axes):
            self.values[name] = list(axes)

    def meet(self, name: str, axis: int, ids: Ids | None, reason: str) -> None:
        """An axis of an operand goes with `ids`: a weight follows, a value is joined with them.

        Where one of the two has no numbers, the other stays, for the reason.
        """
        if name in self.constants:
            self._meet_weight(name, axis, ids, reason)
            return
        own = self.axes(name)[axis]
        if own is None or ids is None:
            self.channels.pin(own, reason)
            self.channels.pin(ids, reason)
        else:
            self.channels.join(own, ids)

    def _meet_weight(self, name: str, axis: int, ids: Ids | None, reason: str) -> None:
        axes = self.weights.setdefault(name, [None] * len(self.constants[name].dims))
        first = (name, axis) not in self._met
        self._met.add((name, axis))
        if first:
            axes[axis] = ids
        elif axes[axis] is None or ids is None:
            self.channels.pin(axes[axis], reason)
            self.channels.pin(ids, reason)
        else:
            self.channels.join(axes[axis], ids)  # type: ignore[arg-type]

    def make(self, weight: str, axis: int) -> Ids | None:
        """Numbers of what a layer makes; those it has where the weight serves several layers."""
        count = self.constants[weight].dims[axis]
        if count < 2:
            return None
        if (weight, axis) in self._met:
            return self.weights[weight][axis]
        ids = self.channels.fresh(count)
        self._meet_weight(weight, axis, ids, "")
        return ids

    def pin(self, name: str, reason: str) -> None:
        """All of a value stays."""
        for axis in self.axes(name):
            self.channels.pin(axis, reason)

    def add_constant(self, stem: str, array: Array) -> str:
        """A new initializer; returns its name."""
        taken = {t.name for t in self.graph.initializer} | set(self.shapes)
        name, number = f"{stem}_pruned", 2
        while name in taken:
            name, number = f"{stem}_pruned_{number}", number + 1
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    # The way through

    def follow(self, rules: dict[str, Callable[[Flow, NodeProto], None]]) -> None:
        """Go through the main graph once, in its order."""
        for node in self.graph.node:
            op = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
            self._stay_where_sizes_are_read(node, op)
            if op in MOVED and node.input[0] in self.constants:
                self._loosen(node.input[0])
            rule = rules.get(op)
            if rule is None:
                self._stay(node, f"{op} has no rule")
            else:
                rule(self, node)
            for name in node.input:  # what a rule did not speak of stays
                if name in self.constants:
                    for axis in range(len(self.constants[name].dims)):
                        if (name, axis) not in self._met:
                            self._meet_weight(name, axis, None, f"{op} takes it as it is")
        for output in self.graph.output:
            self.pin(output.name, f"it is the output {output.name!r}")
            self._stay_in_vector(output.name, f"its size is in the output {output.name!r}")

    def _loosen(self, name: str) -> None:
        """A weight that is moved before it is used, as exporters do, has numbers as values have."""
        tensor = self.constants[name]
        if tensor.data_type not in _FLOATS or name in self.values:
            return
        for axis, size in enumerate(tensor.dims):
            if (name, axis) not in self._met and size > 1:
                self._meet_weight(name, axis, self.channels.loose(size), "")
        self.give(name, self.weights.get(name, []))

    def _stay(self, node: NodeProto, reason: str) -> None:
        for name in reads(node):
            if name in self.constants:
                for axis in range(len(self.constants[name].dims)):
                    self._meet_weight(name, axis, None, reason)
            elif name:
                self.pin(name, reason)
            self._stay_in_vector(name, reason)

    def _stay_in_vector(self, name: str, reason: str) -> None:
        for dim in self.vectors.get(name, []):
            if isinstance(dim, tuple):
                self.channels.pin(self.axes(dim[0])[dim[1]], reason)

    def _stay_where_sizes_are_read(self, node: NodeProto, op: str) -> None:
        for index, name in enumerate(node.input):
            follows = op in TRACED or (index == 1 and op.startswith("Reduce"))
            if name in self.vectors and not follows:
                self._stay_in_vector(name, f"{op} computes with its size")


MOVED = ("Unsqueeze", "Squeeze", "Reshape", "Transpose", "Cast", "Identity")
"""Operators that a weight may go through on its way."""

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)

TRACED = (
    *("Shape", "Gather", "Slice", "Concat", "Unsqueeze", "Squeeze", "Cast", "Identity"),
    "Reshape",
)
"""Operators through which shapes are followed."""


def array_of(tensor: TensorProto, payloads: Payloads) -> Array:
    """The values of a tensor of a light model, in its shape; not to be written to."""
    payload = payloads.of(tensor)
    if payload is None:
        return np.asarray(numpy_helper.to_array(tensor))
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return payload.view(dtype.newbyteorder("<")).reshape(tuple(tensor.dims))


def set_array(tensor: TensorProto, payloads: Payloads, array: Array) -> None:
    """Give a tensor of a light model other values and their shape, of its own type."""
    kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=array.shape)
    kept.doc_string = tensor.doc_string
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    flat = np.ascontiguousarray(array, dtype).reshape(-1)
    if payloads.of(tensor) is not None and flat.nbytes:
        payloads.add(kept, flat.view(np.uint8))
    else:
        kept.raw_data = flat.tobytes()
    tensor.CopyFrom(kept)
