"""The passes of `zl.optimize.graph`: each on its own, each held against the original."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import onnx
from onnx import ModelProto

from zerolane import model_file as files
from zerolane._lazy import require
from zerolane.errors import Error, InvalidArgument, Unsupported
from zerolane.measure.progress import reporter
from zerolane.optimize.graph_passes import normalize
from zerolane.optimize.graph_passes.batch import Rebatched, rewrite_batch
from zerolane.optimize.graph_passes.cut import check_names, cut
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.graph_passes.offline import offline
from zerolane.optimize.graph_passes.options import PASSES, SLIMMED, GraphOptions
from zerolane.optimize.graph_passes.options import chosen as choose
from zerolane.optimize.graph_passes.report import (
    APPLIED,
    NOTHING,
    REFUSED,
    SKIPPED,
    GraphReport,
    PassEffect,
)
from zerolane.optimize.graph_passes.size import measure_size, operators
from zerolane.optimize.graph_passes.slim import slim
from zerolane.optimize.onnx_graph import opsets
from zerolane.optimize.provenance import stamp
from zerolane.optimize.verification.judge import Finding, Judge, Values
from zerolane.optimize.verification.valid import complaint, require_valid, type_complaint


def optimize_graph(source: files.Source, output: Path, options: GraphOptions) -> GraphReport:
    """Read, rewrite pass by pass, write, put in place."""
    loaded = files.read(source, "optimizing")
    doing = f"optimizing {loaded.name}"
    require_valid(loaded.model, doing, loaded.name)
    with files.replacing(output, loaded.files, doing) as path:
        run = _Run(loaded, options, doing, path.parent)
        run.all()
        beside = loaded.external if options.external is None else options.external
        _stamp(run.model, loaded, run.applied, options)
        size = files.write(run.model, loaded.payloads, path, external=beside)
        if options.onnxruntime_offline is not None:
            run.notes.append(offline(path, options.onnxruntime_offline, loaded, doing))
        report = GraphReport(
            source=loaded.name,
            output=str(output),
            passes=tuple(run.effects),
            before=measure_size(loaded.model, loaded.payloads, loaded.bytes),
            after=measure_size(run.model, loaded.payloads, size),
            verified=run.said,
            notes=tuple(run.notes),
        )
    for effect in report.passes:
        if effect.status == REFUSED:
            warnings.warn(
                f"{doing}: the pass {effect.name!r} was left out: {effect.why}",
                UserWarning,
                stacklevel=3,
            )
    return report


class _Run:
    """The model on its way through the passes."""

    def __init__(
        self, loaded: files.Loaded, options: GraphOptions, doing: str, folder: Path
    ) -> None:
        self.loaded, self.options, self.doing, self.folder = loaded, options, doing, folder
        self.model = ModelProto()
        self.model.CopyFrom(loaded.model)
        self.effects: list[PassEffect] = []
        self.notes: list[str] = []
        self.judge: Judge | None = None
        self.rebatched = Rebatched(1)
        self.said = "not verified: it was not asked for"
        self.rows: list[tuple[Values, Values]] | None = None

    @property
    def applied(self) -> list[str]:
        return [e.name for e in self.effects if e.status == APPLIED]

    def all(self) -> None:
        chosen = choose(self.options)
        options = self.options
        if not SLIMMED.isdisjoint(chosen):
            require("onnxslim", "optimize", self.doing)
        check_names(self.model, (*options.inputs, *options.outputs), self.doing)
        if options.verify:
            self.judge = Judge(
                self.loaded,
                self.folder,
                options.samples,
                shapes=options.shapes,
                seed=options.seed,
                extra=(*options.inputs, *options.outputs),
            )
            self.said = f"each pass held against the original {self.judge.said}"
            if not self.judge.rows:
                self.said, self.judge = f"not verified {self.judge.said}", None
        tell = reporter(options.progress)
        steps: dict[str, Callable[[ModelProto], tuple[ModelProto, str]]] = {
            "inline": self._inline,
            "opset": self._opset,
            "cut": self._cut,
            "batch": self._batch,
            "fold": lambda m: self._slim(m, "constant_folding"),
            "fuse": lambda m: self._slim(m, "graph_fusion"),
            "dedupe": lambda m: self._slim(m, "subexpression_elimination", "weight_tying"),
            "dead": self._dead,
            "shapes": self._shapes,
        }
        for index, name in enumerate(PASSES):
            tell(index / len(PASSES), f"{self.doing}: {name}")
            if name in chosen:
                self._one(name, steps[name])
            elif name in options.skip or options.passes is not None:
                size = self._size(self.model)
                asked = name not in ("opset", "cut", "batch")
                if asked:
                    self.effects.append(PassEffect(name, SKIPPED, size[0], size[1]))
        tell(1.0, f"{self.doing}: done")

    def _size(self, model: ModelProto) -> tuple[tuple[int, int], tuple[int, int]]:
        now = sum(operators(self.model.graph).values())
        was = files.size_of(self.model, self.loaded.payloads)
        if model is self.model:
            return (now, now), (was, was)
        then = sum(operators(model.graph).values())
        return (now, then), (was, files.size_of(model, self.loaded.payloads))

    def _one(self, name: str, step: Callable[[ModelProto], tuple[ModelProto, str]]) -> None:
        before = self.model.SerializeToString(deterministic=True)
        trial = ModelProto.FromString(before)
        asked = name in ("opset", "cut", "batch")
        try:
            made, why = step(trial)
        except Error as error:
            if asked:  # the user named what he wants: he is to know that he cannot have it
                raise
            self._refuse(name, str(error))
            return
        except Exception as error:  # onnx's C++ side and onnxslim raise what they like
            if asked:
                raise Unsupported(
                    f"{self.doing}: the pass {name!r} failed ({_line(error)}), expected a model "
                    "that onnx can rewrite; leave the option out",
                    name,
                ) from error
            self._refuse(name, f"it failed: {type(error).__name__}: {_line(error)}")
            return
        nodes, sizes = self._size(made)
        if made.SerializeToString(deterministic=True) == before:
            self.effects.append(PassEffect(name, NOTHING, nodes, sizes, why=why))
            return
        finding = self._finding(name, made)
        if finding is not None and finding.error > self.options.tolerance:
            text = f"its result differs from the original: {finding.why}"
            if asked:
                raise Unsupported(
                    f"{self.doing}: {name!r} changes what the model computes ({finding.why}), "
                    f"expected at most {self.options.tolerance:g} of the largest value; "
                    f"{_advice(name)}",
                    finding.output or name,
                )
            self._refuse(name, text)
            return
        self.model = made
        off = None if finding is None else finding.error
        self.effects.append(PassEffect(name, APPLIED, nodes, sizes, off, why))

    def _refuse(self, name: str, why: str) -> None:
        nodes, sizes = self._size(self.model)
        self.effects.append(PassEffect(name, REFUSED, nodes, sizes, why=why))

    def _finding(self, name: str, made: ModelProto) -> Finding | None:
        refused = complaint(made)
        if refused is None and type_complaint(self.model) is None:
            refused = type_complaint(made)
        if refused is not None:
            return Finding(float("inf"), "", f"onnx refuses the result ({refused})")
        if self.judge is None:
            return None
        if name != "batch":
            return self.judge.error(made, self.rows)
        return self._batch_finding(made)

    def _batch_finding(self, made: ModelProto) -> Finding:
        assert self.judge is not None
        to, old = self.options.batch, self.rebatched.was
        assert to is not None
        if isinstance(to, str) and isinstance(old, str):
            return self.judge.error(made)
        sizes = [to] if isinstance(to, int) else [old, 2 * int(old), 3 * int(old)]
        rows = [
            row for size in sizes for row in self.judge.batched(int(size), old, self.rebatched.axes)
        ]
        self.rows = rows  # later passes are held against the same
        return self.judge.error(made, rows)

    # The passes: each returns the model and a word on what it did

    def _inline(self, model: ModelProto) -> tuple[ModelProto, str]:
        notes: list[str] = []
        model = normalize.inline_functions(model, self.loaded.name, notes)
        normalize.plain_inputs(model, notes)
        return model, "; ".join(notes)

    def _opset(self, model: ModelProto) -> tuple[ModelProto, str]:
        target, version = self.options.opset, opsets(model).get("", 0)
        assert target is not None
        newest = int(onnx.defs.onnx_opset_version())
        if not version <= target <= newest:
            raise InvalidArgument(
                f"{self.doing}: opset={target} was given, expected one from the model's own, "
                f"{version}, to {newest}, the newest of onnx {onnx.__version__}; models are only "
                "upgraded",
                "opset",
            )
        newer, why = normalize.converted(model, target)
        if newer is None:
            raise Unsupported(
                f"{self.doing}: onnx's version converter cannot take it from opset {version} to "
                f"{target} ({why}), expected a model that it can; take a lower opset, or export "
                "the model anew",
                "opset",
            )
        return newer, f"opset {version} -> {opsets(newer).get('', 0)}"

    def _cut(self, model: ModelProto) -> tuple[ModelProto, str]:
        cut(model, self.options.inputs, self.options.outputs, self.doing)
        return model, ""

    def _batch(self, model: ModelProto) -> tuple[ModelProto, str]:
        assert self.options.batch is not None
        done = rewrite_batch(model, self.loaded.payloads, self.options.batch, self.doing)
        self.rebatched = done
        return model, "; ".join([f"batch {done.was} -> {self.options.batch}", *done.said])

    def _slim(self, model: ModelProto, *rewrites: str) -> tuple[ModelProto, str]:
        made = slim(
            model,
            self.loaded.payloads,
            [*rewrites, "dead_node_elimination"],
            most_bytes=self.options.fold_limit_bytes,
        )
        before, after = operators(model.graph), operators(made.graph)
        smaller = files.size_of(made, self.loaded.payloads) < files.size_of(
            model, self.loaded.payloads
        )
        if after.total() > before.total():  # a Gemm between two reshapes for a MatMul and an Add
            return model, f"left alone: it would make {after.total()} nodes of {before.total()}"
        if after == before and not smaller:
            return model, ""  # other names and another order are no change
        return made, ""

    def _dead(self, model: ModelProto) -> tuple[ModelProto, str]:
        remove_dead(model)
        return model, ""

    def _shapes(self, model: ModelProto) -> tuple[ModelProto, str]:
        if find_spec("onnxslim") is not None:
            # It tells free dimensions as formulas, "W//2"; what it fails on is onnx's to infer.
            with contextlib.suppress(Exception):
                told = slim(model, self.loaded.payloads, (), most_bytes=0).graph.value_info
                del model.graph.value_info[:]
                model.graph.value_info.extend(told)
        made: ModelProto = onnx.shape_inference.infer_shapes(model, data_prop=True)
        for output, own in zip(made.graph.output, model.graph.output, strict=True):
            if any(d.dim_param.startswith("unk__") for d in output.type.tensor_type.shape.dim):
                output.CopyFrom(own)  # names that onnx made up say less than none
        return made, f"{len(made.graph.value_info)} values have a type"


def _stamp(
    model: ModelProto, loaded: files.Loaded, applied: Sequence[str], options: GraphOptions
) -> None:
    asked = {
        "passes": list(applied),
        "inputs": list(options.inputs) or None,
        "outputs": list(options.outputs) or None,
        "opset": options.opset,
        "batch": options.batch,
        "fold_limit_bytes": options.fold_limit_bytes if "fold" in applied else None,
    }
    used = set() if SLIMMED.isdisjoint(applied) else {"onnxslim"}
    stamp(model, "graph", asked, loaded, tools={"onnx", *used})


def _advice(name: str) -> str:
    if name == "batch":
        return "rows may depend on each other: export the model with a dynamic batch instead"
    if name == "opset":
        return "take a lower opset, or give a tolerance"
    return "give a tolerance, or real samples"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
