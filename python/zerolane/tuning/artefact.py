"""The files among which a search chooses, each made once, scored, or left out with the reason."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zerolane.errors import Error
from zerolane.measure.accuracy import Metric, Scorer
from zerolane.model.load import load
from zerolane.model.tuned import file_sha256
from zerolane.tuning.halving import Budget
from zerolane.tuning.measuring import file_bytes


@dataclass(frozen=True, slots=True)
class Artefact:
    """A file with the model in one precision.

    file: its name in the search's folder; "" for the original. bytes: with external data. score:
    the share of the original's that it keeps. seconds: for making and scoring it. reason: why it is
    no candidate; "" for a candidate.
    """

    name: str
    file: str = ""
    sha256: str = ""
    bytes: int = 0
    score: float | None = None
    seconds: float = 0.0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class OutOfTime(Exception):
    """The budget ended while an artefact was being made."""


def original(model: Path | bytes) -> Artefact:
    """The model as it was given, which keeps all of its score."""
    size = len(model) if isinstance(model, bytes) else file_bytes(model)
    return Artefact("original", bytes=size, score=1.0)


def make(
    name: str,
    model: Path | bytes,
    folder: Path,
    stem: str,
    samples: Sequence[Mapping[str, Any]],
    score: Scorer,
    metric: Metric,
    accuracy: float,
    budget: Budget,
    *,
    target: str,
    seed: int,
    threads: int,
) -> Artefact:
    """Make and score one. Ends when the budget does, where the pass tells of its progress."""
    begun = budget.used

    def tell(done: float, doing: str) -> None:
        if budget.left <= 0:
            raise OutOfTime
        del done, doing

    file = f"{stem}.{name}.onnx"
    path = folder / file
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they warn of, the score shows
            _write(name, model, path, samples, tell, target, seed, metric, accuracy)
        session = load(path, threads=threads)

        def run(inputs: dict[str, Any]) -> Mapping[str, Any]:
            tell(0, "")
            return session.run(inputs)

        kept = score.kept(run)
    except OutOfTime:
        return Artefact(name, seconds=budget.used - begun, reason="the budget ended first")
    except Error as error:
        return Artefact(name, seconds=budget.used - begun, reason=_first_line(error))
    found = Artefact(
        name, file, file_sha256(path), file_bytes(path), kept, round(budget.used - begun, 3)
    )
    if kept < accuracy:
        why = f"keeps {kept:.4f} of the original's score, at least {accuracy:g} is wanted"
        return Artefact(**(found.as_dict() | {"reason": why}))
    return found


def _write(
    name: str,
    model: Path | bytes,
    path: Path,
    samples: Sequence[Mapping[str, Any]],
    tell: Callable[[float, str], object],
    target: str,
    seed: int,
    metric: Metric,
    accuracy: float,
) -> None:
    from zerolane import optimize

    if name == "int8":
        # After the graph passes: folded batch norms leave less to quantize.
        with tempfile.TemporaryDirectory(prefix="zerolane-", dir=path.parent) as scratch:
            source: Any = model
            try:
                optimize.graph(
                    model,
                    Path(scratch) / "graph.onnx",
                    samples=samples[:2],
                    seed=seed,
                    progress=tell,
                )
                source = Path(scratch) / "graph.onnx"
            except Error:
                pass
            tell(0, "")
            optimize.quantize(
                source,
                path,
                mode="static",
                target=target,  # type: ignore[arg-type]
                calibration=samples,
                metric=metric,
                accuracy=accuracy,
                progress=tell,
            )
    elif name == "graph":
        optimize.graph(model, path, samples=samples[:2], seed=seed, progress=tell)
    elif name == "fp16":
        optimize.fp16(model, path, verify=False)
    else:
        optimize.bf16(model, path, verify=False)


def _first_line(error: Error) -> str:
    text = str(error).splitlines()[0]
    return text if len(text) <= 300 else text[:297] + "..."
