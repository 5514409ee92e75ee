"""`zl.compare`: do two models, or two ways to run one, give the same outputs?"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.measure.difference import OutputDifference, compare_values, missing, number_text
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.load import load
from zerolane.model.session import Session

Run = Callable[[dict[str, Any]], Mapping[str, Any]]
Side = Session | str | os.PathLike[str] | bytes | Run


@dataclass(frozen=True, slots=True)
class CompareResult:
    """The outputs of `a` held against those of `b`, the reference."""

    a: str
    b: str
    atol: float
    rtol: float
    outputs: tuple[OutputDifference, ...]

    @property
    def ok(self) -> bool:
        """Whether every output agrees."""
        return all(output.ok for output in self.outputs)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "ok": self.ok,
            "a": self.a,
            "b": self.b,
            "atol": self.atol,
            "rtol": self.rtol,
            "outputs": [output.as_dict() for output in self.outputs],
        }

    def __str__(self) -> str:
        verdict = "agree" if self.ok else "DIFFER"
        head = (
            f"{self.a} and {self.b} {verdict} (|a - b| <= {number_text(self.atol)} + "
            f"{number_text(self.rtol)} |b|)"
        )
        return "\n".join([head, *(f"  {output}" for output in self.outputs)])


def compare(
    a: Side,
    b: Side,
    inputs: Mapping[str, Any] | None = None,
    *,
    atol: float = 1e-5,
    rtol: float = 1e-5,
    shapes: Shapes | str | None = None,
    seed: int = 0,
) -> CompareResult:
    """Run `a` and `b` once on the same inputs and compare their outputs by name.

    a, b: sessions, paths, bytes of models, or functions from a dict of arrays to one. `b` is the
        reference: a number agrees when |a - b| <= atol + rtol |b|, an integer when |a - b| <= atol,
        NaN with NaN, infinity with the same infinity; strings and booleans when equal.
    inputs: arrays by name; those left out are random (see `shapes` and `seed` of `zl.bench`).
    """
    for name, value in (("atol", atol), ("rtol", rtol)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
            raise InvalidArgument(
                f"comparing: {name} is {value!r}, expected a number from 0 on; "
                "leave it out for 1e-5",
                name,
            )
    left, right = _open(a, "a"), _open(b, "b")
    session = next((side for side in (left, right) if isinstance(side, Session)), None)
    if session is not None:
        values = complete_inputs(session, inputs, shapes=shapes, seed=seed)
    elif inputs is not None:
        values = dict(inputs)
    else:
        raise InvalidArgument(
            "comparing: both sides are functions and no inputs are given, so their names and "
            "types are not known; give inputs={name: array}",
            "inputs",
        )
    return compare_outputs(
        _run(left, values),
        _run(right, values),
        atol=atol,
        rtol=rtol,
        names=(_label(left, a), _label(right, b)),
    )


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
