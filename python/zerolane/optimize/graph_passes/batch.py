"""The batch dimension rewritten: fixed to named, named to fixed, with what an export baked in.

Shapes are inferred for two batch sizes. A dimension that grows with the batch is one that differs
between the two; a node whose result ought to grow and does not has the batch baked into a constant,
which is rewritten where that is a Reshape, an Expand or a constant that is concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from zerolane.errors import InvalidArgument, Unsupported
from zerolane.model_file import Payloads
from zerolane.optimize.graph_passes.cut import reads
from zerolane.optimize.onnx_graph import all_names, bodies_of

_RECURRENT = ("GRU", "LSTM", "RNN")
_FIRST_STATE = 5  # place of the first state among their inputs
_TIMES = 7
"""How much larger the second batch is: no usual ratio of two dimensions."""

Shape = tuple[int | None, ...]


def batch_of(model: ModelProto) -> int | str | None:
    """The first dimension of the first input: a number, a name, or None where it has neither."""
    constant = {t.name for t in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name not in constant and dims:
            return dims[0].dim_value or dims[0].dim_param or None
    return None


@dataclass(frozen=True)
class Rebatched:
    """was: the batch before. said: a sentence for each constant that was rewritten. axes: where the
    batch is in each input and output that has it; empty where it had a name."""

    was: int | str
    said: tuple[str, ...] = ()
    axes: Mapping[str, int] = field(default_factory=dict)


def rewrite_batch(model: ModelProto, payloads: Payloads, to: int | str, doing: str) -> Rebatched:
    """Give the batch dimension another name or size, in place.

    The batch is the first dimension of the first input and of every input with an equal one; of the
    state of a recurrent operator it is the second. Raises Unsupported with the node's name where
    the batch is baked in and cannot be taken out.
    """
    was = batch_of(model)
    if was is None:
        raise InvalidArgument(
            f"{doing}: the first input has no first dimension with a size or a name, expected the "
            "batch there; give the model's inputs a shape first",
            "batch",
        )
    if isinstance(was, str):
        _rename(model, was, to)
        return Rebatched(was)
    if was == to:
        return Rebatched(was)
    return _Fixed(model, payloads, was, doing).take_out(to)


def _rename(model: ModelProto, was: str, to: int | str) -> None:
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == was:
                _set(dim, to)
    del model.graph.value_info[:]


def _set(dim: onnx.TensorShapeProto.Dimension, to: int | str | None) -> None:
    dim.Clear()
    if isinstance(to, str):
        dim.dim_param = to
    elif to is not None:
        dim.dim_value = to


class _Fixed:
    """A model whose batch is the number `size`."""

    def __init__(self, model: ModelProto, payloads: Payloads, size: int, doing: str) -> None:
        self.model, self.payloads, self.size, self.doing = model, payloads, size, doing
        self.taken = all_names(model)
        self.said: list[str] = []
        self.fed = self._batched_inputs()
        self.rows: str | None = None

    def _batched_inputs(self) -> dict[str, int]:
        """Inputs with a batch: on which axis."""
        graph = self.model.graph
        states = {
            name
            for node in graph.node
            if node.op_type in _RECURRENT and _layout(node) == 0
            for name in list(node.input)[_FIRST_STATE:]
        }
        constant = {t.name for t in graph.initializer}
        found = {}
        for value in graph.input:
            axis = 1 if value.name in states else 0
            dims = value.type.tensor_type.shape.dim
            fits = len(dims) > axis and dims[axis].dim_value == self.size
            if fits and value.name not in constant:
                found[value.name] = axis
        return found

    def take_out(self, to: int | str) -> Rebatched:
        graph = self.model.graph
        self.before = self._shapes(self.size)
        while True:
            after = self._shapes(self.size * _TIMES)
            if not any(self._repair(node, after) for node in list(graph.node)):
                break
        for node in graph.node:
            self._refuse_stuck(node, after)
        axes = dict(self.fed)
        for value in graph.input:
            if value.name in axes:
                _set(value.type.tensor_type.shape.dim[axes[value.name]], to)
        for value in graph.output:
            axis = self._axis(value.name, after)
            if axis is not None:
                axes[value.name] = axis
            self._declare(value, after.get(value.name), to)
        del graph.value_info[:]
        return Rebatched(self.size, tuple(self.said), axes)

    def _declare(self, output: ValueInfoProto, after: Shape | None, to: int | str) -> None:
        before = self.before.get(output.name)
        for axis, dim in enumerate(output.type.tensor_type.shape.dim):
            if before is None or after is None or len(before) != len(after):
                _set(dim, None)
            elif before[axis] != after[axis]:
                rows = before[axis] == self.size
                times = (before[axis] or 0) // self.size
                many = times * to if isinstance(to, int) else None
                _set(dim, to if rows else many)

    def _shapes(self, size: int) -> dict[str, Shape]:
        trial = ModelProto()
        trial.CopyFrom(self.model)
        for value in trial.graph.input:
            if value.name in self.fed:
                value.type.tensor_type.shape.dim[self.fed[value.name]].dim_value = size
        for value in trial.graph.output:
            value.type.tensor_type.ClearField("shape")
        del trial.graph.value_info[:]
        graph = onnx.shape_inference.infer_shapes(trial, data_prop=True).graph
        found: dict[str, Shape] = {t.name: tuple(t.dims) for t in graph.initializer}
        for value in (*graph.input, *graph.value_info, *graph.output):
            if value.type.tensor_type.HasField("shape"):
                dims = value.type.tensor_type.shape.dim
                found[value.name] = tuple(d.dim_value if d.dim_value else None for d in dims)
        return found

    def _axis(self, name: str, after: dict[str, Shape]) -> int | None:
        """The first axis of a value that grows with the batch."""
        small, large = self.before.get(name), after.get(name)
        if small is None or large is None or len(small) != len(large):
            return None
        return next((i for i, (a, b) in enumerate(zip(small, large, strict=True)) if a != b), None)

    # Repairs: True where the model was changed, and shapes must be inferred anew

    def _repair(self, node: NodeProto, after: dict[str, Shape]) -> bool:
        if node.domain not in ("", "ai.onnx"):
            return False
        if node.op_type == "Reshape":
            return self._repair_reshape(node, after)
        if node.op_type == "Expand":
            return self._repair_expand(node, after)
        if node.op_type == "Concat":
            return self._repair_concat(node, after)
        return False

    def _repair_reshape(self, node: NodeProto, after: dict[str, Shape]) -> bool:
        axis = self._axis(node.input[0], after)
        wanted = self._constant(node.input[1])
        small, target = self.before.get(node.input[0]), self.before.get(node.output[0])
        if axis is None or wanted is None or small is None:
            return False
        if target is None or None in target or None in small[:axis]:
            return self._repair_unknown(node, wanted, axis)
        front = prod(d or 0 for d in small[:axis])
        place = next(
            (
                i
                for i, d in enumerate(target)
                if prod(t or 0 for t in target[:i]) == front and d and d % self.size == 0
            ),
            None,
        )
        if place is None or (self.size > 1 and target[place] == 0):
            raise self._stuck(node, f"it reshapes {list(small)} to {list(target)}")
        if self._axis(node.output[0], after) == place:
            return False
        fresh = np.array([d or 0 for d in target], np.int64)
        fresh[place] = -1
        if fresh.tolist() == wanted.tolist():
            return False
        self._give_shape(node, wanted, fresh)
        return True

    def _repair_unknown(self, node: NodeProto, wanted: NDArray[Any], axis: int) -> bool:
        """Other dimensions are free too: the batch is copied from the input's same axis."""
        if axis < len(wanted) and wanted[axis] == self.size:
            fresh = wanted.copy()
            fresh[axis] = 0
            self._give_shape(node, wanted, fresh)
            return True
        return False

    def _repair_expand(self, node: NodeProto, after: dict[str, Shape]) -> bool:
        wanted = self._constant(node.input[1])
        if wanted is None or not len(wanted) or wanted[0] != self.size or self.size == 1:
            return False
        node.input[1] = self._with_rows(wanted, node)
        self.said.append(f"Expand {_name(node)}: its shape takes the batch from the input")
        return True

    def _repair_concat(self, node: NodeProto, after: dict[str, Shape]) -> bool:
        """A constant of one batch beside values that grow: it is expanded to as many rows."""
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        grows = [name for name in node.input if self._axis(name, after) == 0]
        rank = len(self.before.get(grows[0], ())) if grows else 0
        if axis % max(rank, 1) == 0:
            return False
        changed = False
        for index, name in enumerate(node.input):
            shape = self.before.get(name)
            if name in grows or shape is None or shape[0] != self.size or None in shape:
                continue
            if self._constant_value(name):
                wanted = np.array([d or 0 for d in shape], np.int64)
                rows = name if self.size == 1 else self._first_row(name, node)
                made = self._fresh(f"{name}_rows")
                expand = helper.make_node("Expand", [rows, self._with_rows(wanted, node)], [made])
                self._insert(expand, node)
                node.input[index] = made
                self.said.append(
                    f"Concat {_name(node)}: constant {name!r} is given the batch's rows"
                )
                changed = True
        return changed

    def _first_row(self, name: str, node: NodeProto) -> str:
        tensor = next((t for t in self.model.graph.initializer if t.name == name), None)
        raw = None if tensor is None else self._array(tensor)
        if raw is None or not (raw == raw[:1]).all():
            raise self._stuck(node, f"the rows of its constant {name!r} differ")
        return self._add(f"{name}_row", raw[:1])

    def _with_rows(self, wanted: NDArray[Any], node: NodeProto) -> str:
        """A shape like `wanted` whose first dimension is the batch of the first input."""
        if self.rows is None:
            self.rows = self._fresh("batch_rows")
            shape = self._fresh("batch_shape")
            first, axis = next(iter(self.fed.items()))
            nodes = [
                helper.make_node("Shape", [first], [shape]),
                helper.make_node(
                    "Gather", [shape, self._add("batch_axis", np.array([axis]))], [self.rows]
                ),
            ]
            for one in reversed(nodes):
                self.model.graph.node.insert(0, one)
        made = self._fresh("shape_with_batch")
        rest = self._add("shape_rest", np.asarray(wanted[1:], np.int64))
        concat = helper.make_node("Concat", [self.rows, rest], [made], axis=0)
        self._insert(concat, node)
        return made

    def _insert(self, made: NodeProto, before: NodeProto) -> None:
        nodes = self.model.graph.node
        place = next(i for i, n in enumerate(nodes) if n.output[:] == before.output[:])
        nodes.insert(place, made)

    def _give_shape(self, node: NodeProto, was: NDArray[Any], fresh: NDArray[Any]) -> None:
        for index in reversed(range(len(node.attribute))):
            if node.attribute[index].name == "allowzero":
                del node.attribute[index]
        node.input[1] = self._add(f"{node.input[1]}_any_batch", fresh)
        self.said.append(f"Reshape {_name(node)}: {was.tolist()} -> {fresh.tolist()}")

    def _refuse_stuck(self, node: NodeProto, after: dict[str, Shape]) -> None:
        """A node behind which the batch is gone, or for which no shape comes out any more."""
        if node.op_type in ("Shape", "Size", "Constant") or bodies_of(node):
            return
        for name in node.output:
            if name in self.before and name not in after:
                raise self._stuck(node, "no shape comes out for a larger batch")
        if node.op_type in ("Reshape", "Expand") and node.output[0] in after:
            axis = self._axis(node.input[0], after)
            if axis is not None and self._axis(node.output[0], after) is None:
                raise self._stuck(node, "its result has a fixed shape")

    # Constants

    def _constant(self, name: str) -> NDArray[Any] | None:
        """The integers of a constant shape."""
        for tensor in self.model.graph.initializer:
            if tensor.name == name:
                return self._array(tensor)
        for node in self.model.graph.node:
            if node.op_type == "Constant" and name in node.output:
                for attribute in node.attribute:
                    if attribute.name == "value":
                        return self._array(attribute.t)
                    if attribute.name == "value_ints":
                        return np.array(list(attribute.ints), np.int64)
        return None

    def _constant_value(self, name: str) -> bool:
        """Whether a value depends on no input, whatever nodes compute it."""
        told = {t.name for t in self.model.graph.initializer}
        moving = {v.name for v in self.model.graph.input} - told
        for node in self.model.graph.node:
            if not moving.isdisjoint(reads(node)):
                moving.update(node.output)
        return name not in moving

    def _array(self, tensor: TensorProto) -> NDArray[Any]:
        payload = self.payloads.of(tensor)
        if payload is None:
            return np.asarray(numpy_helper.to_array(tensor))
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        return payload.view(dtype).reshape(tuple(tensor.dims))

    def _add(self, stem: str, array: NDArray[Any]) -> str:
        name = self._fresh(stem)
        self.model.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def _fresh(self, stem: str) -> str:
        name, number = stem, 2
        while name in self.taken:
            name, number = f"{stem}_{number}", number + 1
        self.taken.add(name)
        return name

    def _stuck(self, node: NodeProto, found: str) -> Unsupported:
        return Unsupported(
            f"{self.doing}: node {_name(node)} ({node.op_type}) has the batch {self.size} baked "
            f"in: {found}, expected a constant that can be rewritten; export the model with a "
            "dynamic batch dimension",
            _name(node),
        )


def _layout(node: NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "layout"), 0)


def _name(node: NodeProto) -> str:
    return node.name or next((name for name in node.output if name), "")
