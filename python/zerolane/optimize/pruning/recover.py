"""Recovery without training: each layer is fitted to what it gave before, in the graph's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from zerolane.model_file import Payloads
from zerolane.optimize.graph_passes.cut import reads
from zerolane.optimize.pruning.activations import Probe, attribute, layer_rows
from zerolane.optimize.pruning.flow import Flow, array_of, set_array
from zerolane.optimize.pruning.reconstruct import Fit, Halves
from zerolane.optimize.samples import SampleSet

LEAST_ROWS, MOST_ROWS = 2_000, 20_000
"""Rows that a layer is fitted on: ten for each of its inputs, between these."""

MOST_INPUTS = 8192
"""Inputs of a layer (channels x kernel) up to which all of its weights are fitted."""

_HELD_BYTES = 256 << 20
"""Of what the original gives, at once; one layer is held whatever its size."""

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_EPSILON = 1e-12


@dataclass(frozen=True)
class Recovered:
    """A layer, how it was fitted, and its error on held-back items: see `Fit`."""

    node: str
    how: str
    before: float
    after: float


@dataclass
class Recovery:
    """The original and the pruned model, both light, and what tells them apart.

    changed: the outputs of layers whose weights lost something; masks: of weights, where zeros are
    to stay; made: of layers by output, which of the original's channels is at each place.
    """

    original: ModelProto
    pruned: ModelProto
    payloads: Payloads
    folder: Path
    changed: set[str]
    masks: Mapping[str, NDArray[np.bool_]]
    made: Mapping[str, NDArray[np.int64]]
    most: str = "weights"

    def run(
        self, samples: SampleSet, rng: np.random.Generator, report: Callable[[float, str], object]
    ) -> list[Recovered]:
        """Fit the layers behind what changed, each on what the pruned model gives it by then."""
        tensors = {t.name: t for t in self.pruned.graph.initializer}
        uses: dict[str, int] = {}
        for node in self.pruned.graph.node:
            for name in node.input:
                uses[name] = uses.get(name, 0) + 1
        behind = self._behind()
        before = _Before(self, [node.output[0] for node in behind], samples)
        found = []
        for place, node in enumerate(behind):
            name = str(node.name or node.output[0])
            report(place / len(behind), f"recovering {name}")
            weight = tensors.get(node.input[1])
            if weight is None or weight.data_type != TensorProto.FLOAT or uses[weight.name] > 1:
                continue
            if attribute(node, "alpha", 1.0) != 1 or attribute(node, "beta", 1.0) != 1:
                continue
            bias = _Bias(self, node, tensors, uses)
            if not bias.usable:
                continue
            fit = self._fit(node, weight, bias, samples, before.of(node.output[0]), rng)
            found.append(Recovered(name, fit.how, fit.before, fit.after))
        return found

    def _behind(self) -> list[NodeProto]:
        """Layers that changed, or whose inputs come from one that did."""
        tainted: set[str] = set()
        found = []
        for node in self.pruned.graph.node:
            changed = bool(self.changed.intersection(node.output))
            if not changed and not tainted.intersection(reads(node)):
                continue
            tainted.update(node.output)
            if node.op_type in _LAYERS and node.domain in ("", "ai.onnx"):
                found.append(node)
        return found

    def _fit(
        self,
        node: NodeProto,
        tensor: TensorProto,
        bias: _Bias,
        samples: SampleSet,
        wanted: Sequence[NDArray[Any]],
        rng: np.random.Generator,
    ) -> Fit:
        weight = array_of(tensor, self.payloads).astype(np.float64)
        x_name, y_name = node.input[0], node.output[0]
        plain = node.op_type in ("Gemm", "MatMul") or (
            node.op_type == "Conv" and attribute(node, "group", 1) == 1
        )
        matrix = _as_matrix(node, weight)
        whole = plain and weight.ndim >= 2 and len(matrix) <= MOST_INPUTS
        if node.op_type == "MatMul" and weight.ndim != 2:
            whole = False
        outputs = bias.count
        halves = Halves(len(matrix) if whole else outputs, outputs)
        seen = x_name if whole else y_name
        pruned = Probe(self.pruned, self.payloads, [seen], self.folder / "after.onnx")
        enough = min(max(10 * len(matrix), LEAST_ROWS), MOST_ROWS)
        most = max(64, enough // len(samples))
        left = self.made.get(y_name)
        for sample, y in zip(samples, wanted, strict=True):
            channel = 1 if node.op_type.startswith("Conv") else y.ndim - 1
            if left is not None:
                y = np.take(y, left, channel)
            x = pruned.run(sample)[seen]
            if whole:
                kernel = weight.shape[2:]
                for rows, out, item in layer_rows(node, x, y, kernel, most, rng):
                    halves.add(rows, out, item)
            else:
                rows, out = (np.moveaxis(v, channel, -1).reshape(-1, outputs) for v in (x, y))
                item = np.arange(len(rows)) * len(y) // max(len(rows), 1)
                places = np.sort(rng.permutation(len(rows))[:most])
                halves.add(rows[places], out[places], item[places])
        if whole:
            mask = self.masks.get(tensor.name)
            as_mask = None if mask is None else _as_matrix(node, mask.astype(float)) > 0
            fit = halves.fit(matrix, bias.value, as_mask, self.most)
            new = _from_matrix(node, fit.weight, weight.shape)
            bias.store(fit.bias)
        else:
            most_here = "bias" if self.most == "bias" else "scale"
            # What the layer gives holds its bias already.
            fit = halves.fit(np.eye(outputs), np.zeros(outputs), None, most_here)
            scale = np.diag(fit.weight)
            new = _scaled(node, weight, scale)
            bias.store(bias.value * scale + fit.bias)
        set_array(tensor, self.payloads, new.astype(np.float32))
        return fit


class _Before:
    """What the original gives at layers: of as many at once as fit, so that it runs seldom."""

    def __init__(self, recovery: Recovery, names: Sequence[str], samples: SampleSet) -> None:
        self._recovery, self._samples = recovery, samples
        self._names = list(names)
        self._sizes: dict[str, int] = {}
        self._held: dict[str, list[NDArray[Any]]] = {}
        if self._names:
            first = self._probe(self._names).run(samples[0])
            self._sizes = {name: first[name].nbytes * len(samples) for name in self._names}

    def of(self, name: str) -> list[NDArray[Any]]:
        """One array a sample. Names are asked for in the order that was given."""
        if name not in self._held:
            place = self._names.index(name)
            sizes = np.cumsum([self._sizes[n] for n in self._names[place:]])
            count = max(1, int(np.searchsorted(sizes, _HELD_BYTES, "right")))
            group = self._names[place : place + count]
            self._held = {n: [] for n in group}
            probe = self._probe(group)
            for sample in self._samples:
                values = probe.run(sample)
                for n in group:
                    self._held[n].append(values[n])
        return self._held.pop(name)

    def _probe(self, names: list[str]) -> Probe:
        recovery = self._recovery
        return Probe(recovery.original, recovery.payloads, names, recovery.folder / "before.onnx")


class _Bias:
    """The bias of a layer: its own input, or the constant of an Add behind a MatMul.

    `value` is what is in the layer's own output; `usable` False where there is nowhere to put one.
    """

    def __init__(
        self,
        recovery: Recovery,
        node: NodeProto,
        tensors: dict[str, TensorProto],
        uses: dict[str, int],
    ) -> None:
        self._recovery, self._node = recovery, node
        weight = tensors[node.input[1]]
        self.count = _outputs(node, weight)
        self._tensor: TensorProto | None = None
        self.value = np.zeros(self.count)
        self.usable = True
        if node.op_type == "MatMul":
            self._tensor = self._added(tensors, uses)
            self.usable = self._tensor is not None
        elif len(node.input) > 2 and node.input[2]:
            self._tensor = tensors.get(node.input[2])
            if self._tensor is None:
                self.usable = False
                return
            array = array_of(self._tensor, recovery.payloads).astype(np.float64)
            self.usable = array.size in (1, self.count)
            if self.usable:
                self.value = np.broadcast_to(array.ravel(), self.count).copy()
            if uses[node.input[2]] > 1 or array.size != self.count:
                self._tensor = None

    def _added(self, tensors: dict[str, TensorProto], uses: dict[str, int]) -> TensorProto | None:
        output = self._node.output[0]
        readers = [n for n in self._recovery.pruned.graph.node if output in n.input]
        shown = {o.name for o in self._recovery.pruned.graph.output}
        if len(readers) != 1 or readers[0].op_type != "Add" or output in shown:
            return None
        other = next((n for n in readers[0].input if n != output), "")
        tensor = tensors.get(other)
        if tensor is None or uses[other] > 1:
            return None
        fits = len(tensor.dims) >= 1 and tensor.dims[-1] == self.count
        fits = fits and all(d == 1 for d in list(tensor.dims)[:-1])
        return tensor if fits and tensor.data_type == TensorProto.FLOAT else None

    def store(self, value: NDArray[np.float64]) -> None:
        payloads, node = self._recovery.payloads, self._node
        if node.op_type == "MatMul":
            assert self._tensor is not None
            before = array_of(self._tensor, payloads)
            set_array(self._tensor, payloads, before + value.reshape(before.shape[-1:]))
            return
        if self._tensor is not None:
            shape = tuple(self._tensor.dims)
            set_array(self._tensor, payloads, value.reshape(shape))
            return
        if np.abs(value - self.value).max(initial=0.0) < _EPSILON:
            return
        name = f"{node.output[0]}_bias"
        taken = {t.name for t in self._recovery.pruned.graph.initializer}
        taken |= {n for one in self._recovery.pruned.graph.node for n in one.output}
        while name in taken:
            name += "_"
        made = numpy_helper.from_array(value.astype(np.float32), name)
        self._recovery.pruned.graph.initializer.append(made)
        if len(node.input) > 2:
            node.input[2] = name
        else:
            node.input.append(name)


def left_channels(flow: Flow, gone: set[int]) -> tuple[set[str], dict[str, NDArray[np.int64]]]:
    """Of each layer by output: whether it sums over fewer channels, and which it still makes."""
    classes = np.array(sorted(gone), np.int64)
    changed: set[str] = set()
    made: dict[str, NDArray[np.int64]] = {}
    for layer in flow.layers:
        output = layer.node.output[0]
        if layer.made is not None:
            stays = ~np.isin(flow.channels.classes(layer.made), classes)
            made[output] = np.flatnonzero(stays)
        passes = layer.groups > 1 and layer.made is not None and layer.made_axis == 0
        passes = passes and flow.constants[layer.weight].dims[1] == 1
        if layer.reduced is None or passes:
            continue
        if np.isin(flow.channels.classes(layer.reduced), classes).any():
            changed.add(output)
    return changed, made


def _outputs(node: NodeProto, weight: TensorProto) -> int:
    if node.op_type == "Conv":
        return int(weight.dims[0])
    if node.op_type == "ConvTranspose":
        return int(weight.dims[1]) * int(attribute(node, "group", 1))
    if node.op_type == "Gemm":
        return int(weight.dims[0 if attribute(node, "transB", 0) else 1])
    return int(weight.dims[-1])


def _as_matrix(node: NodeProto, weight: NDArray[Any]) -> NDArray[Any]:
    """[inputs, outputs], as `layer_rows` has the inputs."""
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return weight.reshape(len(weight), -1).T
    return weight.reshape(-1, weight.shape[-1])


def _from_matrix(node: NodeProto, matrix: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return matrix.T.reshape(shape)
    return matrix.reshape(shape)


def _scaled(node: NodeProto, weight: NDArray[Any], scale: NDArray[Any]) -> NDArray[Any]:
    """The weight with each output channel scaled."""
    if node.op_type == "Conv":
        return np.asarray(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
    if node.op_type == "ConvTranspose":
        groups = int(attribute(node, "group", 1))
        per = weight.reshape(groups, -1, *weight.shape[1:])
        wide = scale.reshape(groups, 1, -1, *[1] * (weight.ndim - 2))
        return np.asarray((per * wide).reshape(weight.shape))
    if node.op_type == "Gemm" and attribute(node, "transB", 0):
        return np.asarray(weight * scale[:, None])
    return np.asarray(weight * scale)
