"""The way of `prune`: read, prepare, choose, take away, recover, judge, write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from zerolane import model_file as files
from zerolane.errors import InternalError, InvalidArgument, Unsupported
from zerolane.measure.accuracy import Metric, Scorer, scorer
from zerolane.measure.bench import bench
from zerolane.measure.progress import Progress, Report, reporter
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.optimize.graph_passes import normalize
from zerolane.optimize.graph_passes.cut import cut
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.macs import node_macs
from zerolane.optimize.onnx_graph import view
from zerolane.optimize.precision import keep as rules
from zerolane.optimize.provenance import stamp
from zerolane.optimize.pruning import sparsity
from zerolane.optimize.pruning.activations import spreads
from zerolane.optimize.pruning.choose import Spread, blocks, choose, pinned
from zerolane.optimize.pruning.flow import array_of, set_array
from zerolane.optimize.pruning.permute import permute
from zerolane.optimize.pruning.recover import Recovered, Recovery, left_channels
from zerolane.optimize.pruning.report import PrunedLayer, PruneReport, UnprunedLayer
from zerolane.optimize.pruning.shrink import follow, prepare, shrink
from zerolane.optimize.report import AccuracyLost
from zerolane.optimize.samples import Samples, SampleSet, read_samples
from zerolane.optimize.verification.valid import complaint, require_valid

_MOST_RATIO = 0.95
_BISECTIONS = 6
_BENCH_SECONDS = 0.3

# What is done when the samples have been seen, and when channels have been chosen; then recovery.
_SEEING, _RANKING = 0.1, 0.2


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """The options of `prune`, which describes them."""

    method: str
    ratio: float
    samples: Samples | None
    metric: Metric | None
    accuracy: float | None
    keep: Sequence[str]
    outputs: Sequence[str] | None
    scope: str
    recover: str | None
    permute: bool
    target_ms: float | None
    threads: int
    progress: Progress
    seed: int
    external: bool | None


@dataclass
class _Work:
    """One try: the model so far, and what the report says of it."""

    model: ModelProto
    masks: Mapping[str, NDArray[np.bool_]]
    changed: set[str]
    made: Mapping[str, NDArray[np.int64]]
    permuted: Mapping[str, float]
    channels: tuple[int, int] = (0, 0)
    unpruned: tuple[UnprunedLayer, ...] = ()


def run(source: files.Source, output: Path, options: PruneOptions) -> PruneReport:
    """Prune a file, bytes or a proto and write the result to `output`."""
    loaded = files.read(source, "pruning")
    doing = f"pruning {loaded.name}"
    report = reporter(options.progress)
    notes: list[str] = []
    base = _prepared(loaded, doing, options, notes)
    rng = np.random.default_rng(options.seed)
    with files.replacing(output, loaded.files, doing) as path:
        folder = path.parent
        original, samples, score = _reference(base, loaded, folder, options, doing)
        pruner = _Pruner(base, loaded.payloads, options, samples, folder, doing, report)
        latency: tuple[float, float] | None = None
        ratio = options.ratio
        if options.target_ms is not None:
            assert original is not None
            ratio, latency = _ratio_for(
                pruner, loaded, original, folder / "timed.onnx", options, report, doing
            )
        work = pruner.prune(ratio)
        recovered: dict[str, Recovered] = {}
        if options.recover and samples is not None:
            recovery = Recovery(
                base,
                work.model,
                loaded.payloads,
                folder,
                work.changed,
                work.masks,
                work.made,
                options.recover,
            )
            recovered = {
                r.node: r
                for r in recovery.run(
                    samples,
                    rng,
                    lambda done, doing: report(_RANKING + (1 - _RANKING) * done, doing),
                )
            }
            if not recovered:
                notes.append("nothing recovered: no layer behind has float32 weights of its own")
        elif options.recover:
            notes.append("not recovered: there are no samples")
        remove_dead(work.model)
        told = asdict(replace(options, samples=None, progress=False, ratio=ratio))
        for name in ("samples", "progress", "external"):
            del told[name]
        stamp(work.model, "prune", told, loaded, ("numpy", "onnx"))
        found = complaint(work.model)
        if found is not None:
            raise InternalError(
                f"{doing}: onnx refuses the result ({found}), expected a valid model; please "
                "report it, and name the layer in keep= meanwhile",
                loaded.name,
            )
        beside = loaded.external if options.external is None else options.external
        size = files.write(work.model, loaded.payloads, path, external=beside)
        session = _runs(path, samples, doing)
        kept = None if score is None or session is None else score.kept(session.run)
        shapes = {k: v.shape for k, v in samples[0].items()} if samples is not None else {}
        result = PruneReport(
            source=loaded.name,
            output=str(output),
            method=options.method,
            ratio=ratio,
            scope=options.scope,
            channels=work.channels,
            parameters=(_parameters(base), _parameters(work.model)),
            macs=(_macs(base, shapes), _macs(work.model, shapes)),
            bytes=(loaded.bytes, size),
            nodes=(len(loaded.model.graph.node), len(work.model.graph.node)),
            zeros=_zeros(work.model, loaded.payloads),
            layers=tuple(_layers(base, work, loaded.payloads, recovered)),
            unpruned=work.unpruned,
            metric=None if score is None else score.name,
            score=kept,
            latency_ms=latency,
            notes=tuple(notes),
        )
        if kept is not None and options.accuracy is not None and kept < options.accuracy:
            raise AccuracyLost(
                f"{doing}: {kept:.4f} of {result.metric} is kept, expected at least "
                f"{options.accuracy:g}; prune less (ratio={ratio:g} now), keep layers with keep=, "
                "give more samples, or fine-tune (docs/prune.md)",
                str(result.metric),
            )
    report(1.0, "pruned")
    return result


def _prepared(
    loaded: files.Loaded, doing: str, options: PruneOptions, notes: list[str]
) -> ModelProto:
    require_valid(loaded.model, doing, loaded.name)
    model = ModelProto()
    model.CopyFrom(loaded.model)
    model = normalize.inline_functions(model, loaded.name, notes)
    normalize.plain_inputs(model, notes)
    normalize.plain_constants(model.graph)
    prepare(model)
    quantized = [n for n in model.graph.node if n.op_type in _QUANTIZED]
    if quantized:
        raise Unsupported(
            f"{doing}: it is quantized already ({quantized[0].op_type} "
            f"{quantized[0].name or quantized[0].output[0]!r}), expected a model of floats; prune "
            "first, then quantize",
            loaded.name,
        )
    before = len(model.graph.node)
    if options.outputs is not None:
        unknown = [n for n in options.outputs if n not in {o.name for o in model.graph.output}]
        if unknown or not options.outputs:
            raise InvalidArgument(
                f"{doing}: outputs= names {unknown or 'nothing'}, the model's outputs are "
                f"{[o.name for o in model.graph.output]}; name those to keep",
                "outputs",
            )
        cut(model, [v.name for v in model.graph.input], list(options.outputs), doing)
    remove_dead(model)
    if len(model.graph.node) < before:
        notes.append(f"{before - len(model.graph.node)} nodes removed that no output needs")
    return model


_QUANTIZED = (
    *("DequantizeLinear", "QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv"),
    *("QLinearMatMul", "ConvInteger", "MatMulInteger", "MatMulNBits"),
)


def _reference(
    base: ModelProto, loaded: files.Loaded, folder: Path, options: PruneOptions, doing: str
) -> tuple[Session | None, SampleSet | None, Scorer | None]:
    """The original's session, the checked samples, and what scores a run."""
    if options.samples is None and options.target_ms is None and not callable(options.metric):
        return None, None, None
    path = folder / "original.onnx"
    files.write(base, loaded.payloads, path, external=True)
    session = load(path)
    samples = None
    if options.samples is not None:
        samples = read_samples(
            options.samples, session.inputs, session.optional_inputs, doing=doing
        )
    if samples is None and not callable(options.metric):
        return session, None, None
    metric = "cosine" if options.metric is None else options.metric
    return session, samples, scorer(metric, session.run, samples)


class _Pruner:
    """Prunes copies of a model by different ratios; what does not depend on those is done once."""

    def __init__(
        self,
        base: ModelProto,
        payloads: files.Payloads,
        options: PruneOptions,
        samples: SampleSet | None,
        folder: Path,
        doing: str,
        report: Report,
    ) -> None:
        self.base, self._payloads, self._options = base, payloads, options
        self._doing, self._report = doing, report
        nodes = list(view(base).walk())
        asked = rules.match(options.keep, nodes) if options.keep else set()
        self._asked = {v.name for node in asked for v in node.outputs if v is not None}
        self._spreads: dict[str, Spread] | None = None
        if options.method == "channels" and samples is not None:
            rng = np.random.default_rng(options.seed)
            path, count = folder / "inputs.onnx", len(samples)

            def told() -> Iterator[dict[str, Any]]:
                for index, sample in enumerate(samples):
                    report(_SEEING * index / count, f"seeing sample {index + 1} of {count}")
                    yield sample

            self._spreads = spreads(base, payloads, told(), path, rng)

    def prune(self, ratio: float) -> _Work:
        model = ModelProto()
        model.CopyFrom(self.base)
        return (
            self._channels(model, ratio)
            if self._options.method == "channels"
            else (self._masked(model, ratio))
        )

    def _channels(self, model: ModelProto, ratio: float) -> _Work:
        flow = follow(model, self._payloads)
        for layer in flow.layers:
            if layer.node.output[0] in self._asked:
                flow.channels.pin(layer.made, "asked for")
        found = blocks(
            flow,
            self._spreads,
            lambda done, doing: self._report(_SEEING + (_RANKING - _SEEING) * done, doing),
        )
        told = tuple(UnprunedLayer(p.node, p.op, p.reason) for p in pinned(flow))
        if not found:
            reasons = "; ".join(dict.fromkeys(f"{u.op} {u.node}: {u.reason}" for u in told))
            raise Unsupported(
                f"{self._doing}: no layer has channels that can go "
                f"({reasons or 'there is no Conv, Gemm or MatMul with constant weights'}), "
                "expected one; fold constants first (zl.optimize.graph), or take "
                "method='magnitude'",
                "model",
            )
        gone = choose(found, ratio, self._options.scope)
        changed, made = left_channels(flow, gone)
        shrink(flow, gone)
        total = sum(len(b.classes) for b in found)
        return _Work(model, {}, changed, made, {}, (total, total - len(gone)), told)

    def _masked(self, model: ModelProto, ratio: float) -> _Work:
        options, pattern = self._options, self._options.method == "2:4"
        orders: dict[str, NDArray[np.int64]] = {}
        before = _kept_by_pattern(model, self._payloads) if pattern else {}
        if pattern and options.permute:
            orders = permute(follow(model, self._payloads), options.seed)
        after = _kept_by_pattern(model, self._payloads) if orders else before
        permuted = {node: after[node] / max(before[node], 1e-30) for node in before}
        every = sparsity.weights(model)
        readers: dict[str, set[str]] = {}
        for node in model.graph.node:
            for name in node.input:
                readers.setdefault(name, set()).update(node.output)
        left_out = {w.name for w in every if readers.get(w.name, set()) & self._asked}
        if pattern:
            masks = sparsity.pattern_masks(model, self._payloads, left_out)
        else:
            masks = sparsity.magnitude_masks(model, self._payloads, ratio, options.scope, left_out)
        told = tuple(
            UnprunedLayer(w.node, w.op, "asked for" if w.name in left_out else w.reason)
            for w in every
            if w.name not in masks
        )
        if not masks:
            reasons = "; ".join(f"{u.op} {u.node}: {u.reason}" for u in told)
            raise Unsupported(
                f"{self._doing}: no weight can be pruned "
                f"({reasons or 'there is no Conv, Gemm or MatMul with constant weights'}), "
                "expected one; take another method",
                "model",
            )
        for tensor in model.graph.initializer:
            if tensor.name in masks:
                array = array_of(tensor, self._payloads)
                zero = array.dtype.type(0)
                set_array(tensor, self._payloads, np.where(masks[tensor.name], array, zero))
        changed = {out for name in masks for out in readers[name]}
        return _Work(model, masks, changed, orders, permuted, (0, 0), told)


def _kept_by_pattern(model: ModelProto, payloads: files.Payloads) -> dict[str, float]:
    """The magnitude that 2:4 keeps, by layer."""
    tensors = {t.name: t for t in model.graph.initializer}
    kept = {}
    for weight in sparsity.weights(model):
        if not weight.reason:
            array = array_of(tensors[weight.name], payloads).astype(np.float64)
            mask = sparsity.two_of_four(array, weight.axis)
            kept[weight.node] = float(np.abs(array[mask]).sum())
    return kept


def _ratio_for(
    pruner: _Pruner,
    loaded: files.Loaded,
    original: Session,
    path: Path,
    options: PruneOptions,
    report: Report,
    doing: str,
) -> tuple[float, tuple[float, float]]:
    """The least ratio found by bisection with which a call takes `target_ms` or less here."""
    target = options.target_ms
    assert target is not None
    inputs = None
    if options.samples is not None:
        made = read_samples(options.samples, original.inputs, original.optional_inputs, doing=doing)
        inputs = made[0]

    def milliseconds(model: ModelProto) -> float:
        files.write(model, loaded.payloads, path, external=True)
        timed = bench(
            path, inputs=inputs, seconds=_BENCH_SECONDS, threads=options.threads, seed=options.seed
        )
        return timed.latency_us.p50 / 1e3

    before = milliseconds(pruner.base)
    if before <= target:
        return 0.0, (before, before)
    low, high, best = 0.0, _MOST_RATIO, None
    for step in range(_BISECTIONS + 1):
        ratio = high if step == 0 else (low + high) / 2
        report(step / (_BISECTIONS + 2), f"trying ratio {ratio:.3f}")
        work = pruner.prune(ratio)
        took = milliseconds(work.model)
        if took <= target:
            high, best = ratio, took
        elif step == 0:
            raise Unsupported(
                f"{doing}: a call takes {before:.3f} ms now and {took:.3f} ms with {ratio:.0%} of "
                f"the channels gone, expected {target:g} ms; ask for less, or name fewer layers "
                "in keep=",
                "target_ms",
            )
        else:
            low = ratio
    assert best is not None
    return high, (before, best)


def _runs(path: Path, samples: SampleSet | None, doing: str) -> Session | None:
    if samples is None:
        return None
    session = load(path)
    session.run(samples[0])
    return session


def _parameters(model: ModelProto) -> int:
    return int(sum(np.prod(t.dims, dtype=np.int64) for t in model.graph.initializer))


def _macs(model: ModelProto, shapes: Mapping[str, Sequence[int]]) -> int:
    return sum(n.macs for n in node_macs(model, shapes))


def _zeros(model: ModelProto, payloads: files.Payloads) -> float:
    tensors = {t.name: t for t in model.graph.initializer}
    arrays = [array_of(tensors[w.name], payloads) for w in sparsity.weights(model)]
    total = sum(a.size for a in arrays)
    return float(1 - sum(np.count_nonzero(a) for a in arrays) / total) if total else 0.0


def _layers(
    base: ModelProto, work: _Work, payloads: files.Payloads, recovered: Mapping[str, Recovered]
) -> list[PrunedLayer]:
    before = {t.name: t for t in base.graph.initializer}
    after = {t.name: t for t in work.model.graph.initializer}
    rows = []
    for weight in sparsity.weights(work.model):
        old, new = before.get(weight.name), after[weight.name]
        if old is None:
            continue
        a, b = array_of(old, payloads), array_of(new, payloads)
        if a.shape == b.shape and weight.name not in work.masks:
            continue
        told = recovered.get(weight.node)
        whole = float(np.abs(a.astype(np.float64)).sum())
        rows.append(
            PrunedLayer(
                weight.node,
                weight.op,
                (tuple(old.dims), tuple(new.dims)),
                1 - float(np.count_nonzero(b)) / max(b.size, 1),
                float(np.abs(b.astype(np.float64)).sum()) / whole if whole else 1.0,
                work.permuted.get(weight.node, 1.0),
                None if told is None else told.how,
                None if told is None else (told.before, told.after),
            )
        )
    return rows
