"""Running a converted model beside the original in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from zerolane.errors import Error, Unsupported
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.model_file import Payloads, write
from zerolane.optimize.onnx_graph import FLOAT
from zerolane.optimize.precision.casts import Pass
from zerolane.optimize.precision.emulate import emulate
from zerolane.optimize.precision.rounding import CODES, rounded
from zerolane.optimize.report import NodeError, OutputError
from zerolane.optimize.samples import Samples, SampleSet, read_samples

_SENTINEL = 3.39e38  # beyond the largest bfloat16
_NUMPY = {"float16": np.float16}


@dataclass(frozen=True)
class Verdict:
    """What was measured; `said` is the sentence for the report."""

    said: str
    errors: tuple[OutputError, ...] = ()
    node_errors: tuple[NodeError, ...] = ()


@dataclass(frozen=True)
class Sides:
    """The original and its conversion, light, and where the conversion lies as a file."""

    original: ModelProto
    done: Pass
    payloads: Payloads
    path: Path
    dtype: str
    external: bool


def verify(
    sides: Sides,
    samples: Samples | None,
    *,
    shapes: Shapes | str | None = None,
    seed: int = 0,
    by_node: bool = False,
) -> Verdict:
    """Run both on each sample, or on one of random values, and measure.

    The conversion runs as an emulation that rounds after every node; in float16 also as it is,
    and the worse of the two counts. Where the original fails on random values, nothing is measured
    and the verdict says why.
    """
    folder = sides.path.parent
    original, emulated = ModelProto(), emulate(sides.done.model, sides.payloads, sides.dtype)
    original.CopyFrom(sides.original)
    watched = _watch(original, emulated, sides.done) if by_node else []
    reference = _open(original, sides, folder / "original.onnx")
    rows: SampleSet | list[dict[str, Any]]
    if samples is not None:
        rows = read_samples(
            samples, reference.inputs, reference.optional_inputs, doing="verifying", finite=False
        )
    else:
        try:
            rows = [complete_inputs(reference, shapes=shapes, seed=seed)]
            reference.run(rows[0])
        except Error as error:
            return Verdict(f"not verified: the original does not run on random inputs ({error})")
    runners = [_open(emulated, sides, folder / "emulated.onnx")]
    if sides.dtype == "float16":
        runners.append(_open_result(sides, reference, rows[0]))
    names = {spec.name for spec in reference.outputs}
    errors: dict[str, OutputError] = {}
    ranges: dict[str, float] = {}
    for row in rows:
        wanted = reference.run(row)
        for name, value in wanted.items():
            if _is_float(value):
                finite = np.abs(value[np.isfinite(value)])
                ranges[name] = max(ranges.get(name, 0.0), float(finite.max(initial=0.0)))
        for runner in runners:
            got = runner.run(_fitting(row, runner, sides))
            for name in names & got.keys():
                errors[name] = worse(errors.get(name), measure(name, got[name], wanted[name]))
    outputs = [v.name for v in sides.original.graph.output]
    return Verdict(
        _sentence(sides.dtype, len(rows), samples is None),
        tuple(errors[name] for name in outputs if name in errors),
        tuple(
            NodeError(node, op, dtype, errors[value], ranges.get(value, 0.0))
            for node, op, dtype, value in watched
            if value in errors
        ),
    )


def measure(name: str, got: Any, wanted: Any) -> OutputError:
    """How far one value is from the original's; sequences and maps count by their elements."""
    pairs = list(_leaves(got, wanted))
    total = OutputError(name, 0)
    for a, b in pairs:
        total = _joined(total, _measure_array(name, a, b))
    return total


def _measure_array(name: str, got: NDArray[Any], wanted: NDArray[Any]) -> OutputError:
    if got.shape != wanted.shape:
        return OutputError(name, int(wanted.size), differing=int(max(wanted.size, got.size)))
    if not _is_float(wanted):
        return OutputError(name, int(wanted.size), differing=int((got != wanted).sum()))
    a, b = got.astype(np.float64), wanted.astype(np.float64)
    # The lowest float32 stands for "minus infinity" in masks; narrower types make it that.
    b = np.where(np.abs(b) >= _SENTINEL, np.copysign(np.inf, b), b)
    finite = np.isfinite(b)
    lost = int((finite & ~np.isfinite(a)).sum())
    both = finite & np.isfinite(a)
    distance, size = np.abs(a[both] - b[both]), np.abs(b[both])
    largest = float(np.abs(b[finite]).max(initial=0.0))
    most = float("inf") if lost else float(distance.max(initial=0.0))
    relative = distance[size > 0] / size[size > 0]
    return OutputError(
        name,
        int(b.size),
        max_abs=most,
        max_rel=float("inf") if lost else float(relative.max(initial=0.0)),
        scaled=most / largest if largest else most,
        lost=lost,
    )


def _leaves(got: Any, wanted: Any) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    if isinstance(wanted, Mapping):
        yield np.asarray(list(got.values())), np.asarray(list(wanted.values()))
    elif isinstance(wanted, list | tuple):
        for a, b in zip(got, wanted, strict=False):
            yield from _leaves(a, b)
        if len(got) != len(wanted):
            yield np.zeros(len(got)), np.zeros(len(wanted))
    else:
        yield np.asarray(got), np.asarray(wanted)


def _joined(a: OutputError, b: OutputError) -> OutputError:
    return OutputError(
        a.name,
        a.elements + b.elements,
        max(a.max_abs, b.max_abs),
        max(a.max_rel, b.max_rel),
        max(a.scaled, b.scaled),
        a.differing + b.differing,
        a.lost + b.lost,
    )


def worse(a: OutputError | None, b: OutputError) -> OutputError:
    """Of two measurements of one value, the worse of each number."""
    if a is None:
        return b
    return OutputError(
        a.name,
        max(a.elements, b.elements),
        max(a.max_abs, b.max_abs),
        max(a.max_rel, b.max_rel),
        max(a.scaled, b.scaled),
        max(a.differing, b.differing),
        max(a.lost, b.lost),
    )


def _is_float(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "fV"


def _open(model: ModelProto, sides: Sides, path: Path) -> Session:
    write(model, sides.payloads, path, external=sides.external)
    # No fusions: nothing is computed in another order than the file says. The level below, "none",
    # makes ONNX Runtime 1.31 lose values that casts give to the bodies of If and Loop.
    return load(path, graph_level="basic")


def _open_result(sides: Sides, reference: Session, row: Mapping[str, Any]) -> Session:
    reference.run(row)  # so that a sample that does not fit is not blamed on the conversion
    try:
        session = load(sides.path)
        session.run(_fitting(row, session, sides))
    except Error as error:
        raise Unsupported(
            f"verifying the conversion to {sides.dtype}: ONNX Runtime does not run it ({error}), "
            "expected it to as it runs the original; name the node in keep=, or convert with "
            "verify=False for another runtime",
            sides.path.name,
        ) from error
    return session


def _fitting(row: Mapping[str, Any], session: Session, sides: Sides) -> dict[str, Any]:
    """The sample as the conversion takes it: rounded where its inputs are narrow."""
    code = CODES[sides.dtype]
    narrow = {v.name for v in sides.done.model.graph.input if v.type.tensor_type.elem_type == code}
    values = dict(row)
    for spec in session.inputs:
        if spec.name in narrow and spec.name in values:
            cut = rounded(np.asarray(values[spec.name], np.float32), sides.dtype)
            values[spec.name] = cut.astype(_NUMPY.get(spec.dtype or "", np.float32))
    return values


def _watch(
    original: ModelProto, emulated: ModelProto, done: Pass
) -> list[tuple[str, str, str, str]]:
    """Make every float32 value of the main graph an output of both: (node, op, dtype, value)."""
    watched = []
    outputs = {v.name for v in original.graph.output}
    there = {name for node in emulated.graph.node for name in node.output}
    for node in original.graph.node:
        for name in node.output:
            result, code = done.names.get(name, ("", 0))
            if node.op_type == "Constant" or (name not in there and result not in there):
                continue
            dtype = TensorProto.DataType.Name(code).lower()
            watched.append((node.name or name, node.op_type, dtype, name))
            if name in outputs:
                continue
            original.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
            if name not in there:
                emulated.graph.node.append(helper.make_node("Identity", [result], [name]))
            emulated.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
    return watched


def _sentence(dtype: str, count: int, random: bool) -> str:
    what = f"{count} samples" if count > 1 else "one sample"
    what = "random values" if random else what
    how = (
        "rounded to float16 after every node, and as ONNX Runtime runs it"
        if dtype == "float16"
        else "rounded to bfloat16 after every node (emulated: ONNX Runtime's CPU provider has few "
        "bfloat16 kernels)"
    )
    return f"held against the original on {what}, {how}:"
