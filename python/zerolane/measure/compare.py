"""`zl.compare`: do two models, or two ways to run one, give the same outputs?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.measure.accuracy import Metric, scorer
from zerolane.measure.difference import (
    OutputDifference,
    compare_values,
    missing,
    number_text,
    over_samples,
)
from zerolane.measure.layers import LayerDifference, compare_layers
from zerolane.measure.noise import noise as noise_of
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.load import load
from zerolane.model.session import Session

Run = Callable[[dict[str, Any]], Mapping[str, Any]]
Side = Session | str | os.PathLike[str] | bytes | Run


@dataclass(frozen=True, slots=True)
class CompareResult:
    """The outputs of `a` held against those of `b`, the reference.

    samples: how many were run. noise: whether the reference's own was measured. scores: the share
    of the reference's score that `a` keeps, by metric; accuracy: what it is to be at least.
    layers: the values inside that both have, in order, where they were asked for.
    """

    a: str
    b: str
    atol: float
    rtol: float
    outputs: tuple[OutputDifference, ...]
    samples: int = 1
    noise: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    accuracy: float | None = None
    layers: tuple[LayerDifference, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every output agrees: within tolerance, or where noise was measured, by no more.

        With `accuracy`, whether every score is as high, instead.
        """
        if self.accuracy is not None:
            return all(score >= self.accuracy for score in self.scores.values())
        return all(output.ok or output.verdict == "noise" for output in self.outputs)

    @property
    def jump(self) -> LayerDifference | None:
        """The first layer at which the error jumps; None where it does not, or was not looked for.

        Before it, both models compute the same.
        """
        return next((layer for layer in self.layers if layer.jump), None)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "ok": self.ok,
            "a": self.a,
            "b": self.b,
            "atol": self.atol,
            "rtol": self.rtol,
            "outputs": [output.as_dict() for output in self.outputs],
            "samples": self.samples,
            "noise": self.noise,
            "scores": dict(self.scores),
            "accuracy": self.accuracy,
            "layers": [layer.as_dict() for layer in self.layers],
            "jump": None if self.jump is None else self.jump.as_dict(),
        }

    def __str__(self) -> str:
        verdict = "agree" if self.ok else "DIFFER"
        head = (
            f"{self.a} and {self.b} {verdict} (|a - b| <= {number_text(self.atol)} + "
            f"{number_text(self.rtol)} |b|)"
        )
        lines = [head, *(f"  {output}" for output in self.outputs)]
        lines += [f"  keeps {score:.2%} of {name}" for name, score in self.scores.items()]
        if self.layers:
            lines.append("  by layer:")
            lines += [f"    {layer}" for layer in self.layers]
            first = "nowhere" if self.jump is None else f"at {self.jump.op} {self.jump.node}"
            lines.append(f"  the error jumps first {first}")
        return "\n".join(lines)


def compare(
    a: Side,
    b: Side,
    inputs: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-5,
    shapes: Shapes | str | None = None,
    seed: int = 0,
    metrics: Sequence[Metric] | Metric = (),
    accuracy: float | None = None,
    noise: bool = False,
    layers: bool = False,
) -> CompareResult:
    """Run `a` and `b` on the same inputs and compare their outputs by name.

    a, b: sessions, paths, bytes of models, or functions from a dict of arrays to one. `b` is the
        reference: a number agrees when |a - b| <= atol + rtol |b|, an integer when |a - b| <= atol,
        NaN with NaN, infinity with the same infinity; strings and booleans when equal.
    inputs: arrays by name, or several such samples, of which the worst counts; those left out are
        random (see `shapes` and `seed` of `zl.bench`).
    metrics: names ("top1", "boxes", "ctc", "embedding", "cosine", "psnr", "max_error", with outputs
        and options as in "ctc:log_probs,blank=10") or functions of a run: what `a` keeps of `b`'s
        score is in `scores`. accuracy: the share to keep; with it, tolerances decide nothing.
    noise: also run the reference in other ways that should be equal (`zerolane.measure.noise`):
        differences up to four times what those make count as noise, not as errors. `b` must be the
        path or the bytes of a model.
    layers: also compare the values inside that both models name alike, in the order of `b`, and
        find the first at which the error jumps. Both must be paths or bytes of ONNX models.
    """
    for name, value in (("atol", atol), ("rtol", rtol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidArgument(
                f"comparing: {name} is {value!r}, expected a number from 0 on; "
                "leave it out for 1e-5",
                name,
            )
    wanted = [metrics] if isinstance(metrics, str) or callable(metrics) else list(metrics)
    if accuracy is not None and (not wanted or not 0 < accuracy <= 1):
        raise InvalidArgument(
            f"comparing: accuracy is {accuracy!r} of {len(wanted)} metrics, expected a share above "
            "0 and up to 1 of one at least; give metrics=, or leave it out",
            "accuracy",
        )
    for option, asked, side in (("noise", noise, b), ("layers", layers, a), ("layers", layers, b)):
        if asked and not isinstance(side, str | os.PathLike | bytes):
            raise InvalidArgument(
                f"comparing: {option}=True and a {type(side).__name__}, expected the path or the "
                "bytes of a model, which is loaded anew; give that",
                option,
            )
    left, right = _open(a, "a"), _open(b, "b")
    session = next((side for side in (left, right) if isinstance(side, Session)), None)
    rows = [inputs] if inputs is None or isinstance(inputs, Mapping) else list(inputs)
    if session is not None and rows:
        samples = [complete_inputs(session, row, shapes=shapes, seed=seed) for row in rows]
    elif inputs is not None and rows:
        samples = [dict(row) for row in rows if row is not None]
    else:
        raise InvalidArgument(
            "comparing: both sides are functions and no inputs are given, so their names and "
            "types are not known; give inputs={name: array}"
            if rows
            else "comparing: inputs are an empty list, expected one sample at least; leave them "
            "out for random ones",
            "inputs",
        )
    references = [_run(right, sample) for sample in samples]
    found = [
        compare_outputs(_run(left, sample), reference, atol=atol, rtol=rtol).outputs
        for sample, reference in zip(samples, references, strict=True)
    ]
    outputs = _over_samples(found)
    if noise:
        assert isinstance(b, str | os.PathLike | bytes)
        own = noise_of(b, references, samples, seed)
        outputs = tuple(replace(row, noise=own.get(row.name)) for row in outputs)
    scores = {}
    for metric in wanted:
        made = scorer(metric, lambda sample: _run(right, sample), samples)
        scores[made.name] = made.kept(lambda sample: _run(left, sample))
    inside: tuple[LayerDifference, ...] = ()
    if layers:
        assert isinstance(a, str | os.PathLike | bytes)
        assert isinstance(b, str | os.PathLike | bytes)
        inside = compare_layers(a, b, samples)
    return CompareResult(
        _label(left, a),
        _label(right, b),
        atol,
        rtol,
        outputs,
        len(samples),
        noise,
        scores,
        accuracy,
        inside,
    )


def _over_samples(found: Sequence[Sequence[OutputDifference]]) -> tuple[OutputDifference, ...]:
    by_name: dict[str, list[OutputDifference]] = {}
    for rows in found:
        for row in rows:
            by_name.setdefault(row.name, []).append(row)
    return tuple(over_samples(name, rows) for name, rows in by_name.items())


def compare_outputs(
    a: Mapping[str, Any],
    b: Mapping[str, Any],
    *,
    atol: float,
    rtol: float,
    names: tuple[str, str] = ("a", "b"),
) -> CompareResult:
    """Compare outputs that are there already, as `compare` does."""
    rows: list[OutputDifference] = []
    for name in [*a, *(name for name in b if name not in a)]:
        if name in a and name in b:
            rows += compare_values(name, a[name], b[name], atol=atol, rtol=rtol)
        else:
            rows.append(missing(name, a.get(name, b.get(name)), side=0 if name in a else 1))
    return CompareResult(*names, atol, rtol, tuple(rows))


def _open(side: Side, which: str) -> Session | Run:
    if isinstance(side, Session):
        return side
    if isinstance(side, str | os.PathLike | bytes):
        return load(side)
    if callable(side):
        return side
    raise InvalidArgument(
        f"comparing: {which} is a {type(side).__name__}, expected a session, a path, the bytes of "
        "a model, or a function from a dict of arrays to one; load it with zl.load first",
        which,
    )


def _run(side: Session | Run, inputs: dict[str, Any]) -> Mapping[str, Any]:
    if isinstance(side, Session):
        return side.run(inputs)
    outputs = side(inputs)
    if not isinstance(outputs, Mapping):
        raise InvalidArgument(
            f"comparing: {_label(side, side)} returned a {type(outputs).__name__}, expected a dict "
            "of output name to array; wrap it so that it returns one",
            "outputs",
        )
    return outputs


def _label(side: Session | Run, given: Side) -> str:
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    if isinstance(side, Session):
        return str(side.name)
    return str(getattr(side, "__name__", None) or type(side).__name__)
