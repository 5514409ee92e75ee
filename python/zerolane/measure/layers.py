"""Two models value by value, inside: where does the error begin?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zerolane._lazy import require
from zerolane.errors import InvalidArgument
from zerolane.measure.difference import number_text
from zerolane.model.load import load

if TYPE_CHECKING:
    from onnx import ModelProto

JUMP = 10.0
"""An error jumps where it is so many times that of what the node takes in."""

FLOOR = 1e-5
"""Relative errors below this are those of float32 sums; a jump is at least JUMP times this."""

_AT_ONCE = 64  # values held in memory for a sample


@dataclass(frozen=True, slots=True)
class LayerDifference:
    """A value that both models have, in the order of the reference, and the node that makes it.

    error: the root of the mean squared a - b over that of b, the worst of the samples. taken_in:
    the largest error of the values that the node computes from. max_abs: the largest |a - b|.
    jump: `error` is more than JUMP times `taken_in`, or JUMP x FLOOR where that is larger.
    """

    value: str
    node: str
    op: str
    error: float
    taken_in: float
    max_abs: float
    jump: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        mark = "JUMP " if self.jump else ""
        return (
            f"{mark}{self.op} {self.node}: error {number_text(self.error)} of {self.value!r} "
            f"(taken in {number_text(self.taken_in)}), max abs {number_text(self.max_abs)}"
        )


def compare_layers(
    a: str | os.PathLike[str] | bytes,
    b: str | os.PathLike[str] | bytes,
    samples: Sequence[Mapping[str, Any]],
) -> tuple[LayerDifference, ...]:
    """The float values of the same name in the main graphs of ONNX files or bytes `a` and `b`.

    Both run in ONNX Runtime without fusions, so that every value is there. Raises InvalidArgument
    where they have none in common.
    """
    require("onnx", "onnx", "comparing layer by layer")
    from zerolane.model_file import read

    doing = "comparing layer by layer"
    left, right = (read(side, doing) for side in (a, b))
    there = {name for node in left.model.graph.node for name in node.output if name}
    names = [n for node in right.model.graph.node for n in node.output if n and n in there]
    names = [n for n in names if n not in _constants(right.model)]
    if not names:
        raise InvalidArgument(
            f"{doing}: {left.name} and {right.name} have no value of the same name, expected some; "
            "compare a model with one made from it by a pass that keeps names",
            "layers",
        )
    errors: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
        for start in range(0, len(names), _AT_ONCE):
            chunk = names[start : start + _AT_ONCE]
            runs = [
                _session(m, chunk, Path(folder) / f"{k}.onnx") for k, m in ((0, left), (1, right))
            ]
            for sample in samples:
                got, wanted = (
                    run.run({s.name: sample[s.name] for s in run.inputs}, outputs=chunk)
                    for run in runs
                )
                for name in chunk:
                    _note(errors, name, got[name], wanted[name])
    return tuple(_rows(right.model, names, errors))


def _constants(model: ModelProto) -> set[str]:
    return {n for node in model.graph.node if node.op_type == "Constant" for n in node.output}


def _session(loaded: Any, names: Sequence[str], path: Path) -> Any:
    from onnx import ModelProto, ValueInfoProto

    from zerolane.model_file import write

    model = ModelProto()
    model.CopyFrom(loaded.model)
    shown = {output.name for output in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=n) for n in names if n not in shown)
    write(model, loaded.payloads, path, external=loaded.external)
    return load(path, graph_level="basic")


def _note(errors: dict[str, tuple[float, float]], name: str, got: Any, wanted: Any) -> None:
    if not all(isinstance(v, np.ndarray) and v.dtype.kind in "fV" for v in (got, wanted)):
        return
    if got.shape != wanted.shape:
        return
    x, y = got.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        gap = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    gap = np.where(np.isnan(gap), np.inf, gap)
    size = float(np.sqrt(np.square(y[np.isfinite(y)]).mean())) if np.isfinite(y).any() else 0.0
    root = float(np.sqrt(np.square(gap).mean())) if gap.size else 0.0
    error = root / size if size else (float("inf") if root else 0.0)
    before = errors.get(name, (0.0, 0.0))
    errors[name] = max(before[0], error), max(before[1], float(gap.max(initial=0.0)))


def _rows(
    model: ModelProto, names: Sequence[str], errors: Mapping[str, tuple[float, float]]
) -> list[LayerDifference]:
    wanted = set(names)
    reach: dict[str, float] = {}  # of each value its error, or where unknown that of its sources
    rows = []
    for node in model.graph.node:
        taken_in = max((reach.get(name, 0.0) for name in node.input), default=0.0)
        for name in node.output:
            reach[name] = errors[name][0] if name in errors else taken_in
            if name in wanted and name in errors:
                error, most = errors[name]
                jump = error > JUMP * max(taken_in, FLOOR)
                told = str(node.name or name)
                rows.append(LayerDifference(name, told, node.op_type, error, taken_in, most, jump))
    return rows
