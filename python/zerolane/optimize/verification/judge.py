"""Whether a rewritten model still computes the same: run beside the original in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, ValueInfoProto

from zerolane.errors import Error
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.model_file import MOST_PROTO_BYTES, Loaded, SharedData, size_of, write
from zerolane.optimize.samples import Samples, read_samples
from zerolane.optimize.verification.verify import measure
from zerolane.types import TensorSpec

MOST_SAMPLES = 16
"""So many of the samples are run; they differ in what matters here after a few."""

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """error: relative to the largest value of the worst output, infinite where values are lost."""

    error: float
    output: str = ""
    why: str = ""


class Judge:
    """Holds what the original computes: for each sample, its inputs and the values asked for.

    folder: for the files that ONNX Runtime reads. extra: values of the main graph that a cut makes
    inputs or outputs. `said` tells what was run, or why nothing could be.
    """

    def __init__(
        self,
        original: Loaded,
        folder: Path,
        samples: Samples | None,
        *,
        shapes: Shapes | str | None,
        seed: int,
        extra: Sequence[str] = (),
    ) -> None:
        self._loaded, self._folder = original, folder
        large = size_of(original.model, original.payloads) >= MOST_PROTO_BYTES // 2
        self._data = SharedData(folder / "judge.data") if large or original.external else None
        model = ModelProto()
        model.CopyFrom(original.model)
        shown = {v.name for v in model.graph.output}
        fed = {v.name for v in model.graph.input}
        for name in dict.fromkeys(extra):
            if name not in shown and name not in fed:
                model.graph.output.append(ValueInfoProto(name=name))
        self._session = self.open(model, "original.onnx")
        self.rows: list[tuple[Values, Values]] = []
        self.said = f"on {self._gather(samples, shapes, seed)}"

    def _gather(self, samples: Samples | None, shapes: Shapes | str | None, seed: int) -> str:
        session = self._session
        if samples is not None:
            given = read_samples(
                samples, session.inputs, session.optional_inputs, doing="verifying", finite=False
            )
            for index in range(min(len(given), MOST_SAMPLES)):
                self._add(given[index])
            return f"{len(self.rows)} samples" if len(self.rows) > 1 else "one sample"
        try:
            for offset in range(2):
                self._add(complete_inputs(session, shapes=shapes, seed=seed + offset))
        except Error as error:
            self.rows = []
            return f"nothing: the original does not run on random inputs ({error})"
        return "random values"

    def _add(self, row: Values) -> None:
        self.rows.append((row, self._session.run(row)))

    def open(self, model: ModelProto, name: str) -> Session:
        """A session in which nothing is fused: what is compared is what the file says."""
        path, payloads = self._folder / name, self._loaded.payloads
        if self._data is None:
            write(model, payloads, path, external=False)
        else:
            path.write_bytes(self._data.refer(model, payloads).SerializeToString())
        return load(path, graph_level="basic")

    def batched(
        self, size: int, old: int | str, axes: Mapping[str, int]
    ) -> list[tuple[Values, Values]]:
        """One row of `size` from those of the original: of a fixed batch, several runs on end.

        axes: of a fixed batch, where it is in each input and output that has it.
        """
        if isinstance(old, str):
            row = {s.name: self._resized(s, self.rows[0][0][s.name], size, old) for s in self._fed}
            return [(row, self._session.run(row))]
        rows = [self.rows[i % len(self.rows)] for i in range(-(-size // old))]

        def joined(name: str, parts: list[Any]) -> Any:
            if name not in axes:
                return parts[0]
            whole = np.concatenate(parts, axes[name])
            return np.take(whole, np.arange(size), axes[name])

        feeds = {name: joined(name, [row[name] for row, _ in rows]) for name in rows[0][0]}
        wanted = {name: joined(name, [v[name] for _, v in rows]) for name in rows[0][1]}
        return [(feeds, wanted)]

    @property
    def _fed(self) -> list[TensorSpec]:
        return [s for s in self._session.inputs if s.name in self.rows[0][0]]

    @staticmethod
    def _resized(spec: TensorSpec, value: Any, size: int, old: str) -> Any:
        """The value with `size` rows, its own over and over, where the batch is called `old`."""
        for axis, dim in enumerate(spec.shape or ()):
            if dim == old:
                value = np.take(value, np.arange(size) % value.shape[axis], axis)
        return value

    def error(
        self, model: ModelProto, rows: Sequence[tuple[Values, Values]] | None = None
    ) -> Finding:
        """The worst over the rows; that the model does not load or run counts as infinite."""
        worst = Finding(0.0)
        try:
            session = self.open(model, "candidate.onnx")
            for feeds, wanted in self.rows if rows is None else rows:
                values = wanted | feeds
                given = {s.name: values[s.name] for s in session.inputs}
                given |= {s.name: feeds[s.name] for s in session.optional_inputs if s.name in feeds}
                for name, got in session.run(given).items():
                    if name not in values:
                        continue
                    found = measure(name, got, values[name])
                    bad = found.lost or found.differing
                    error = float("inf") if bad else found.scaled
                    if error > worst.error:
                        worst = Finding(error, name, f"output {found}")
        except Error as error_:
            return Finding(float("inf"), "", f"ONNX Runtime does not run the result ({error_})")
        return worst
