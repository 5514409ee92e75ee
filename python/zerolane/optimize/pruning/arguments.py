"""The arguments of `prune`, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zerolane.errors import InvalidArgument

METHODS = ("magnitude", "2:4", "channels")
SCOPES = ("global", "layer")
RECOVERIES = ("weights", "scale", "bias")


def check(
    *,
    method: str,
    ratio: float,
    scope: str,
    recover: bool | str,
    accuracy: float | None,
    target_ms: float | None,
    samples: Any,
    metric: Any,
) -> None:
    """Raises InvalidArgument for what does not fit, alone or together."""
    _one_of("method", method, METHODS)
    _one_of("scope", scope, SCOPES)
    if not isinstance(recover, bool):
        _one_of("recover", recover, RECOVERIES)
    _number("ratio", ratio, 0 <= _value(ratio) < 1, "a share from 0 up to, not with, 1")
    if method == "2:4" and ratio != 0.5:
        raise _wrong(
            "ratio", ratio, "0.5, which is what 2:4 takes away", "leave it out, or change method"
        )
    if accuracy is not None:
        _number("accuracy", accuracy, 0 < _value(accuracy) <= 1, "a share above 0 and up to 1")
    if target_ms is not None:
        _number("target_ms", target_ms, _value(target_ms) > 0, "milliseconds above 0")
        if method != "channels":
            raise _wrong(
                "target_ms",
                target_ms,
                "method='channels', as zeros alone save no time on a CPU",
                "leave it out, or change method",
            )
    if samples is None and not callable(metric) and (metric is not None or accuracy is not None):
        raise InvalidArgument(
            "pruning: a metric or an accuracy is given without samples, expected samples to "
            "measure it on; give samples=, or a function as metric",
            "samples",
        )


def _one_of(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise _wrong(name, value, f"one of {list(known)}", "check the name")


def _number(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise _wrong(name, value, expected, "give another value")


def _value(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return float("nan")
    return float(value)


def _wrong(name: str, value: object, expected: str, remedy: str) -> InvalidArgument:
    return InvalidArgument(f"pruning: {name} is {value!r}, expected {expected}; {remedy}", name)
