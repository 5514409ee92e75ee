"""What values a model's activations take on samples.

The model runs once a sample, with reductions added, so that a few numbers a value leave the graph
and the runtime keeps its layouts and most of its fusions. Samples run side by side, one a
processor. For histograms, a sample of each value leaves the graph: about `_MOST` elements, a fixed
distance apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from zerolane.errors import Error, InvalidArgument
from zerolane.lanes.lanes import Lanes
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.model_file import Payloads, write
from zerolane.optimize.quantization.ranges import BINS, Range, stretched
from zerolane.optimize.samples import SampleSet

_MOST = 1 << 15
_BLOCKED = 4
"""Rank of feature maps: a global pool finds their maxima in whatever layout they lie."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A value to watch. positive: it is known to have no value below 0. rank: 0 for unknown."""

    name: str
    positive: bool
    rank: int


@dataclass
class _Seen:
    low: float = math.inf
    high: float = -math.inf
    edge: float = 0.0
    counts: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))


class Watcher:
    """A model that tells of its values; `folder` takes its file."""

    def __init__(
        self,
        model: ModelProto,
        payloads: Payloads,
        watched: Sequence[Watched],
        folder: Path,
        *,
        external: bool,
        histograms: bool,
    ) -> None:
        self._model, self._payloads, self._external = model, payloads, external
        self._watched, self._folder, self._histograms = watched, folder, histograms
        self._seen = {w.name: _Seen() for w in watched}

    def run(self, samples: SampleSet, tell: Callable[[int], object], doing: str) -> None:
        """Goes through the samples; `tell` gets the number of those done."""
        strides: list[int] = []
        if self._histograms:
            sizes = self._open(self._sized(), "sizes.onnx").run(samples[0])
            strides = [_stride(int(sizes[_told(i, "size")])) for i in range(len(self._watched))]
        session = self._open(self._watching(strides), "watching.onnx")
        with Lanes(session) as lanes:
            for index, found in enumerate(lanes.map(samples, return_exceptions=True)):
                if isinstance(found, Error):
                    raise InvalidArgument(
                        f"{doing}: the model does not run on sample {index} ({found}), expected it "
                        "to; give inputs that the model takes",
                        "calibration",
                    ) from found
                for place in range(len(self._watched)):
                    self._add(place, found, doing, index)
                tell(index + 1)

    def ranges(self) -> dict[str, Range]:
        """What was seen, by name of the value. A value that was always empty has the range 0."""
        made = {}
        for name, seen in self._seen.items():
            low, high = (0.0, 0.0) if seen.low > seen.high else (seen.low, seen.high)
            counts = seen.counts if self._histograms else None
            made[name] = Range(low, high, seen.edge, counts)
        return made

    def _add(
        self, place: int, found: dict[str, NDArray[np.float32]], doing: str, index: int
    ) -> None:
        watched = self._watched[place]
        name = watched.name
        high = float(found[_told(place, "high")])
        low = 0.0 if watched.positive else float(found[_told(place, "low")])
        if not (math.isfinite(low) and math.isfinite(high)):
            if high < low:  # of no elements
                return
            raise InvalidArgument(
                f"{doing}: the value {name!r} reaches from {low} to {high} on sample {index}, "
                "expected finite numbers; leave the sample out, or keep what makes the value",
                name,
            )
        seen = self._seen[name]
        seen.low, seen.high = min(seen.low, low), max(seen.high, high)
        if not self._histograms:
            return
        edge = max(-low, high)
        if edge > seen.edge:
            seen.counts = stretched(seen.counts, seen.edge, edge) if seen.edge else seen.counts
            seen.edge = edge
        if seen.edge:
            scaled = np.abs(found[_told(place, "some")]) * np.float32(BINS / seen.edge)
            bins = np.minimum(scaled.astype(np.int32), BINS - 1)
            seen.counts += np.bincount(bins, minlength=BINS)

    def _open(self, model: ModelProto, name: str) -> Session:
        path = self._folder / name
        write(model, self._payloads, path, external=self._external)
        return load(path, threads=1)

    def _copy(self) -> ModelProto:
        made = ModelProto()
        made.CopyFrom(self._model)
        del made.graph.output[:]
        return made

    def _sized(self) -> ModelProto:
        made = self._copy()
        for index, w in enumerate(self._watched):
            name = _told(index, "size")
            made.graph.node.append(helper.make_node("Size", [w.name], [name]))
            made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT64, []))
        return made

    def _watching(self, strides: Sequence[int]) -> ModelProto:
        made = self._copy()
        graph = made.graph

        def node(op: str, inputs: Sequence[str], out: str, **attributes: int) -> str:
            added = helper.make_node(op, inputs, [out])
            added.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
            graph.node.append(added)
            return out

        def number(value: int) -> str:
            name = f"zerolane/{value}"
            if name not in {t.name for t in graph.initializer}:
                tensor = numpy_helper.from_array(np.array([value], np.int64), name)
                graph.initializer.append(tensor)
            return name

        outputs: list[str] = []
        for index, w in enumerate(self._watched):
            high = w.name
            if w.rank == _BLOCKED:
                high = node("GlobalMaxPool", [w.name], _told(index, "channels"))
            outputs.append(node("ReduceMax", [high], _told(index, "high"), keepdims=0))
            if not w.positive:
                outputs.append(node("ReduceMin", [w.name], _told(index, "low"), keepdims=0))
            if self._histograms:
                flat = node("Reshape", [w.name, number(-1)], _told(index, "flat"))
                ends = [number(0), number(2**62), number(0), number(strides[index])]
                outputs.append(node("Slice", [flat, *ends], _told(index, "some")))
        for name in outputs:
            shape = ["n"] if name.endswith("some") else []
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        return made


def _told(index: int, what: str) -> str:
    """The name of a value that is added for the value watched at `index`."""
    return f"zerolane/watched{index}/{what}"


def _stride(size: int) -> int:
    """A step without a factor in common with the size: it meets all columns and channels alike."""
    step = max(1, size // _MOST)
    while math.gcd(step, size) > 1:
        step += 1
    return step
