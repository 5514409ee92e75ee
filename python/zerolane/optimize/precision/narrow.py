"""The way of `fp16` and `bf16`: read, prepare, convert, write, check, verify, put in place."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto

from zerolane import model_file as files
from zerolane.errors import Error, InternalError, InvalidArgument, InvalidModel
from zerolane.measure.random_inputs import Shapes
from zerolane.model.load import load
from zerolane.optimize.graph_passes import normalize
from zerolane.optimize.macs import node_macs, shares
from zerolane.optimize.onnx_graph import opsets
from zerolane.optimize.precision.casts import Pass, convert
from zerolane.optimize.precision.overflow import largest_values, out_of_range
from zerolane.optimize.provenance import stamp
from zerolane.optimize.report import AccuracyLost, KeptNode, OutputError, PrecisionReport
from zerolane.optimize.samples import Samples, SampleSet, read_samples
from zerolane.optimize.verification.valid import complaint, require_valid, type_complaint
from zerolane.optimize.verification.verify import Sides, Verdict, verify

USUAL = {"float16": 0.02, "bfloat16": 0.1}
"""Errors beyond these, relative to an output's largest value, give a warning."""

_NAMES = {"float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True, slots=True)
class NarrowOptions:
    """The options of `fp16` and `bf16`, which describe them."""

    keep: Sequence[str] = ()
    keep_io: bool = True
    keep_defaults: bool = True
    upgrade: bool = True
    verify: bool = True
    samples: Samples | None = None
    shapes: Shapes | str | None = None
    seed: int = 0
    tolerance: float | None = None
    by_node: bool = False
    external: bool | None = None


def narrow(
    source: files.Source, output: Path, dtype: str, options: NarrowOptions
) -> PrecisionReport:
    """Convert a file, bytes or a proto to `dtype` and write the result to `output`."""
    ready = Ready(source, dtype, options)
    loaded, doing = ready.loaded, ready.doing
    samples = None if options.samples is None else ready.read(options.samples)
    hot = {} if samples is None else ready.hot(samples)
    done = ready.convert(options.keep, hot, loaded.payloads)
    with files.replacing(output, loaded.files, doing) as path:
        beside = loaded.external if options.external is None else options.external
        size = files.write(done.model, loaded.payloads, path, external=beside)
        external = files.data_file(path).exists()
        verdict = Verdict("not verified: it was not asked for")
        if options.verify:
            sides = Sides(loaded.model, done, loaded.payloads, path, dtype, external)
            verdict = verify(
                sides,
                samples,
                shapes=options.shapes,
                seed=options.seed,
                by_node=options.by_node,
            )
        report = PrecisionReport(
            source=loaded.name,
            output=str(output),
            dtype=dtype,
            nodes=len(done.converted) + len(done.kept),
            converted=len(done.converted),
            kept=tuple(KeptNode(*row) for row in done.kept),
            casts=done.casts,
            opset=(opsets(loaded.model).get("", 0), opsets(done.model).get("", 0)),
            bytes_before=loaded.bytes,
            bytes_after=size,
            constants=done.constants.values,
            subnormal=done.constants.subnormal,
            flushed=done.constants.flushed,
            too_large=done.too_large,
            macs=shares(node_macs(done.model)),
            verified=verdict.said,
            errors=verdict.errors,
            node_errors=verdict.node_errors,
            notes=tuple(ready.notes),
        )
        _judge(report, options, doing)
    return report


class Ready:
    """A model that was read and made ready for the cast pass, to be converted once or many times.

    notes: sentences for the report.
    """

    def __init__(self, source: files.Source, dtype: str, options: NarrowOptions) -> None:
        self.loaded = loaded = files.read(source, "converting")
        self.dtype, self.options = dtype, options
        self.doing = f"converting {loaded.name} to {dtype}"
        self.notes: list[str] = []
        self.model = ModelProto()
        self.model.CopyFrom(loaded.model)
        require_valid(loaded.model, self.doing, loaded.name)
        try:
            self.model = normalize.inline_functions(self.model, loaded.name, self.notes)
            normalize.plain_inputs(self.model, self.notes)
            normalize.plain_constants(self.model.graph)
            if options.upgrade:
                self.model = normalize.upgrade(self.model, dtype, self.notes)
        except (onnx.shape_inference.InferenceError, UnicodeDecodeError) as error:
            raise self._untyped(error) from error

    def read(self, samples: Samples) -> SampleSet:
        """The samples, checked against the model as ONNX Runtime loads it."""
        with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
            path = Path(folder) / "original.onnx"
            beside = self.loaded.external
            files.write(self.loaded.model, self.loaded.payloads, path, external=beside)
            session = load(path, graph_level="basic")
        return read_samples(
            samples, session.inputs, session.optional_inputs, doing="verifying", finite=False
        )

    def hot(self, samples: SampleSet) -> dict[str, str]:
        """The values that float16 does not hold on the samples, with the reasons.

        Empty for bfloat16, which has the range of float32, and where the model does not run: the
        verification says so.
        """
        if self.dtype != "float16":
            return {}
        model, payloads, beside = self.model, self.loaded.payloads, self.loaded.external
        with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
            try:
                return out_of_range(
                    largest_values(model, payloads, samples, Path(folder), external=beside)
                )
            except InvalidArgument:
                raise
            except Error as error:
                self.notes.append(f"no values beyond float16 were looked for ({error})")
                return {}

    def convert(
        self, keep: Sequence[str], hot: Mapping[str, str], payloads: files.Payloads
    ) -> Pass:
        """The conversion in memory, stamped and checked; `payloads` get the new tensors."""
        model = ModelProto()
        model.CopyFrom(self.model)
        options = self.options
        try:
            done = convert(
                model,
                payloads,
                self.dtype,
                keep=keep,
                keep_io=options.keep_io,
                keep_defaults=options.keep_defaults,
                hot=hot,
            )
        except (onnx.shape_inference.InferenceError, UnicodeDecodeError) as error:
            raise self._untyped(error) from error
        if not done.converted:
            self.notes.append(
                f"nothing to convert: no node that computes in float32 can take {self.dtype}"
            )
        _check(self.loaded.model, done.model, self.doing, self.notes)
        if done.converted:
            asked = {"keep": list(keep), "keep_io": options.keep_io}
            asked["keep_defaults"] = options.keep_defaults
            stamp(done.model, _NAMES[self.dtype], asked, self.loaded)
        return done

    def _untyped(self, error: Exception) -> InvalidModel:
        return InvalidModel(
            f"{self.doing}: onnx cannot infer its types ({error}), expected a valid model; check "
            "it with onnx.checker.check_model(model, full_check=True)",
            self.loaded.name,
        )


def _check(original: ModelProto, result: ModelProto, doing: str, notes: list[str]) -> None:
    """The result must be valid, and well typed where strict inference accepts the original."""
    before = type_complaint(original)
    found = complaint(result) or (None if before else type_complaint(result))
    if found is not None:
        raise InternalError(
            f"{doing}: onnx refuses the result ({found}), expected a valid model; please report "
            "it, and name the node in keep= meanwhile",
            doing,
        )
    if before is not None:
        notes.append(f"its types are not checked: onnx refuses those of the original ({before})")


def _judge(report: PrecisionReport, options: NarrowOptions, doing: str) -> None:
    lost = next((e for e in report.errors if e.lost), None)
    if lost is not None and not options.by_node:
        raise AccuracyLost(
            f"{doing}: {lost.lost} of {lost.elements} elements of output {lost.name!r} are NaN or "
            "infinite where the original's are finite, expected none; find the first such node "
            "with by_node=True and name it in keep=, or use bf16",
            lost.name,
        )
    limit = options.tolerance if options.tolerance is not None else USUAL[report.dtype]
    worst = max(report.errors, key=lambda e: e.scaled, default=OutputError("", 0))
    if worst.scaled <= limit:
        return
    text = (
        f"{doing}: output {worst.name!r} is off by {worst.scaled:.3g} of its largest value, "
        f"expected at most {limit:g}; name the nodes that break it in keep= (by_node=True shows "
        "them), or give real samples"
    )
    if options.tolerance is not None:
        raise AccuracyLost(text, worst.name)
    warnings.warn(text, UserWarning, stacklevel=4)
