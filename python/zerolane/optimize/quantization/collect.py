"""What values a model's activations take on samples.

The model runs once a sample, with reductions added, so that a few numbers a value leave the graph
and the runtime keeps its layouts and most of its fusions. For histograms, a sample of each value
leaves it: at most `_MOST` elements, a fixed odd distance apart.
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
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.model_file import Payloads, write
from zerolane.optimize.onnx_graph import all_names
from zerolane.optimize.quantization.ranges import BINS, Range, stretched
from zerolane.optimize.samples import SampleSet

_MOST = 8192
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
        strides: dict[str, int] = {}
        if self._histograms:
            sizes = self._open(self._sized(), "sizes.onnx").run(samples[0])
            strides = {w.name: _stride(int(sizes[f"{w.name}/size"])) for w in self._watched}
        session = self._open(self._watching(strides), "watching.onnx")
        for index, row in enumerate(samples):
            try:
                found = session.run(row)
            except Error as error:
                raise InvalidArgument(
                    f"{doing}: the model does not run on sample {index} ({error}), expected it to; "
                    "give inputs that the model takes",
                    "calibration",
                ) from error
            for w in self._watched:
                self._add(w, found, doing, index)
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
        self, watched: Watched, found: dict[str, NDArray[np.float32]], doing: str, index: int
    ) -> None:
        name = watched.name
        high = float(found[f"{name}/high"])
        low = 0.0 if watched.positive else float(found[f"{name}/low"])
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
            scaled = np.abs(found[f"{name}/some"]) * np.float32(BINS / seen.edge)
            bins = np.minimum(scaled.astype(np.int32), BINS - 1)
            seen.counts += np.bincount(bins, minlength=BINS)

    def _open(self, model: ModelProto, name: str) -> Session:
        path = self._folder / name
        write(model, self._payloads, path, external=self._external)
        return load(path)

    def _copy(self) -> ModelProto:
        made = ModelProto()
        made.CopyFrom(self._model)
        del made.graph.output[:]
        return made

    def _sized(self) -> ModelProto:
        made = self._copy()
        for w in self._watched:
            made.graph.node.append(helper.make_node("Size", [w.name], [f"{w.name}/size"]))
            made.graph.output.append(
                helper.make_tensor_value_info(f"{w.name}/size", TensorProto.INT64, [])
            )
        return made

    def _watching(self, strides: dict[str, int]) -> ModelProto:
        made = self._copy()
        graph = made.graph
        taken = all_names(made)
        assert not any("/high" in name for name in taken & set(self._seen))
        graph.initializer.extend(
            numpy_helper.from_array(np.array([value], np.int64), f"zerolane/{name}")
            for name, value in (("flat", -1), ("start", 0), ("end", 2**62))
        )

        def output(name: str, *shape: str) -> None:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

        for w in self._watched:
            high = w.name
            if w.rank == _BLOCKED:
                high = f"{w.name}/channels"
                graph.node.append(helper.make_node("GlobalMaxPool", [w.name], [high]))
            graph.node.append(helper.make_node("ReduceMax", [high], [f"{w.name}/high"], keepdims=0))
            output(f"{w.name}/high")
            if not w.positive:
                graph.node.append(
                    helper.make_node("ReduceMin", [w.name], [f"{w.name}/low"], keepdims=0)
                )
                output(f"{w.name}/low")
            if w.name in strides:
                step = f"zerolane/step{strides[w.name]}"
                if step not in {t.name for t in graph.initializer}:
                    graph.initializer.append(
                        numpy_helper.from_array(np.array([strides[w.name]], np.int64), step)
                    )
                flat = f"{w.name}/flat"
                ends = ["zerolane/start", "zerolane/end", "zerolane/start", step]
                graph.node.append(helper.make_node("Reshape", [w.name, "zerolane/flat"], [flat]))
                graph.node.append(helper.make_node("Slice", [flat, *ends], [f"{w.name}/some"]))
                output(f"{w.name}/some", "n")
        return made


def _stride(size: int) -> int:
    """An odd step without small factors: it meets all columns and channels alike."""
    step = max(1, size // _MOST)
    while step > 1 and any(step % p == 0 for p in (2, 3, 5, 7)):
        step += 1
    return step
