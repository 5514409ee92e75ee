"""Names of dimensions and outputs of an exported model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import ModelProto

from zerolane.converters.origin import Arrays, Dynamic
from zerolane.errors import InvalidArgument
from zerolane.optimize.onnx_graph import all_names, bodies_of


def free_names(known: Dynamic, asked: Dynamic | None) -> Dynamic:
    """The free dimensions of a source, named as asked for; the first axis is "N" by default.

    Dimensions of one name in the source get one name here too.
    """
    made: dict[str, str] = {}
    for name, axes in known.items():
        for axis, own in axes.items():
            wish = (asked or {}).get(name, {}).get(axis)
            default = "N" if axis == 0 and "N" not in made.values() else own
            made[own] = wish or made.get(own) or default
    return {
        name: {
            axis: (asked or {}).get(name, {}).get(axis) or made[own] for axis, own in axes.items()
        }
        for name, axes in known.items()
    }


def name_inputs(model: ModelProto, dynamic: Dynamic) -> None:
    """Give the inputs' free dimensions their names, and wherever the model uses the old ones."""
    old: dict[str, str] = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for axis, name in dynamic.get(value.name, {}).items():
            if axis < len(dims) and not dims[axis].HasField("dim_value"):
                if dims[axis].dim_param:
                    old[dims[axis].dim_param] = name
                dims[axis].dim_param = name
    for value in (*model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in old:
                dim.dim_param = old[dim.dim_param]


def name_outputs(
    model: ModelProto, dynamic: Dynamic, runs: Sequence[tuple[Arrays, Mapping[str, Any]]]
) -> None:
    """Name free dimensions of outputs that were as large as a named one in every run.

    Exporters leave them open, or give them names of their own. A name is given only where the runs
    had more than one size of it.
    """
    known = {name for axes in dynamic.values() for name in axes.values()}
    sizes = {
        name: [
            next(
                row[key].shape[axis]
                for key, axes in dynamic.items()
                for axis, other in axes.items()
                if other == name
            )
            for row, _ in runs
        ]
        for name in known
    }
    for output in model.graph.output:
        for axis, dim in enumerate(output.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") or dim.dim_param in known:
                continue
            seen = [got[output.name].shape[axis] for _, got in runs if output.name in got]
            same = [n for n, size in sizes.items() if size == seen and len(set(size)) > 1]
            dim.Clear()
            if same:
                dim.dim_param = same[0]


def rename_outputs(model: ModelProto, names: Sequence[str], doing: str) -> None:
    """Give the outputs other names, in order; empty: they stay as they are."""
    if not names:
        return
    own = [v.name for v in model.graph.output]
    if len(names) != len(own) or len(set(names)) != len(names):
        raise InvalidArgument(
            f"{doing}: outputs= has {list(names)}, the model has {len(own)} outputs ({own}), "
            "expected a name of its own for each; correct it",
            "outputs",
        )
    wanted = {old: new for old, new in zip(own, names, strict=True) if old != new}
    taken = next((new for new in wanted.values() if new in all_names(model)), None)
    if taken is not None:
        raise InvalidArgument(
            f"{doing}: outputs= has {taken!r}, which is the name of another value in the model, "
            "expected a new one; choose another",
            taken,
        )
    _rename(model.graph, wanted)


def _rename(graph: Any, names: Mapping[str, str]) -> None:
    for value in (*graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for field in (node.input, node.output):
            for index, name in enumerate(field):
                if name in names:
                    field[index] = names[name]
        for body in bodies_of(node):
            _rename(body, names)
