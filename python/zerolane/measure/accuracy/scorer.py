"""`scorer`: from a metric, a reference and samples to a function that scores a model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.measure.accuracy.agreement import Agreement, Outputs
from zerolane.measure.accuracy.boxes import Boxes
from zerolane.measure.accuracy.classes import Top1
from zerolane.measure.accuracy.numbers import Cosine, MaxError, Psnr
from zerolane.measure.accuracy.text import Ctc
from zerolane.measure.accuracy.vectors import Embedding

Sample = Mapping[str, Any]
Run = Callable[[dict[str, Any]], Outputs]
"""From arrays by input name to arrays by output name: `session.run` is one."""

Metric = str | Callable[[Run], float]
"""A name of `METRICS`, with outputs and options behind a colon, or a function of a run.

"top1", "top1:logits", "boxes:b,s,l", "ctc:log_probs,blank=10". A function gets a run and returns a
score from 0 to 1, larger is better; it brings its own data.
"""

METRICS: dict[str, type[Agreement]] = {
    "top1": Top1,
    "boxes": Boxes,
    "ctc": Ctc,
    "embedding": Embedding,
    "cosine": Cosine,
    "psnr": Psnr,
    "max_error": MaxError,
}
"""The metrics by name. All score the agreement with the reference, which itself scores 1."""


@dataclass(frozen=True)
class Scorer:
    """Scores a run from 0 to 1. `reference` is the score of the reference run."""

    name: str
    reference: float
    _score: Callable[[Run], float] = field(repr=False)

    def __call__(self, run: Run) -> float:
        """The score of a run, over all samples. Raises what the run raises."""
        return self._score(run)

    def kept(self, run: Run) -> float:
        """The share of the reference's score: what `accuracy=` of the passes is held against."""
        return self(run) / self.reference


def scorer(metric: Metric, reference: Run, samples: Sample | Iterable[Sample] | None) -> Scorer:
    """What scores a model with `metric` on `samples`, against the model behind `reference`.

    The reference runs once on every sample, here. Of its outputs, what the metric needs is kept in
    memory: decisions for top1, all of them for cosine, psnr and max_error. A function as metric
    needs no samples. Raises InvalidArgument for an unknown metric, outputs that it cannot score, no
    samples, and a function whose score of the reference is not above 0 and up to 1.
    """
    if isinstance(metric, str):
        return _named(metric, reference, samples)
    if not callable(metric):
        raise InvalidArgument(
            f"scoring: the metric is a {type(metric).__name__}, expected one of {list(METRICS)} or "
            "a function of a run that returns a number; give one of them",
            "metric",
        )
    name = str(getattr(metric, "__name__", type(metric).__name__))
    found = _checked(name, metric(reference))
    if found == 0:
        raise InvalidArgument(
            f"scoring with {name}: the reference scores 0, expected more, so that there is "
            "something to keep; check the metric and its data",
            "metric",
        )
    return Scorer(name, found, lambda run: _checked(name, metric(run)))


def _named(metric: str, reference: Run, samples: Sample | Iterable[Sample] | None) -> Scorer:
    agreement = _agreement(metric)
    rows = _rows(metric, samples)
    wanted = [agreement.reduce(reference(dict(row))) for row in rows]

    def score(run: Run) -> float:
        return agreement.score(wanted, (agreement.reduce(run(dict(row))) for row in rows))

    # Not run again: a reference that samples cannot score says so here.
    return Scorer(metric, agreement.score(wanted, wanted), score)


def _agreement(metric: str) -> Agreement:
    name, _, told = metric.partition(":")
    if name not in METRICS:
        raise InvalidArgument(
            f"scoring: there is no metric {name!r}, expected one of {list(METRICS)}; check the "
            "name, or give a function of a run that returns a number from 0 to 1",
            "metric",
        )
    kind = METRICS[name]
    outputs: list[str] = []
    options = dict(kind.options)
    for item in filter(None, told.split(",")):
        option = re.fullmatch(r"(\w+)=(-?\d+)", item)
        if option is None:
            outputs.append(item)
        elif option[1] in options:
            options[option[1]] = int(option[2])
        else:
            raise InvalidArgument(
                f"scoring with {name!r}: there is no option {option[1]!r}, expected one of "
                f"{list(options)}; leave it out",
                "metric",
            )
    return kind(outputs, options)


def _rows(metric: str, samples: Sample | Iterable[Sample] | None) -> Sequence[Sample]:
    rows = [samples] if isinstance(samples, Mapping) else list(samples or ())
    wrong = next((row for row in rows if not isinstance(row, Mapping)), None)
    if not rows or wrong is not None:
        found = "no sample is given" if not rows else f"a sample is a {type(wrong).__name__}"
        raise InvalidArgument(
            f"scoring with {metric!r}: {found}, expected dicts of input name to array; give some, "
            "or a function as metric",
            "samples",
        )
    return rows


def _checked(name: str, score: Any) -> float:
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value <= 1:
        raise InvalidArgument(
            f"scoring with {name}: the metric returned {score!r}, expected a number from 0 to 1, "
            "larger is better; scale it",
            "metric",
        )
    return value
