"""Put ops before and after a model, inside its file: `zl.ops.attach`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane._lazy import require
from zerolane.errors import InvalidArgument
from zerolane.ops.op import Op, OpType, definition

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from zerolane.model_file import Source

    Extents = Sequence[int | str | None]

_DOING = "attaching ops"


@dataclass(frozen=True)
class Attached:
    """What `attach` wrote: the inputs and outputs of the new model, by name, with element types."""

    path: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def attach(
    model: Source,
    output: str | os.PathLike[str],
    *,
    before: Mapping[str, Op] | None = None,
    after: Sequence[tuple[Op, Sequence[str]]] = (),
    shapes: Mapping[str, Extents] | None = None,
    dtypes: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
) -> Attached:
    """Write the model with ops before its inputs and after its outputs; blocks.

        zl.ops.attach(
            "detector.onnx",
            "camera.onnx",
            before={"images": zl.ops.Letterbox(size=[640, 640])},
            after=[(zl.ops.NonMaxSuppression(), ["boxes", "scores"])],
            shapes={"image": ["H", "W", 3]},
        )

    One file then takes what the camera gives and tells what was seen, in ONNX Runtime and in
    TensorRT. Needs the package `onnx` (the extra `zerolane[onnx]`).

    model: a path (with external data beside it), bytes or an `onnx.ModelProto`; never changed.
    output: the file to write; weights of 2 GB or more, and those of a model that has external data,
        go to `<output>.data`.
    before: for an input of the model, the op whose first output becomes that input. The op's own
        inputs become inputs of the model, its other outputs can be read by `after` and `keep`.
    after: ops in order, each with the names that it reads: outputs of the model, inputs, and
        outputs of ops before it; "" leaves an optional input out. Its outputs become outputs.
    shapes: extents of the new inputs, by name. Without, even the rank is open, which TensorRT does
        not take.
    dtypes: element types of new inputs where an op takes several.
    keep: names to keep or make outputs although an op reads them, or none does.

    Names of an op that are taken already get the op's name in front: "Letterbox.image".

    Raises NotFound, InvalidModel, InvalidArgument, Unavailable.
    """
    require("onnx", "onnx", _DOING)
    from zerolane import model_file as files

    loaded = files.read(model, _DOING)
    graph = _Graph(loaded.model, loaded.name, dict(shapes or {}), dict(dtypes or {}))
    for name, op in (before or {}).items():
        graph.put_before(name, op)
    for op, reads in after:
        graph.put_after(op, list(reads))
    graph.finish(list(keep))
    path = Path(os.fspath(output))
    with files.replacing(path, loaded.files, _DOING) as temporary:
        files.write(graph.model, loaded.payloads, temporary, external=loaded.external)
    return Attached(str(path), graph.types_of("input"), graph.types_of("output"))


class _Graph:
    def __init__(
        self,
        model: ModelProto,
        name: str,
        shapes: dict[str, Extents],
        dtypes: dict[str, str],
    ) -> None:
        self.model = model
        self.name = name
        self.shapes = shapes
        self.dtypes = dtypes
        graph = model.graph
        initialized = {tensor.name for tensor in graph.initializer}
        self.inputs = {v.name: v for v in graph.input if v.name not in initialized}
        self.outputs = {v.name: v for v in graph.output}
        self.taken = initialized | set(self.inputs) | set(self.outputs)
        for node in graph.node:
            self.taken |= {node.name, *node.input, *node.output}
        self.known = {n: _dtype(v) for n, v in (self.inputs | self.outputs).items()}
        self.read: set[str] = set()  # outputs of the model that an op reads
        self.given: dict[str, str] = {}  # new outputs, with their element types

    def put_before(self, name: str, op: Op) -> None:
        if name not in self.inputs:
            raise InvalidArgument(
                f"{_DOING} to {self.name}: there is no input {name!r}, the inputs are "
                f"{', '.join(map(repr, self.inputs))}; check the name",
                name,
            )
        type_ = definition(op.name, op.version)
        wanted = _dtype(self.inputs[name])
        chosen = self.choose(type_, {type_.outputs[0]["type"]: wanted}, name)
        feeds = [self.new_input(type_, row, chosen) for row in type_.inputs]
        results = [name, *(self.free(type_, row["name"]) for row in type_.outputs[1:])]
        self.add(op, type_, feeds, results, at=0)
        self.known |= {
            result: chosen[row["type"]] for result, row in zip(results, type_.outputs, strict=True)
        }
        for value in [v for v in self.model.graph.input if v.name == name]:
            self.model.graph.input.remove(value)
        del self.inputs[name]

    def put_after(self, op: Op, reads: list[str]) -> None:
        type_ = definition(op.name, op.version)
        chosen: dict[int, str] = {}
        for place, name in enumerate(reads):
            if name and name not in self.known:
                raise InvalidArgument(
                    f"{_DOING} to {self.name}: {op.name} was to read {name!r}, and there is "
                    f"{', '.join(map(repr, self.known))}; check the name",
                    name,
                )
            if name and type_.inputs:
                row = type_.inputs[min(place, len(type_.inputs) - 1)]
                chosen.setdefault(row["type"], self.known[name])
        chosen = self.choose(type_, chosen, op.name)
        results = [self.free(type_, row["name"]) for row in type_.outputs]
        self.add(op, type_, reads, results, at=len(self.model.graph.node))
        self.read |= set(reads)
        for result, row in zip(results, type_.outputs, strict=True):
            self.known[result] = self.given[result] = chosen[row["type"]]

    def choose(self, type_: OpType, chosen: dict[int, str], subject: str) -> dict[int, str]:
        """An element type for each type of the op: what is known, what was given, or the first."""
        chosen = dict(chosen)
        allowed: dict[int, list[str]] = {}
        for row in (*type_.inputs, *type_.outputs):
            allowed[row["type"]] = row["dtypes"]
        for row in type_.inputs:
            for name in (f"{_short(type_)}.{row['name']}", row["name"]):
                if name in self.dtypes:
                    chosen.setdefault(row["type"], self.dtypes[name])
        for index, dtypes in allowed.items():
            dtype = chosen.setdefault(index, dtypes[0])
            if dtype not in dtypes:
                raise InvalidArgument(
                    f"{_DOING} to {self.name}: {type_.name} was to work on {dtype} for "
                    f"{subject!r}, and takes {', '.join(dtypes)}; convert the model's "
                    "inputs or outputs, or use another op",
                    subject,
                )
        return chosen

    def new_input(self, type_: OpType, row: Mapping[str, Any], chosen: dict[int, str]) -> str:
        from onnx import helper

        if row["kind"] == "optional":
            return ""
        name = self.free(type_, row["name"])
        dtype = chosen[row["type"]]
        shape = self.shapes.get(name, self.shapes.get(row["name"]))
        value = helper.make_tensor_value_info(
            name, _onnx_type(dtype), None if shape is None else list(shape)
        )
        self.model.graph.input.append(value)
        self.known[name] = dtype
        return name

    def free(self, type_: OpType, name: str) -> str:
        number = 1
        chosen = name
        while chosen in self.taken:
            chosen = f"{_short(type_)}.{name}" + (f".{number}" if number > 1 else "")
            number += 1
        self.taken.add(chosen)
        return chosen

    def add(self, op: Op, type_: OpType, reads: list[str], results: list[str], *, at: int) -> None:
        from onnx import helper

        fallbacks = {row["name"]: row for row in type_.attributes}
        attributes = {
            name: value
            for name, value in op.attributes.items()
            if fallbacks[name]["required"] or value != fallbacks[name]["fallback"]
        }
        node = helper.make_node(
            type_.name.partition("::")[2],
            reads,
            results,
            name=self.free(type_, _short(type_)),
            domain=type_.name.partition("::")[0],
        )
        kinds = {"ints": helper.make_attribute, "floats": helper.make_attribute}
        for name, value in attributes.items():
            kind = fallbacks[name]["type"]
            if kind in kinds and not value:  # an empty list does not tell its type
                from onnx import AttributeProto

                empty = AttributeProto.INTS if kind == "ints" else AttributeProto.FLOATS
                node.attribute.append(helper.make_attribute(name, [], attr_type=empty))
            else:
                node.attribute.append(helper.make_attribute(name, value))
        nodes = list(self.model.graph.node)
        nodes.insert(at, node)
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)
        self.import_domain(node.domain, op.version)

    def import_domain(self, domain: str, version: int) -> None:
        from onnx import helper

        for known in self.model.opset_import:
            if known.domain == domain:
                if known.version < version:
                    known.version = version
                return
        self.model.opset_import.append(helper.make_opsetid(domain, version))

    def finish(self, keep: list[str]) -> None:
        from onnx import helper

        for name in keep:
            if name not in self.known:
                raise InvalidArgument(
                    f"{_DOING} to {self.name}: {name!r} was to be kept, and there is "
                    f"{', '.join(map(repr, self.known))}; check the name",
                    name,
                )
        outputs = [v for n, v in self.outputs.items() if n not in self.read or n in keep]
        have = {value.name for value in outputs}
        for name in dict.fromkeys([*self.given, *keep]):
            if name in have or (name in self.read and name not in keep):
                continue
            value = helper.make_tensor_value_info(name, _onnx_type(self.known[name]), None)
            outputs.append(value)
        del self.model.graph.output[:]
        self.model.graph.output.extend(outputs)

    def types_of(self, role: str) -> dict[str, str]:
        values = getattr(self.model.graph, role)
        return {v.name: _dtype(v) for v in values if v.name in self.known}


def _short(type_: OpType) -> str:
    return type_.name.partition("::")[2]


def _dtype(value: ValueInfoProto) -> str:
    from onnx import TensorProto

    number = value.type.tensor_type.elem_type
    name: str = TensorProto.DataType.Name(number).lower()
    return {"float": "float32", "double": "float64"}.get(name, name)


def _onnx_type(dtype: str) -> int:
    from onnx import TensorProto

    names = {"float32": "FLOAT", "float64": "DOUBLE"}
    number: int = TensorProto.DataType.Value(names.get(dtype, dtype.upper()))
    return number
