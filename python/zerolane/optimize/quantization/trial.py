"""Static quantization of any choice of layers, from samples that were seen once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

from onnx import ModelProto

from zerolane import model_file as files
from zerolane.model.load import load
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.onnx_graph import Node, Scope, Value, view
from zerolane.optimize.precision.keep import match
from zerolane.optimize.quantization.collect import Watched, Watcher
from zerolane.optimize.quantization.insert import Form, Inserter
from zerolane.optimize.quantization.local import twins
from zerolane.optimize.quantization.places import SAME, Layer, Places, find_layers, plan, without
from zerolane.optimize.quantization.prepare import Prepared
from zerolane.optimize.quantization.ranges import Range, Scale, clipped, scale_of
from zerolane.optimize.samples import Arrays, SampleSet


@dataclass(frozen=True, slots=True)
class Choice:
    """How values are stored: see `quantize` and `insert.Form`.

    carry: results of layers and what lies between layers become integer too.
    """

    activations: str
    symmetric: bool
    carry: bool
    form: Form
    method: str = "minmax"
    percentile: float = 99.99


@dataclass
class Quantizer:
    """A prepared model and what its values are on samples; makes quantized models of it.

    layers: the names of those that can be quantized. kept: (name, operator, reason) of the others.
    """

    prepared: Prepared
    choice: Choice
    keep: tuple[str, ...]
    layers: list[str] = field(default_factory=list)
    kept: list[tuple[str, str, str]] = field(default_factory=list)
    ranges: dict[str, Range] = field(default_factory=dict)
    saturated: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        scope = view(self.prepared.model)
        layers, refused = find_layers(scope)
        chosen = without(layers, self.keep, list(scope.walk()))
        self.layers = [layer.name for layer in chosen]
        asked = [layer for layer in layers if layer not in chosen]
        self.kept = [(layer.name, layer.node.op, "named in keep") for layer in asked]
        self.kept += [(node.name, node.op, reason) for node, reason in refused]

    def calibrate(self, samples: SampleSet, folder: Path, tell: Callable[[int], object]) -> None:
        """Runs the samples; afterwards `made` gives models."""
        _, _, places = self._plan(self.prepared.model, self.layers)
        watched = [
            Watched(v.name, _positive(v), _rank(self.prepared.model, v.name))
            for group in places.sources.values()
            for v in group
        ]
        watcher = Watcher(
            self.prepared.model,
            self.prepared.payloads,
            watched,
            folder,
            external=self.prepared.loaded.external,
            histograms=self.choice.method != "minmax",
        )
        watcher.run(samples, tell, self.prepared.doing)
        self.ranges = watcher.ranges()
        for node in places.carriers:
            out = node.outputs[0]
            if node.op in SAME and out is not None and out in places.reads:
                passed = [self.ranges[v] for v in node.proto.input if v in self.ranges]
                self.ranges[out.name] = reduce(Range.joined, passed)

    def made(self, names: Collection[str]) -> ModelProto:
        """The model with these layers quantized; new weights go to the payloads."""
        return self._inserted(self.prepared.model, names)

    def ranked(self, samples: Sequence[Arrays], folder: Path) -> list[str]:
        """The layers, those first whose results are the farthest off, relative to their size."""
        pairs = twins(self.prepared.model, self.layers)
        self.ranges |= {v: self.ranges[s] for v, s in pairs.same.items() if s in self.ranges}
        model = self._inserted(pairs.model, set(pairs.names.values()))
        path = folder / "twins.onnx"
        files.write(model, self.prepared.payloads, path, external=self.prepared.loaded.external)
        session = load(path)
        worst = dict.fromkeys(self.layers, 0.0)
        for row in samples:
            found = session.run(row)
            for name, (off, size) in pairs.distances.items():
                error = float(found[off]) / max(float(found[size]), 1e-30)
                worst[name] = max(worst[name], error)
        return sorted(self.layers, key=lambda name: -worst[name])

    def _inserted(self, source: ModelProto, names: Collection[str]) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(source)
        if not names:
            return model
        scope, _, places = self._plan(model, names)
        scales: dict[Value, Scale] = {}
        for leader, values in places.sources.items():
            seen = reduce(Range.joined, (self.ranges[v.name] for v in values))
            low, high = clipped(seen, self.choice.method, self.choice.percentile)
            scales[leader] = scale_of(
                low, high, self.choice.activations, symmetric=self.choice.symmetric
            )
        inserter = Inserter(model, scope, self.prepared.payloads, self.choice.form)
        inserter.insert(places, scales)
        self.saturated = inserter.saturated
        del model.graph.value_info[:]
        remove_dead(model)
        return model

    def _plan(self, model: ModelProto, names: Collection[str]) -> tuple[Scope, list[Layer], Places]:
        scope = view(model)
        layers = [layer for layer in find_layers(scope)[0] if layer.name in names]
        kept: set[Node] = match(self.keep, list(scope.walk())) if self.keep else set()
        return scope, layers, plan(layers, kept, carry=self.choice.carry)


def _positive(value: Value) -> bool:
    """Known to hold nothing below 0."""
    node = value.producer
    return node is not None and (node.op in ("Relu", "Sigmoid", "Softmax"))


def _rank(model: ModelProto, name: str) -> int:
    for info in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if info.name == name and info.type.tensor_type.HasField("shape"):
            return len(info.type.tensor_type.shape.dim)
    return 0
