"""The way of `quantize` and `sensitivity`: prepare, calibrate, choose, score, put in place."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from onnx import ModelProto

from zerolane import model_file as files
from zerolane.errors import Error, InternalError, Unsupported
from zerolane.measure.accuracy import Scorer, scorer
from zerolane.measure.progress import Report, reporter
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.optimize.macs import node_macs, shares
from zerolane.optimize.onnx_graph import opsets
from zerolane.optimize.provenance import stamp
from zerolane.optimize.quantization import rest
from zerolane.optimize.quantization.backoff import fewest
from zerolane.optimize.quantization.insert import Form
from zerolane.optimize.quantization.options import LEAST_OPSET, QuantOptions
from zerolane.optimize.quantization.prepare import Prepared, prepare
from zerolane.optimize.quantization.report import LayerError, QuantReport, SensitivityReport
from zerolane.optimize.quantization.stem import widen_stems
from zerolane.optimize.quantization.trial import Choice, Quantizer
from zerolane.optimize.quantization.weight_only import WithoutSamples
from zerolane.optimize.report import AccuracyLost, KeptNode, OutputError
from zerolane.optimize.samples import Arrays, SampleSet, read_samples
from zerolane.optimize.verification.valid import complaint
from zerolane.optimize.verification.verify import measure, worse

_SCORED = 64
"""So many of the calibration samples are scored where no others are given."""

_RANKED = 4
"""So many samples rank the layers."""


class Maker(Protocol):
    """What makes quantized models of one prepared model, with any of its layers."""

    layers: list[str]
    kept: list[tuple[str, str, str]]

    def made(self, names: Collection[str]) -> ModelProto: ...


@dataclass
class _Run:
    """One call of `quantize` or `sensitivity`."""

    prepared: Prepared
    options: QuantOptions
    folder: Path
    tell: Report
    original: Session = field(init=False)
    calibration: SampleSet | None = None
    calibration_s: float = 0.0

    def __post_init__(self) -> None:
        path = self.folder / "original.onnx"
        loaded = self.prepared.loaded
        files.write(loaded.model, loaded.payloads, path, external=loaded.external)
        self.original = load(path)

    def maker(self) -> Maker:
        """Calibrated, where the mode needs that."""
        options = self.options
        keep = tuple(options.keep)
        if options.mode in ("int4", "dynamic"):
            return WithoutSamples(
                self.prepared, options.mode, options.block, options.per_channel, keep
            )
        quantizer = Quantizer(self.prepared, _choice(options), keep)
        self.calibration = read_samples(
            options.calibration,
            self.original.inputs,
            self.original.optional_inputs,
            doing=f"{self.prepared.doing}: calibrating",
        )
        count = len(self.calibration)
        if quantizer.layers:
            start = time.perf_counter()
            quantizer.calibrate(
                self.calibration,
                self.folder,
                lambda n: self.tell(0.6 * n / count, f"calibrating on sample {n} of {count}"),
            )
            self.calibration_s = time.perf_counter() - start
        return quantizer

    def rows(self) -> list[Arrays]:
        """The samples that models are scored on."""
        if self.options.samples is not None:
            given = read_samples(
                self.options.samples,
                self.original.inputs,
                self.original.optional_inputs,
                doing=f"{self.prepared.doing}: scoring",
                finite=False,
            )
            return list(given)
        if self.calibration is None:
            return []
        return [self.calibration[i] for i in range(min(len(self.calibration), _SCORED))]

    def scorer(self, rows: Sequence[Arrays]) -> Scorer | None:
        if not self.options.verify or (not rows and isinstance(self.options.metric, str)):
            return None
        return scorer(self.options.metric, self.original.run, rows)

    def open(self, model: ModelProto) -> Session:
        path = self.folder / "candidate.onnx"
        loaded = self.prepared.loaded
        files.write(model, self.prepared.payloads, path, external=loaded.external)
        return load(path)


def quantize_model(source: files.Source, output: Path, options: QuantOptions) -> QuantReport:
    """Read, quantize, write, score, put in place."""
    prepared = _prepared(source, options)
    with files.replacing(output, prepared.loaded.files, prepared.doing) as path:
        run = _Run(prepared, options, path.parent, reporter(options.progress))
        maker = run.maker()
        if not maker.layers:
            raise Unsupported(
                f"{prepared.doing}: nothing is left to quantize ({_reasons(maker)}), expected "
                "Conv, ConvTranspose, Gemm or MatMul with constant weights; name less in keep, or "
                "take another mode",
                prepared.loaded.name,
            )
        rows = run.rows()
        judge = run.scorer(rows)
        dropped, evaluations = _backed_off(run, maker, judge, rows)
        chosen = [name for name in maker.layers if name not in dropped]
        model = _finished(run, maker.made(chosen))
        _check(model, prepared)
        beside = prepared.loaded.external if options.external is None else options.external
        size = files.write(model, prepared.payloads, path, external=beside)
        run.tell(0.95, "scoring the result")
        score, errors = _verdict(run, path, judge, rows)
        for name in ("original", "candidate", "sizes", "watching", "twins"):
            for made in path.parent.glob(f"{name}.onnx*"):
                made.unlink()
        _require(prepared, options, judge, score)
        lost = "it costs too much accuracy"
        kept = [KeptNode(*row) for row in maker.kept]
        kept += [KeptNode(name, _op(prepared, name), lost) for name in dropped]
        notes = list(prepared.notes)
        if isinstance(maker, Quantizer) and maker.saturated:
            notes.append(f"biases near the end of int32: {', '.join(maker.saturated)}")
        shapes = {name: a.shape for name, a in rows[0].items()} if rows else {}
        run.tell(1.0, f"quantized {prepared.loaded.name}")
        return QuantReport(
            source=prepared.loaded.name,
            output=str(output),
            mode=options.mode,
            target=options.target,
            layers=len(maker.layers) + len(maker.kept),
            quantized=len(chosen),
            kept=tuple(kept),
            backed_off=tuple(dropped),
            evaluations=evaluations,
            metric=judge.name if judge is not None else "",
            score=score,
            reference=judge.reference if judge is not None else None,
            errors=errors,
            shares=shares(node_macs(model, shapes)),
            samples=len(run.calibration) if run.calibration is not None else 0,
            calibration_s=run.calibration_s,
            opset=(opsets(prepared.loaded.model).get("", 0), opsets(model).get("", 0)),
            bytes_before=prepared.loaded.bytes,
            bytes_after=size,
            notes=tuple(notes),
        )


def measure_sensitivity(
    source: files.Source, options: QuantOptions, folder: Path
) -> SensitivityReport:
    """Each layer quantized alone and scored; `folder` takes files."""
    prepared = _prepared(source, options)
    run = _Run(prepared, options, folder, reporter(options.progress))
    maker = run.maker()
    rows = run.rows()
    judge = scorer(options.metric, run.original.run, rows)
    found = []
    for index, name in enumerate(maker.layers):
        share = 0.6 + 0.4 * index / len(maker.layers)
        run.tell(share, f"layer {index + 1} of {len(maker.layers)}: {name}")
        session = run.open(maker.made([name]))
        errors = _errors(run.original, session, rows)
        scaled = max((e.scaled for e in errors), default=0.0)
        found.append(LayerError(name, _op(prepared, name), 1 - judge.kept(session.run), scaled))
    run.tell(1.0, f"{len(found)} layers of {prepared.loaded.name}")
    ranked = sorted(found, key=lambda e: (-round(e.error, 6), -e.scaled))
    return SensitivityReport(prepared.loaded.name, judge.name, len(rows), tuple(ranked))


def _prepared(source: files.Source, options: QuantOptions) -> Prepared:
    least = LEAST_OPSET[options.mode]
    if options.rest == "fp16" and options.target == "tensorrt":
        least = max(least, rest.LEAST_OPSET)
    prepared = prepare(source, options.mode, least)
    if options.mode == "static" and options.target == "cpu":
        widened = widen_stems(prepared.model, prepared.payloads)
        if widened:
            prepared.notes.append(f"SpaceToDepth before {', '.join(widened)}: faster in integers")
    return prepared


def _choice(options: QuantOptions) -> Choice:
    if options.mode == "fp8":
        form = Form("float8e4m3fn", options.per_channel, integer_bias=False)
        return Choice("float8e4m3fn", True, False, form, options.method, options.percentile)
    cpu = options.target == "cpu"
    form = Form("int8", options.per_channel, integer_bias=cpu)
    symmetric = not cpu if options.symmetric is None else options.symmetric
    dtype = "uint8" if cpu else "int8"
    return Choice(dtype, symmetric, cpu, form, options.method, options.percentile)


def _backed_off(
    run: _Run, maker: Maker, judge: Scorer | None, rows: Sequence[Arrays]
) -> tuple[list[str], int]:
    """The layers that go back to float so that the floor holds, and how many models were scored."""
    floor = run.options.accuracy
    if floor is None or judge is None:
        return [], 0
    names, count = maker.layers, 0

    def holds(dropped: Sequence[str]) -> bool:
        nonlocal count
        count += 1
        run.tell(0.6 + 0.3 * min(count / 20, 1), f"scoring with {len(dropped)} layers in float")
        session = run.open(_finished(run, maker.made([n for n in names if n not in dropped])))
        return judge.kept(session.run) >= floor

    if holds([]):
        return [], count
    ranking = maker.ranked(rows[:_RANKED], run.folder) if isinstance(maker, Quantizer) else names
    dropped = fewest(ranking, lambda tried: bool(tried) and holds(tried))
    if len(dropped) == len(ranking):
        raise AccuracyLost(
            f"{run.prepared.doing}: with {judge.name}, not one of its {len(ranking)} layers can be "
            f"quantized within accuracy={floor:g}; give more or more typical calibration samples, "
            "another method, or a lower accuracy",
            run.prepared.loaded.name,
        )
    return dropped, count


def _finished(run: _Run, model: ModelProto) -> ModelProto:
    """With the rest in float16 if asked for, and stamped."""
    options, prepared = run.options, run.prepared
    if options.rest == "fp16":
        model = rest.to_float16(model, prepared.payloads, options.target)
    asked = {
        "mode": options.mode,
        "target": options.target,
        "method": options.method if options.mode in ("static", "fp8") else None,
        "percentile": options.percentile if options.method == "percentile" else None,
        "per_channel": options.per_channel,
        "symmetric": options.symmetric,
        "block": options.block if options.mode == "int4" else None,
        "keep": list(options.keep),
        "rest": options.rest,
        "metric": options.metric,
        "accuracy": options.accuracy,
        "samples": len(run.calibration) if run.calibration is not None else None,
    }
    stamp(model, "quantize", asked, prepared.loaded, tools={"onnx", "onnxslim", "onnxruntime"})
    return model


def _check(model: ModelProto, prepared: Prepared) -> None:
    found = complaint(model)
    if found is not None:
        raise InternalError(
            f"{prepared.doing}: onnx refuses the result ({found}), expected a valid model; please "
            "report it, and name the node in keep= meanwhile",
            prepared.loaded.name,
        )


def _verdict(
    run: _Run, path: Path, judge: Scorer | None, rows: Sequence[Arrays]
) -> tuple[float | None, tuple[OutputError, ...]]:
    if not run.options.verify:
        return None, ()
    try:
        session = load(path)
        errors = _errors(run.original, session, rows)
        return (None if judge is None else judge(session.run)), errors
    except Error as error:
        raise Unsupported(
            f"{run.prepared.doing}: ONNX Runtime does not run the result ({error}), expected it to "
            "as it runs the original; name the node in keep=, or give verify=False for another "
            "runtime",
            run.prepared.loaded.name,
        ) from error


def _errors(original: Session, session: Session, rows: Sequence[Arrays]) -> tuple[OutputError, ...]:
    errors: dict[str, OutputError] = {}
    for row in rows:
        wanted = original.run(row)
        for name, got in session.run(row).items():
            errors[name] = worse(errors.get(name), measure(name, got, wanted[name]))
    return tuple(errors.values())


def _require(
    prepared: Prepared, options: QuantOptions, judge: Scorer | None, score: float | None
) -> None:
    if options.accuracy is None or judge is None or score is None:
        return
    if score / judge.reference < options.accuracy:
        raise AccuracyLost(
            f"{prepared.doing}: the file keeps {score / judge.reference:.4f} of the original's "
            f"{judge.name}, expected {options.accuracy:g}; lower accuracy=, or name layers in keep",
            prepared.loaded.name,
        )


def _op(prepared: Prepared, name: str) -> str:
    for node in prepared.model.graph.node:
        if name in (node.name, *node.output):
            return str(node.op_type)
    return ""


def _reasons(maker: Maker) -> str:
    if not maker.kept:
        return "it has no layer with weights"
    return "; ".join(f"{op} {name}: {why}" for name, op, why in maker.kept[:3])
