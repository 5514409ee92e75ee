"""A model made ready for quantization: one graph, constants folded, batch norms in convolutions."""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto

from zerolane import model_file as files
from zerolane.errors import InvalidArgument, Unsupported
from zerolane.optimize.graph_passes import normalize
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.graph_passes.slim import slim
from zerolane.optimize.onnx_graph import opsets, view
from zerolane.optimize.quantization.places import already_quantized
from zerolane.optimize.verification.valid import require_valid

_FOLD_LIMIT_BYTES = 64 << 20


@dataclass
class Prepared:
    """The model as it was read, and as it is to be quantized; both light, payloads shared."""

    loaded: files.Loaded
    model: ModelProto
    doing: str
    notes: list[str]

    @property
    def payloads(self) -> files.Payloads:
        return self.loaded.payloads


def prepare(source: files.Source, mode: str, least_opset: int) -> Prepared:
    """Reads and rewrites; nothing is written. Raises what `quantize` does."""
    loaded = files.read(source, "quantizing")
    doing = f"quantizing {loaded.name} ({mode})"
    require_valid(loaded.model, doing, loaded.name)
    notes: list[str] = []
    model = ModelProto()
    model.CopyFrom(loaded.model)
    model = normalize.inline_functions(model, loaded.name, notes)
    found = already_quantized(view(model))
    if found is not None:
        raise InvalidArgument(
            f"{doing}: it is quantized already (node {found.name!r} is a {found.op}), expected a "
            "float model; give the model that it was made from",
            loaded.name,
        )
    normalize.plain_inputs(model, notes)
    normalize.plain_constants(model.graph)
    model = _upgraded(model, least_opset, doing, notes)
    _sums_to_adds(model)
    model = slim(
        model,
        loaded.payloads,
        ("constant_folding", "graph_fusion", "dead_node_elimination"),
        most_bytes=_FOLD_LIMIT_BYTES,
    )
    remove_dead(model)
    return Prepared(loaded, model, doing, notes)


def _upgraded(model: ModelProto, least: int, doing: str, notes: list[str]) -> ModelProto:
    version = opsets(model).get("", 1)
    if version >= least:
        return model
    newer, why = normalize.converted(model, least)
    if newer is None:
        raise Unsupported(
            f"{doing}: it has opset {version}, opset {least} is needed, and onnx's version "
            f"converter does not take it there ({why}); export the model with opset {least} or "
            "later",
            "opset",
        )
    notes.append(f"opset {version} -> {least}")
    return newer


def _sums_to_adds(model: ModelProto) -> None:
    """A Sum of two is an Add, of which there are integer kernels."""
    for node in model.graph.node:
        if node.op_type == "Sum" and node.domain in ("", "ai.onnx") and len(node.input) == 2:
            node.op_type = "Add"
