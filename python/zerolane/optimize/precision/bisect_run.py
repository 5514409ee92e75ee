"""How `zl.optimize.bisect` builds candidates, scores and writes; `search` chooses them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto

from zerolane import model_file as files
from zerolane.errors import InvalidArgument
from zerolane.measure.accuracy import Metric, scorer
from zerolane.measure.progress import Progress, reporter
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.optimize.macs import node_macs
from zerolane.optimize.onnx_graph import view
from zerolane.optimize.precision.bisection import BisectReport, Build
from zerolane.optimize.precision.casts import Pass
from zerolane.optimize.precision.emulate import emulate
from zerolane.optimize.precision.narrow import USUAL, NarrowOptions, Ready
from zerolane.optimize.precision.rounding import CODES, rounded
from zerolane.optimize.precision.search import Found, expected_trials, search
from zerolane.optimize.provenance import stamp
from zerolane.optimize.report import AccuracyLost, KeptNode
from zerolane.optimize.samples import Samples, read_samples

_FOUND = "without it the result is not accurate enough"


@dataclass(frozen=True, slots=True, kw_only=True)
class BisectOptions:
    """The options of `zl.optimize.bisect`, which describes them."""

    dtype: str
    metric: Metric | None
    accuracy: float
    tolerance: float | None
    keep: Sequence[str]
    keep_io: bool
    build: Build | None
    nodes: Sequence[str] | None
    progress: Progress
    external: bool | None


def run(
    source: files.Source, output: Path, samples: Samples, options: BisectOptions
) -> BisectReport:
    """Search, then write the best candidate."""
    with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
        place = Path(folder)
        if options.build is None:
            return _narrow(source, output, samples, options, place)
        return _built(source, output, samples, options, options.build, place)


class _Judge:
    """Scores candidates against the original, and remembers."""

    def __init__(
        self, reference: Session, samples: Samples, options: BisectOptions, doing: str
    ) -> None:
        self.rows = read_samples(
            samples, reference.inputs, reference.optional_inputs, doing=doing, finite=False
        )
        usual = USUAL[options.dtype]
        tolerance = options.tolerance if options.tolerance is not None else usual
        self.metric: Metric = "max_error" if options.metric is None else options.metric
        self.least = 1 - tolerance if options.metric is None else options.accuracy
        if not 0 < self.least <= 1:
            raise InvalidArgument(
                f"{doing}: a share of {self.least:g} of the original's score was asked for, "
                "expected more than 0 and 1 at most; correct accuracy= or tolerance=",
                "accuracy",
            )
        self._score = scorer(self.metric, reference.run, self.rows)
        self.tried: list[tuple[int, float]] = []

    @property
    def name(self) -> str:
        return self._score.name

    def good(self, kept: int, run: Callable[[dict[str, Any]], Any]) -> bool:
        self.tried.append((kept, self._score.kept(run)))
        return self.tried[-1][1] >= self.least


def _narrow(
    source: files.Source, output: Path, samples: Samples, options: BisectOptions, folder: Path
) -> BisectReport:
    asked = NarrowOptions(keep=options.keep, keep_io=options.keep_io, external=options.external)
    ready = Ready(source, options.dtype, asked)
    loaded, doing = ready.loaded, f"searching {ready.loaded.name} for nodes to keep"
    files.write(loaded.model, loaded.payloads, folder / "a.onnx", external=loaded.external)
    judge = _Judge(load(folder / "a.onnx", graph_level="basic"), samples, options, doing)
    hot = ready.hot(judge.rows)
    first = ready.convert(options.keep, {}, _copy(loaded.payloads))
    best = ready.convert(options.keep, hot, _copy(loaded.payloads))
    kept = {name for name, _, _ in first.kept}
    overflow = [KeptNode(*row) for row in best.kept if row[0] not in kept]
    ops = dict(best.converted)
    names = list(ops)
    tell = reporter(options.progress)
    runs = 1 + expected_trials(len(names))

    def build(keep: frozenset[str]) -> tuple[int, Pass, files.Payloads]:
        tell(min(len(judge.tried) / runs, 0.99), f"{doing}: {len(judge.tried)} runs")
        payloads = _copy(loaded.payloads)
        wanted = [*options.keep, *(f"node:{name}" for name in names if name in keep)]
        return len(keep), ready.convert(wanted, hot, payloads), payloads

    def good(candidate: tuple[int, Pass, files.Payloads]) -> bool:
        count, done, payloads = candidate
        path = folder / "b.onnx"
        model = emulate(done.model, payloads, options.dtype)
        files.write(model, payloads, path, external=loaded.external)
        session = load(path, graph_level="basic")
        return judge.good(count, _rounding(session, done.model, options.dtype))

    found = search(names, build, good)
    _require(found, judge, doing)
    _, done, payloads = build(frozenset(found.keep))
    tell(1.0, f"{doing}: {len(judge.tried)} runs")
    with files.replacing(output, loaded.files, doing) as path:
        beside = loaded.external if options.external is None else options.external
        files.write(done.model, payloads, path, external=beside)
    return BisectReport(
        source=loaded.name,
        output=str(output),
        dtype=options.dtype,
        metric=judge.name,
        found=tuple(KeptNode(name, ops[name], _FOUND) for name in found.keep),
        overflow=tuple(overflow),
        nodes=len(first.converted),
        runs=len(judge.tried) + (options.dtype == "float16"),
        tried=tuple(judge.tried),
        score=_last_good(judge),
        least=judge.least,
    )


def _built(
    source: files.Source,
    output: Path,
    samples: Samples,
    options: BisectOptions,
    make: Build,
    folder: Path,
) -> BisectReport:
    loaded = files.read(source, "searching")
    doing = f"searching {loaded.name} for nodes to keep"
    files.write(loaded.model, loaded.payloads, folder / "a.onnx", external=loaded.external)
    judge = _Judge(load(folder / "a.onnx"), samples, options, doing)
    ops = {node.name: node.op for node in view(loaded.model).walk()}
    names = [n.node for n in node_macs(loaded.model)] if options.nodes is None else options.nodes
    unknown = next((name for name in names if name not in ops), None)
    if unknown is not None or not names:
        raise InvalidArgument(
            f"{doing}: there is "
            + (f"no node {unknown!r}" if unknown is not None else "no node that multiplies")
            + ", expected names of nodes of the model; correct nodes=",
            unknown or "nodes",
        )
    tell = reporter(options.progress)
    runs = expected_trials(len(names))

    def build(keep: frozenset[str]) -> tuple[int, Any]:
        tell(min(len(judge.tried) / runs, 0.99), f"{doing}: {len(judge.tried)} runs")
        chosen = tuple(name for name in names if name in keep)
        return len(keep), make(chosen)

    def good(candidate: tuple[int, Any]) -> bool:
        return judge.good(candidate[0], _open(candidate[1], folder, doing).run)

    found = search(names, build, good)
    _require(found, judge, doing)
    result = files.read(build(frozenset(found.keep))[1], "searching")
    tell(1.0, f"{doing}: {len(judge.tried)} runs")
    stamp(result.model, "bisect", {"keep": list(found.keep)}, loaded, tools=())
    with files.replacing(output, loaded.files, doing) as path:
        beside = result.external if options.external is None else options.external
        files.write(result.model, result.payloads, path, external=beside)
    return BisectReport(
        source=loaded.name,
        output=str(output),
        dtype="built",
        metric=judge.name,
        found=tuple(KeptNode(name, ops[name], _FOUND) for name in found.keep),
        overflow=(),
        nodes=len(names),
        runs=len(judge.tried),
        tried=tuple(judge.tried),
        score=_last_good(judge),
        least=judge.least,
    )


def _open(made: Any, folder: Path, doing: str) -> Session:
    if isinstance(made, str | os.PathLike | bytes):
        return load(made)
    if not isinstance(made, ModelProto):
        raise InvalidArgument(
            f"{doing}: build= returned a {type(made).__name__}, expected a path, bytes or an "
            "onnx.ModelProto; return the changed model",
            "build",
        )
    read = files.read(made, "searching")
    files.write(read.model, read.payloads, folder / "b.onnx", external=False)
    return load(folder / "b.onnx")


def _rounding(session: Session, model: ModelProto, dtype: str) -> Callable[[dict[str, Any]], Any]:
    """A run of the emulation, whose narrow inputs have to be rounded by the caller."""
    code = CODES[dtype]
    narrow = {v.name for v in model.graph.input if v.type.tensor_type.elem_type == code}

    def run(row: dict[str, Any]) -> Any:
        cut = {n: rounded(np.asarray(row[n], np.float32), dtype) for n in narrow if n in row}
        return session.run(row | cut)

    return run if narrow else session.run


def _copy(payloads: files.Payloads) -> files.Payloads:
    """So that what a candidate adds goes with it."""
    return files.Payloads(list(payloads.arrays))


def _last_good(judge: _Judge) -> float:
    return next(score for _, score in reversed(judge.tried) if score >= judge.least)


def _require(found: Found[str], judge: _Judge, doing: str) -> None:
    if not found.good:
        worst = max((score for _, score in judge.tried), default=0.0)
        raise AccuracyLost(
            f"{doing}: with all {len(found.keep)} nodes kept {judge.name} is {worst:.4g} of the "
            f"original's, expected {judge.least:g}; what breaks it is none of these nodes: lower "
            "the accuracy, or look at the samples",
            judge.name,
        )
