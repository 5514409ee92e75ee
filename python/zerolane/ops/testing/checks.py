"""What is checked of each case, and what came of it."""

from __future__ import annotations

import unittest
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from zerolane.errors import Error
from zerolane.ops.op import definition
from zerolane.ops.testing import backends, child
from zerolane.ops.testing.backends import Impossible
from zerolane.ops.testing.case import Array, Case
from zerolane.ops.testing.compare import first_difference
from zerolane.ops.testing.direct import Outcome, output_names
from zerolane.ops.testing.generate import generate
from zerolane.ops.testing.references import Reference, expected, reference_of
from zerolane.ops.testing.targets import ops_of

_SIBLINGS = 3


@dataclass(frozen=True, slots=True)
class Result:
    """Of one check of one case. status: "ok", "failed" or "skipped"; text says why."""

    case: Case
    check: str
    status: str
    text: str = ""


class Failed(Exception):
    """A check that found something; the text says what."""


_families: dict[str, list[Case]] = {}  # cases made so far, by op
_outcomes: dict[Case, Outcome] = {}


def cases(target: Any = None) -> list[Case]:
    """The cases of an op, of all ops of a library or of an installed package.

    target: "domain::Op", a path of a library, the name of a package, "zerolane"; None: every op
    that is known. An op that has cases() beside its reference has those; for others they are made
    from its table. Raises NotFound, and Unsupported for ops that need cases() and have none.
    """
    made: list[Case] = []
    for name in ops_of(target):
        reference = reference_of(name)
        own = reference.cases if isinstance(reference, Reference) else ()
        found = list(own) or generate(definition(name))
        _families[name] = found
        made += found
    return made


def check(case: Case, name: str) -> None:
    """Check one thing (one of CHECKS) of one case; for tests.

    Raises AssertionError, which names op, case, element, and what was got and expected; and
    unittest.SkipTest, which pytest knows too, where this machine or this op cannot be checked so.
    """
    result = judge(case, name)
    if result.status == "failed":
        raise AssertionError(f"{case}\n{name}: {result.text}")
    if result.status == "skipped":
        raise unittest.SkipTest(result.text)


def judge(case: Case, name: str) -> Result:
    """The same as a value."""
    if name not in _CHECKS:
        raise ValueError(f"checking {case}: there is no check {name!r}; use one of {CHECKS}")
    try:
        _CHECKS[name](case)
    except Impossible as reason:
        return Result(case, name, "skipped", str(reason))
    except Failed as problem:
        return Result(case, name, "failed", str(problem))
    except Error as error:
        return Result(case, name, "failed", f"{type(error).__name__}: {error}")
    return Result(case, name, "ok")


def _outcome(case: Case) -> Outcome:
    """Of the direct runs, which are done once for all checks."""
    if not definition(case.op, case.version).cpu:
        raise Impossible("the op has no CPU body")
    if case not in _outcomes:
        family = [c for c in _families.get(case.op, []) if c is not case and c.same_op(case)]
        # Of like size, so that runs overlap in time; and other values, so that mixing them shows.
        family.sort(key=lambda c: abs(np.log1p(c.elements) - np.log1p(case.elements)))
        _outcomes[case] = child.run(case, family[:_SIBLINGS])
    return _outcomes[case]


def _of_direct_runs(name: str) -> Callable[[Case], None]:
    def judged(case: Case) -> None:
        outcome = _outcome(case)
        if name in outcome.problems:
            raise Failed(outcome.problems[name])
        _needs_outputs(outcome)

    return judged


def _needs_outputs(outcome: Outcome) -> list[Array]:
    if outcome.refused is not None:
        raise Impossible(f"there is nothing to check: {outcome.refused}")
    if "bounds" in outcome.problems or outcome.outputs is None:
        check = next(iter(outcome.problems))
        raise Impossible(f"not run, because {check} failed")
    return outcome.outputs


def _reference(case: Case) -> None:
    outcome = _outcome(case)
    if outcome.refused is not None:
        raise Failed(
            f"{outcome.refused}; write cases() beside the reference, if such inputs are not to be"
        )
    got = _needs_outputs(outcome)
    reference = reference_of(case.op)
    if isinstance(reference, str):
        raise Impossible(f"no reference: {reference}")
    _compare(case, got, _expected(case))


def _expected(case: Case) -> list[Array]:
    """By the reference; without one, what direct runs gave."""
    reference = reference_of(case.op)
    if isinstance(reference, str):
        return _needs_outputs(_outcome(case))
    try:
        return expected(reference, case, len(output_names(case)))
    except Error:
        raise
    except Exception as error:
        raise Failed(f"the reference raised {type(error).__name__}: {error}") from error


def _compare(case: Case, got: list[Array], wanted: list[Array]) -> None:
    reference = reference_of(case.op)
    own = reference.tolerances if isinstance(reference, Reference) else None
    for name, a, b in zip(output_names(case), got, wanted, strict=True):
        tolerance = case.tolerance if case.tolerance is not None else (own or {}).get(b.dtype.name)
        wrong = first_difference([name], [a], [b], tolerance=tolerance)
        if wrong is not None:
            raise Failed(wrong)


def _safe(case: Case) -> None:
    """What goes astray in memory is not to be run in this process."""
    if definition(case.op, case.version).cpu:
        _needs_outputs(_outcome(case))


def _onnxruntime(case: Case) -> None:
    _safe(case)
    if not definition(case.op, case.version).cpu:
        raise Impossible("the op has no CPU body")
    try:
        _compare(case, backends.on_onnxruntime(case), _expected(case))
    except AssertionError as error:
        raise Failed(str(error)) from error


def _cuda(case: Case) -> None:
    one, other = backends.on_gpu(case, captured=False)
    _compare(case, one, _expected(case))
    wrong = first_difference(output_names(case), other, one, bits=True)
    if wrong is not None:
        raise Failed(f"run over other garbage: {wrong}")


def _capture(case: Case) -> None:
    one, other = backends.on_gpu(case, captured=True)
    (plain, _) = backends.on_gpu(case, captured=False)
    for captured in (one, other):
        wrong = first_difference(output_names(case), captured, plain, bits=True)
        if wrong is not None:
            raise Failed(f"captured into a CUDA graph and launched: {wrong}")


def _tensorrt(case: Case) -> None:
    got = backends.on_tensorrt(case)
    if got is not None:
        _compare(case, got, _expected(case))


_CHECKS: dict[str, Callable[[Case], None]] = {
    "bounds": _of_direct_runs("bounds"),
    "reference": _reference,
    "unwritten": _of_direct_runs("unwritten"),
    "repeat": _of_direct_runs("repeat"),
    "threads": _of_direct_runs("threads"),
    "layouts": _of_direct_runs("layouts"),
    "onnxruntime": _onnxruntime,
    "cuda": _cuda,
    "capture": _capture,
    "tensorrt": _tensorrt,
}
CHECKS = tuple(_CHECKS)
