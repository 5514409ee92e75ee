"""Turns a small ONNX model into a plan of the stand-in, as zl.build would into a real one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

import zerolane as zl
from zerolane.builder.source import open_source
from zerolane.engine import Engine, Manifest, digest_model
from zerolane.engine.environment import this_platform

# TensorRT's numbers of the element types that ONNX models may have.
TYPES = {
    TensorProto.FLOAT: 0,
    TensorProto.FLOAT16: 1,
    TensorProto.INT8: 2,
    TensorProto.INT32: 3,
    TensorProto.BOOL: 4,
    TensorProto.UINT8: 5,
    TensorProto.FLOAT8E4M3FN: 6,
    TensorProto.BFLOAT16: 7,
    TensorProto.INT64: 8,
}
NAMES = (
    *("float32", "float16", "int8", "int32", "bool", "uint8"),
    *("float8_e4m3fn", "bfloat16", "int64"),
)
# Operators whose result has a size that the data decides.
_DATA_DECIDES = {"NonZero", "Compress", "Unique", "NonMaxSuppression"}
# Operators one of whose inputs decides the shape of the result: it must be a shape tensor.
_SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "Tile": 1, "ConstantOfShape": 0}
# Operators on which ONNX Runtime, which does the arithmetic, ends the process for empty tensors.
_NOT_EMPTY = {"GRU", "LSTM", "RNN"}
_MOST = 1 << 20  # the greatest of a dimension that no profile names

Profile = Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]]


class Lacking(zl.Unsupported):
    """TensorRT has nothing of the kind: sequences, strings, free ranks, ..."""


def build(
    model: str | os.PathLike[str] | bytes,
    *,
    backend: str,
    version: str,
    profiles: Sequence[Profile] | None = None,
    values: Mapping[str, tuple[Sequence[int], Sequence[int], Sequence[int]]] | None = None,
    activation_bytes: int = 4096,
    streamable_bytes: int = 0,
    host_code: bool = False,
    refit: bool = False,
    stripped: bool = False,
    **manifest: Any,
) -> Engine:
    """The engine of a model. values: of shape tensors, for every profile.

    stripped: the plan counts as one without weights, although the stand-in has them.
    """
    if stripped:
        manifest["flags"] = {**manifest.get("flags", {}), "strip_weights": True}
    name = "model in memory" if isinstance(model, bytes) else os.path.basename(os.fspath(model))
    digest = digest_model(model)
    proto = _load(model, name)
    graph = proto.graph
    stored = {tensor.name for tensor in graph.initializer}
    _refuse_what_it_lacks(proto, name, stored)
    inputs = [value for value in graph.input if value.name not in stored]
    decided = _decided_by_data(graph)
    shape_inputs = {
        node.input[_SHAPE_INPUTS[node.op_type]]
        for node in graph.node
        if node.op_type in _SHAPE_INPUTS
    }
    weights = [t for t in graph.initializer if t.data_type in TYPES]
    size = sum(numpy_helper.to_array(t).nbytes for t in weights)
    lines = [
        "FAKE-TENSORRT 1",
        f"version\t{version}",
        f"host_code\t{int(host_code)}",
        f"refit\t{int(refit)}",
        f"stripped\t{int(stripped)}",
        f"activation\t{activation_bytes}",
        f"weight_bytes\t{size}",
        f"streamable\t{streamable_bytes}",
    ]
    for value in inputs:
        where = "host" if value.name in shape_inputs else "device"
        lines.append(f"input\t{value.name}\t{_type(value, name)}\t{where}\t{_text(_dims(value))}")
    for value in graph.output:
        where = "data" if value.name in decided else "device"
        lines.append(f"output\t{value.name}\t{_type(value, name)}\t{where}\t{_text(_dims(value))}")
    wanted = profiles or [{}]
    least = int(any(node.op_type in _NOT_EMPTY for node in graph.node))
    complete = [_complete(inputs, profile, least) for profile in wanted]
    for profile in complete:
        lines.append("profile")
        for tensor, ranges in profile.items():
            lines.append(f"shape\t{tensor}\t" + "\t".join(map(_text, ranges)))
        for tensor, ranges in (values or {}).items():
            lines.append(f"values\t{tensor}\t" + "\t".join(map(_text, ranges)))
    if refit:
        for tensor in weights:
            lines.append(f"weight\t{tensor.name}\t{TYPES[tensor.data_type]}\t{_text(tensor.dims)}")
    lines += [f"layer\t{node.op_type} {i}" for i, node in enumerate(graph.node)]
    onnx_bytes = proto.SerializeToString()
    lines.append(f"model\t{len(onnx_bytes)}")
    plan = "\n".join(lines).encode() + b"\n" + onnx_bytes
    about = Manifest(
        model=name,
        model_digest=digest.model,
        external_data=digest.external_data,
        backend=backend,
        library_version=version,
        platform=this_platform(),
        profiles=tuple({k: tuple(map(tuple, v)) for k, v in p.items()} for p in complete),
        host_code=host_code,
        inputs=tuple(_spec(value) for value in inputs),
        outputs=tuple(_spec(value) for value in graph.output),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        extra={"metadata": open_source(model, None).metadata},
        **manifest,
    )
    return Engine(about, plan)


def _load(model: str | os.PathLike[str] | bytes, name: str) -> onnx.ModelProto:
    """With the external data inside; damaged models are refused as the real parser does."""
    try:
        if isinstance(model, bytes):
            proto = onnx.load_model_from_string(model)
        else:
            proto = onnx.load(os.fspath(model))
        if not proto.graph.node and not proto.graph.output:
            raise ValueError("there is no graph in it")
    except zl.Error:
        raise
    except Exception as error:
        raise zl.InvalidModel(
            f"building {name}: {error}; give a whole .onnx model", name
        ) from error
    return proto


def _refuse_what_it_lacks(proto: onnx.ModelProto, name: str, stored: set[str]) -> None:
    def refuse(what: str) -> None:
        raise Lacking(f"building {name}: it has {what}, which TensorRT has not; leave it out", name)

    for value in (*proto.graph.input, *proto.graph.output):
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            refuse(f"a {kind} '{value.name}'")
        tensor = value.type.tensor_type
        if tensor.elem_type == TensorProto.STRING:
            refuse(f"strings in '{value.name}'")
        if not tensor.HasField("shape"):
            refuse(f"'{value.name}' of unknown rank")
        if value.name in stored:
            refuse(f"weights '{value.name}' that an input may replace")
    for value in proto.graph.output:
        if value.name in {given.name for given in proto.graph.input}:
            refuse(f"the input '{value.name}' as an output")
    if not proto.graph.node:
        refuse("no node")
    for node in proto.graph.node:
        if node.domain == "ai.onnx.ml":
            refuse(f"the operator {node.op_type} of ai.onnx.ml")
        if node.domain not in ("", "com.microsoft"):
            raise zl.Unsupported(
                f"building {name}: there is no plugin for the operator {node.op_type} of "
                f"{node.domain}; load one",
                name,
            )


def _decided_by_data(graph: onnx.GraphProto) -> set[str]:
    """Tensors behind an operator whose result has a size that the data decides."""
    tainted: set[str] = set()
    for node in graph.node:
        if node.op_type in _DATA_DECIDES or tainted & set(node.input):
            tainted |= set(node.output)
    return tainted


def _type(value: onnx.ValueInfoProto, name: str) -> int:
    code = value.type.tensor_type.elem_type
    if code not in TYPES:
        element = TensorProto.DataType.Name(code).lower()
        element = {"float": "float32", "double": "float64"}.get(element, element)
        raise zl.Unsupported(
            f"building {name}: '{value.name}' is of {element}, which TensorRT does not have; "
            "convert it",
            value.name,
        )
    return TYPES[code]


def _dims(value: onnx.ValueInfoProto) -> list[int]:
    dims = value.type.tensor_type.shape.dim
    return [d.dim_value if d.HasField("dim_value") else -1 for d in dims]


def _text(dims: Sequence[int]) -> str:
    return ",".join(map(str, dims))


def _complete(inputs: Sequence[onnx.ValueInfoProto], given: Profile, least: int) -> dict[str, Any]:
    """least: of a free dimension."""
    profile = {}
    for value in inputs:
        whole = tuple([size if d < 0 else d for d in _dims(value)] for size in (least, 1, _MOST))
        profile[value.name] = given.get(value.name, whole)
    return profile


def _spec(value: onnx.ValueInfoProto) -> zl.TensorSpec:
    dtype = NAMES[TYPES[value.type.tensor_type.elem_type]]
    shape = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None
        for d in value.type.tensor_type.shape.dim
    )
    return zl.TensorSpec(value.name, dtype, shape, f"tensor({dtype})")


def weights_of(model: onnx.ModelProto) -> dict[str, np.ndarray[Any, Any]]:
    """The weights by name, to be given to a refit."""
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
