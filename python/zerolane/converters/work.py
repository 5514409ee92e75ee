"""The way of a conversion: find the framework, export, tidy up, write, check."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from zerolane import model_file as files
from zerolane.converters.find import find
from zerolane.converters.names import free_names, name_inputs, name_outputs, rename_outputs
from zerolane.converters.origin import Arrays, Dynamic, Origin, Wishes, named, resized
from zerolane.converters.report import Check, ConvertReport
from zerolane.converters.strip import strip
from zerolane.errors import Error, InvalidArgument, Unsupported
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.optimize.onnx_graph import opsets
from zerolane.optimize.provenance import stamp
from zerolane.optimize.report import AccuracyLost
from zerolane.optimize.verification.valid import complaint
from zerolane.optimize.verification.verify import measure


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """The options of `zl.convert`, which describes them."""

    sample: Any
    dynamic: Dynamic | None
    outputs: Sequence[str]
    opset: int | None
    check: Sequence[Any]
    verify: bool
    tolerance: float
    external: bool | None


def run(source: Any, output: Path, options: ConvertOptions) -> ConvertReport:
    """Convert and write; the report."""
    origin, title, doing = find(source, options.sample)
    dynamic = _dynamic(origin, options, doing)
    sample = origin.sample
    for name in {dim for axes in dynamic.values() for dim in axes.values()}:
        sample = resized(sample, dynamic, name, max(2, _size(sample, dynamic, name)))
    model = ModelProto()
    model.CopyFrom(origin.export(Wishes(sample, dynamic, options.opset, options.outputs)))
    notes = []
    stripped = strip(model)
    if stripped:
        notes.append(f"{stripped} notes of the exporter taken out: stack traces, comments")
    inputs = {v.name for v in model.graph.input}
    if not set(sample) <= inputs:
        gone = sorted(set(sample) - inputs)
        notes.append(f"the model does not use {', '.join(gone)}: the export has no such input")
    name_inputs(model, dynamic)
    rename_outputs(model, options.outputs, doing)
    refused = complaint(model)
    if refused is not None:
        raise Unsupported(
            f"{doing}: onnx's checker refuses what the exporter of {origin.framework} wrote "
            f"({refused}), expected a valid model; try another opset=",
            title,
        )
    asked: dict[str, Any] = {
        "dynamic": {k: {str(a): d for a, d in v.items()} for k, v in dynamic.items()}
    }
    asked |= {"opset": options.opset, "outputs": list(options.outputs) or None}
    stamp(model, "convert", asked, _digest(source), tools=origin.versions)
    loaded = files.read(model, "converting")
    sources = (Path(source).resolve(),) if isinstance(source, str | os.PathLike) else ()
    with files.replacing(output, sources, doing) as path:
        beside = bool(options.external)
        files.write(loaded.model, loaded.payloads, path, external=beside)
        checks = []
        if options.verify:
            session = _open(path, doing)
            rows = _rows(sample, dynamic, options.check, doing)
            results = [(row, *_both(origin, session, row, doing)) for row in rows]
            for dim, row in _stretched(sample, dynamic):
                try:
                    origin.run(row)
                except Exception:  # of any framework: its model wants other sizes there
                    notes.append(f"{dim}: not checked in another size, as the source refuses it")
                else:
                    results.append((row, *_both(origin, session, row, doing)))
            name_outputs(loaded.model, dynamic, [(row, got) for row, got, _ in results])
            checks = [_checked(session, *result, options.tolerance, doing) for result in results]
        size = files.write(loaded.model, loaded.payloads, path, external=beside)
    return ConvertReport(
        source=title,
        output=str(output),
        framework=origin.framework,
        versions=origin.versions,
        opset=opsets(model).get("", 0),
        bytes=size,
        nodes=sum(n.op_type != "Constant" for n in model.graph.node),
        inputs=tuple(_shown(v) for v in loaded.model.graph.input),
        outputs=tuple(_shown(v) for v in loaded.model.graph.output),
        checks=tuple(checks),
        notes=tuple(notes),
    )


def _dynamic(origin: Origin, options: ConvertOptions, doing: str) -> Dynamic:
    sample, known = origin.sample, origin.free_axes()
    asked = options.dynamic
    for name, axes in (asked or {}).items():
        for axis in axes:
            if name not in sample or not 0 <= axis < sample[name].ndim:
                shapes = {n: list(v.shape) for n, v in sample.items()}
                raise InvalidArgument(
                    f"{doing}: dynamic= has axis {axis} of {name!r}, the inputs are {shapes}; "
                    "correct it",
                    name,
                )
            if known is not None and axis not in known.get(name, {}):
                free = {n: sorted(a) for n, a in known.items()}
                raise InvalidArgument(
                    f"{doing}: dynamic= has axis {axis} of {name!r}, which is fixed in the source; "
                    f"expected one of {free}; export the source with that dimension free",
                    name,
                )
    if known is not None:
        return free_names(known, asked)
    if asked is not None:
        return asked
    rows = {v.shape[0] for v in list(sample.values())[:1] if v.ndim}
    return {name: {0: "N"} for name, v in sample.items() if v.ndim and v.shape[0] in rows}


def _size(sample: Arrays, dynamic: Dynamic, dim: str) -> int:
    return next(
        int(sample[name].shape[axis])
        for name, axes in dynamic.items()
        for axis, other in axes.items()
        if other == dim
    )


def _rows(sample: Arrays, dynamic: Dynamic, more: Sequence[Any], doing: str) -> list[Arrays]:
    rows = [sample]
    first = next(iter(dynamic.values()), {}).get(0)
    if first is not None:
        size = _size(sample, dynamic, first)
        rows += [resized(sample, dynamic, first, n) for n in (1, size + 3)]
    return [*rows, *(named(one, list(sample), doing) for one in more)]


def _stretched(sample: Arrays, dynamic: Dynamic) -> list[tuple[str, Arrays]]:
    """For each free dimension that is no batch: its name, and the sample with twice its size."""
    batch = {axes[0] for axes in dynamic.values() if 0 in axes}
    names = {name for axes in dynamic.values() for name in axes.values()} - batch
    return [
        (name, resized(sample, dynamic, name, 2 * _size(sample, dynamic, name)))
        for name in sorted(names)
    ]


def _open(path: Path, doing: str) -> Session:
    try:
        return load(path)
    except Error as error:
        raise Unsupported(
            f"{doing}: ONNX Runtime does not load the result ({error}), expected it to; try "
            "another opset=, or verify=False for another runtime",
            path.name,
        ) from error


def _both(
    origin: Origin, session: Session, row: Arrays, doing: str
) -> tuple[Mapping[str, Any], list[Any]]:
    wanted = origin.run(row)
    shapes = ", ".join(f"{name} {list(v.shape)}" for name, v in row.items())
    given = {spec.name: row[spec.name] for spec in session.inputs if spec.name in row}
    try:
        got = session.run(given)
    except Error as error:
        raise AccuracyLost(
            f"{doing}: the result does not run with {shapes} ({error}), while {origin.framework} "
            "does, expected both to; a size of the sample is baked in: name fewer dimensions in "
            "dynamic=, or change the model",
            "dynamic",
        ) from error
    if len(wanted) > len(got):
        raise AccuracyLost(
            f"{doing}: the result has {len(got)} outputs, {origin.framework} gives "
            f"{len(wanted)}, expected as many; name them in outputs= to see which are missing",
            "outputs",
        )
    return got, wanted


def _checked(
    session: Session,
    row: Arrays,
    got: Mapping[str, Any],
    wanted: list[Any],
    tolerance: float,
    doing: str,
) -> Check:
    errors = []
    for (name, value), other in zip(got.items(), wanted, strict=False):
        fitting = np.asarray(other)
        if fitting.shape != value.shape and fitting.size == value.size:
            fitting = fitting.reshape(value.shape)  # [N] and [N,1]: columns of one
        if value.dtype.kind == "O":
            fitting = fitting.astype(object)
        errors.append(measure(name, value, fitting))
    check = Check({name: v.shape for name, v in row.items()}, tuple(errors))
    for error in errors:
        share = error.differing / max(error.elements, 1)
        if error.lost or max(share, error.scaled) > tolerance:
            raise AccuracyLost(
                f"{doing}: output {error} from the framework's with inputs "
                f"{ {name: list(shape) for name, shape in check.shapes.items()} }, expected "
                f"at most {tolerance:g} of the largest value; give a tolerance, or change what "
                "the exporter gets wrong",
                error.name,
            )
    return check


def _digest(source: Any) -> str:
    if not isinstance(source, str | os.PathLike) or not Path(source).is_file():
        return ""
    with Path(source).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _shown(value: Any) -> str:
    return f"{value.name}: {helper.printable_type(value.type)}"
