"""`zl.inspect`: what a model file holds, read without running it."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zerolane import _native
from zerolane.engine.file import is_engine_file, read_head, what_it_is
from zerolane.errors import (
    Error,
    InvalidArgument,
    InvalidModel,
    NotFound,
    Unavailable,
    Unsupported,
)
from zerolane.model.load import BACKENDS, load
from zerolane.model.steps import KEY, Step, read_steps
from zerolane.types import TensorSpec

# ONNX's TensorProto.DataType.
_ELEMENT_TYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
}


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Stored values of one dtype."""

    tensors: int
    count: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """A file beside the model that holds some of its weights.

    path: where it is looked for; None for a model in memory, which has no folder.
    size: in bytes; None where it is missing or not known.
    """

    location: str
    path: str | None
    exists: bool
    size: int | None
    tensors: int


@dataclass(frozen=True, slots=True)
class ModelReport:
    """What a model file holds.

    format: "onnx"; "ort" (ONNX Runtime's own), of which only what ONNX Runtime tells is known, and
        "engine", of which its manifest is (metadata): opsets, operators and parameters are empty.
    operators: how often each occurs, subgraphs and functions included, most frequent first; the
        name has its domain before it ("ai.onnx.ml::Scaler") if that is not the standard one.
    parameters: by dtype, initializers and Constant nodes.
    steps: what zerolane did to the file, or to the one that an engine was built from; no longer in
        metadata.
    macs: multiply-adds of one run by dtype, free dimensions counted as 1; empty without the package
        onnx, and where nothing can be said. A dtype behind DequantizeLinear is the stored one.
    backends: what each would say: "loads" and by what, or why not.
    """

    path: str | None
    format: str
    file_bytes: int
    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ir_version: int | None
    opsets: Mapping[str, int]
    producer: str
    graph_name: str
    domain: str
    model_version: int
    doc: str
    operators: Mapping[str, int]
    functions: int
    parameters: Mapping[str, ParameterCount]
    external_files: tuple[ExternalFile, ...]
    metadata: Mapping[str, str]
    steps: tuple[Step, ...]
    macs: Mapping[str, int]
    backends: Mapping[str, str]

    @property
    def parameter_count(self) -> int:
        """Number of stored values."""
        return sum(p.count for p in self.parameters.values())

    @property
    def parameter_bytes(self) -> int:
        """Their size in bytes."""
        return sum(p.bytes for p in self.parameters.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                value = {k: asdict(v) if name == "parameters" else v for k, v in value.items()}
            elif isinstance(value, tuple):
                value = [s.as_dict() if isinstance(s, Step) else asdict(s) for s in value]
            values[name] = value
        values["parameter_count"] = self.parameter_count
        values["parameter_bytes"] = self.parameter_bytes
        return values

    def __str__(self) -> str:
        def show(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{s.name}: {s.type} {shape_text(s)}".rstrip() for s in specs)

        opsets = ", ".join(f"{domain} {version}" for domain, version in self.opsets.items())
        lines = [
            f"{self.path or 'model in memory'}: {self.format}, {self.file_bytes} bytes, "
            f"IR {self.ir_version}, opset {opsets or 'unknown'}, by {self.producer or 'unknown'}",
            f"  inputs      {show(self.inputs)}",
            f"  outputs     {show(self.outputs)}",
            "  operators   " + ", ".join(f"{n} x {name}" for name, n in self.operators.items()),
            f"  parameters  {self.parameter_count} in {self.parameter_bytes} bytes",
        ]
        if self.optional_inputs:
            lines.insert(2, f"  optional    {show(self.optional_inputs)}")
        lines += [
            f"  external    {f.location}: {'missing' if not f.exists else f'{f.size} bytes'}"
            for f in self.external_files
        ]
        if self.macs:
            lines.append(f"  mult-adds   {macs_text(self.macs)}")
        lines += [f"  step        {step}" for step in self.steps]
        return "\n".join([*lines, *(f"  {name}: {says}" for name, says in self.backends.items())])


def shape_text(spec: TensorSpec) -> str:
    """A shape for people: "[N, 1, ?]", or "" where there is none."""
    if spec.shape is None:
        return ""
    return "[" + ", ".join("?" if d is None else str(d) for d in spec.shape) + "]"


def macs_text(macs: Mapping[str, int]) -> str:
    """Multiply-adds for people: "1,000 with free dimensions as 1: 90.0% float16, 10.0% float32"."""
    total = sum(macs.values())
    shares = ", ".join(f"{count / total:.1%} {dtype}" for dtype, count in macs.items())
    return f"{total:,} with free dimensions as 1: {shares}"


def inspect(model: str | os.PathLike[str] | bytes, *, backends: bool = True) -> ModelReport:
    """Read what a model file says of itself, and ask each backend what it would say.

    model: path of an .onnx or .ort file or of an engine, or the bytes of a model.
    backends: whether to load it with ONNX Runtime and have the parsers of TensorRT read it (builds
        nothing) in order to know.

    Raises NotFound and InvalidModel; that a backend does not load it is part of the report.
    """
    source, file_bytes = _source(model)
    if isinstance(source, str) and is_engine_file(source):
        return _inspect_engine(source, file_bytes)
    try:
        scan = _native.read_model(source)
    except Unsupported:
        return _inspect_ort(source, file_bytes)
    except InvalidModel as error:
        raise _no_model(source, error) from error
    except UnicodeDecodeError as error:
        raise InvalidModel(
            f"inspecting a model: a name or text in it is {error.object!r}, expected UTF-8; "
            "the file is damaged: export it again",
            "model",
        ) from error
    says, session = _ask_backends(source) if backends else ({}, None)
    stored = {tensor["name"] for tensor in scan["initializers"]}
    exact = (
        {}
        if session is None
        else {
            spec.name: spec
            for spec in (*session.inputs, *session.optional_inputs, *session.outputs)
        }
    )
    ins = [(row, _spec(row, exact)) for row in scan["inputs"]]
    outs = [_spec(row, exact) for row in scan["outputs"]]
    free = [row[0] in stored or row[1] == "optional" for row, _ in ins]
    counts = Counter(
        f"{node['domain']}::{node['op_type']}" if node["domain"] else node["op_type"]
        for node in scan["nodes"]
    )
    return ModelReport(
        path=source if isinstance(source, str) else None,
        format="onnx",
        file_bytes=file_bytes,
        inputs=tuple(spec for (_, spec), o in zip(ins, free, strict=True) if not o),
        optional_inputs=tuple(spec for (_, spec), o in zip(ins, free, strict=True) if o),
        outputs=tuple(outs),
        ir_version=scan["ir_version"],
        opsets=_fixed({domain or "ai.onnx": version for domain, version in scan["opsets"]}),
        producer=scan["producer"],
        graph_name=scan["graph_name"],
        domain=scan["domain"],
        model_version=scan["model_version"],
        doc=scan["doc"],
        operators=_fixed(dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))),
        functions=scan["functions"],
        parameters=_fixed(_parameters([*scan["initializers"], *scan["constants"]])),
        external_files=_external_files(source, [*scan["initializers"], *scan["constants"]]),
        metadata=_fixed({k: v for k, v in dict(scan["metadata"]).items() if k != KEY}),
        steps=read_steps(dict(scan["metadata"])),
        macs=_fixed(_macs(source)),
        backends=_fixed(says),
    )


def _source(model: object) -> tuple[str | bytes, int]:
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model), len(bytes(model))
    if not isinstance(model, str | os.PathLike):
        raise InvalidArgument(
            f"inspecting a model: a {type(model).__name__} was given, expected a path or bytes; "
            "give model.SerializeToString() for an onnx.ModelProto",
            "model",
        )
    path = os.fspath(model)
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "no file"
        raise NotFound(
            f"inspecting {os.path.basename(path)!r}: there is {found} at {path!r} (in "
            f"{os.getcwd()!r}), expected a model file; check the path",
            str(path),
        )
    return str(path), os.path.getsize(path)


def _inspect_ort(source: str | bytes, file_bytes: int) -> ModelReport:
    says, session = _ask_backends(source)
    known = session.metadata if session is not None else {}
    custom = dict(known.get("custom", {}))
    return _without_graph(
        source if isinstance(source, str) else None,
        "ort",
        file_bytes,
        known,
        inputs=() if session is None else session.inputs,
        optional_inputs=() if session is None else session.optional_inputs,
        outputs=() if session is None else session.outputs,
        metadata=_fixed({k: v for k, v in custom.items() if k != KEY}),
        steps=read_steps(custom),
        backends=_fixed(says),
    )


def _inspect_engine(path: str, file_bytes: int) -> ModelReport:
    manifest = read_head(path).manifest
    about = manifest.as_dict()
    known = about.pop("extra").get("metadata", {})
    for name in ("inputs", "outputs"):
        del about[name]
    about["op_libraries"] = "; ".join(
        f"{use} from {use.path}, SHA-256 {use.sha256}" for use in manifest.op_libraries
    )
    told = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in about.items()
        if value not in (None, "", [], {})
    }
    return _without_graph(
        path,
        "engine",
        file_bytes,
        known,
        inputs=manifest.inputs,
        optional_inputs=(),
        outputs=manifest.outputs,
        metadata=_fixed(told),
        steps=read_steps(known.get("custom", {})),
        backends=_fixed({manifest.backend: f"its engine, built with {manifest.library_version}"}),
    )


def _without_graph(
    path: str | None,
    format: str,
    file_bytes: int,
    known: Mapping[str, Any],
    *,
    inputs: tuple[TensorSpec, ...],
    optional_inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
    metadata: Mapping[str, str],
    steps: tuple[Step, ...],
    backends: Mapping[str, str],
) -> ModelReport:
    """The report of a file whose graph cannot be read. known: as `Session.metadata`."""
    return ModelReport(
        path=path,
        format=format,
        file_bytes=file_bytes,
        inputs=inputs,
        optional_inputs=optional_inputs,
        outputs=outputs,
        ir_version=None,
        opsets=_fixed({}),
        producer=known.get("producer", ""),
        graph_name=known.get("graph_name", ""),
        domain=known.get("domain", ""),
        model_version=known.get("version", 0),
        doc=known.get("description", ""),
        operators=_fixed({}),
        functions=0,
        parameters=_fixed({}),
        external_files=(),
        metadata=metadata,
        steps=steps,
        macs=_fixed({}),
        backends=backends,
    )


def _ask_backends(source: str | bytes) -> tuple[dict[str, str], Any]:
    says: dict[str, str] = {}
    session = None
    for backend in BACKENDS:
        if backend == "auto":
            continue
        try:
            if backend.startswith("tensorrt"):
                import zerolane  # by its public name: building stands above loading

                says[backend] = zerolane.Build.check(source, backend=backend)
                continue
            opened = load(source, backend=backend)
        except Unavailable:
            says[backend] = "unavailable: no library here; `zerolane doctor` says what was tried"
        except Error as error:
            says[backend] = f"{error.code}: {error}"
        else:
            session = session or opened
            says[backend] = "loads: " + opened.why[backend].removeprefix("chosen: ")
    return says, session


def _no_model(source: str | bytes, error: InvalidModel) -> InvalidModel:
    """The reader tells of bytes; people have files."""
    if isinstance(source, bytes):
        return error
    name = os.path.basename(source)
    with open(source, "rb") as file:
        found = what_it_is(file.read(16))
    if found is None:
        return InvalidModel(f"inspecting {name}: {error}", source)
    return InvalidModel(
        f"inspecting {name}: it is {found}, which says nothing of itself, expected a model or an "
        "engine file; inspect the model that it was built from",
        source,
    )


def _spec(
    row: tuple[str, str, int, list[int | str | None] | None], exact: Mapping[str, TensorSpec]
) -> TensorSpec:
    name, kind, element, shape = row
    dtype = _ELEMENT_TYPES.get(element, f"element type {element}")
    if kind != "tensor" and name in exact:
        return exact[name]  # a backend knows what is inside of a sequence or a map
    fits = kind in ("tensor", "optional", "sparse_tensor") and shape is not None
    text = f"{kind or 'untyped'}({dtype})" if element else kind or "untyped"
    return TensorSpec(name, dtype, tuple(shape or ()) if fits else None, text)


def _macs(source: str | bytes) -> dict[str, int]:
    if find_spec("onnx") is None:
        return {}
    from zerolane.optimize.macs import macs_of  # its rules stand above, with the passes they prove

    return macs_of(source)


def _parameters(tensors: list[dict[str, Any]]) -> dict[str, ParameterCount]:
    found: dict[str, ParameterCount] = {}
    for tensor in tensors:
        element = tensor["elem_type"]
        dtype = _ELEMENT_TYPES.get(element, f"element type {element}")
        old = found.get(dtype, ParameterCount(0, 0, 0))
        found[dtype] = ParameterCount(
            old.tensors + 1, old.count + tensor["elements"], old.bytes + tensor["bytes"]
        )
    return dict(sorted(found.items(), key=lambda item: -item[1].bytes))


def _external_files(source: str | bytes, tensors: list[dict[str, Any]]) -> tuple[ExternalFile, ...]:
    uses = Counter(tensor["location"] for tensor in tensors if tensor["external"])
    files = []
    for location, count in uses.items():
        path = None if isinstance(source, bytes) else Path(source).parent / location
        exists = path is not None and path.is_file()
        size = path.stat().st_size if path is not None and exists else None
        files.append(
            ExternalFile(location, None if path is None else str(path), exists, size, count)
        )
    return tuple(files)


def _fixed(values: dict[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(values)
