"""The options of `quantize`, and what of them does not go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zerolane.errors import InvalidArgument, Unsupported
from zerolane.measure.progress import Progress

MODES = ("static", "dynamic", "int4", "fp8")
METHODS = ("minmax", "entropy", "percentile")
TARGETS = ("cpu", "tensorrt")
RESTS = ("fp32", "fp16")

LEAST_OPSET = {"static": 13, "dynamic": 13, "int4": 21, "fp8": 21}
"""Of the default domain: scales by channel came with 13; 4 bits, blocks, output_dtype with 21."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantOptions:
    """As `quantize` describes them."""

    mode: str = "static"
    target: str = "cpu"
    calibration: Any = None
    method: str = "minmax"
    percentile: float = 99.99
    per_channel: bool = True
    symmetric: bool | None = None
    block: int = 32
    keep: Sequence[str] = ()
    rest: str = "fp32"
    samples: Any = None
    metric: Any = "cosine"
    accuracy: float | None = None
    verify: bool = True
    progress: Progress = True
    external: bool | None = None


def check(options: QuantOptions) -> None:
    """Raises InvalidArgument or Unsupported for options that cannot be."""
    for name, known in (
        ("mode", MODES),
        ("method", METHODS),
        ("target", TARGETS),
        ("rest", RESTS),
    ):
        value = getattr(options, name)
        if value not in known:
            raise InvalidArgument(
                f"quantizing: {name}={value!r} was given, expected one of {', '.join(known)}; "
                "choose one",
                name,
            )
    if not 50 < options.percentile <= 100:
        raise InvalidArgument(
            f"quantizing: percentile={options.percentile} was given, expected one above 50, up to "
            "100, of the magnitudes that are to be told apart; 99.99 is usual",
            "percentile",
        )
    if options.accuracy is not None and not 0 < options.accuracy <= 1:
        raise InvalidArgument(
            f"quantizing: accuracy={options.accuracy} was given, expected the share of the "
            "original's score that is to be kept, above 0, up to 1; 0.99 allows one percent",
            "accuracy",
        )
    if options.accuracy is not None and not options.verify:
        raise InvalidArgument(
            "quantizing: accuracy= was given with verify=False, expected the result to be scored "
            "then; leave one of them out",
            "accuracy",
        )
    unscored = options.mode in ("int4", "dynamic") and options.samples is None
    if options.accuracy is not None and unscored and isinstance(options.metric, str):
        raise InvalidArgument(
            f"quantizing (mode={options.mode!r}): accuracy= was given, and nothing to score "
            f"{options.metric!r} on, expected samples; give samples=, or a function as metric",
            "accuracy",
        )
    if options.block not in (16, 32, 64, 128, 256):
        raise InvalidArgument(
            f"quantizing: block={options.block} was given, expected 16, 32, 64, 128 or 256 weights "
            "a scale; 32 is usual",
            "block",
        )
    needs = options.mode in ("static", "fp8")
    if needs and options.calibration is None:
        raise InvalidArgument(
            f"quantizing (mode={options.mode!r}): no calibration data was given, expected samples "
            "of real inputs, from which the ranges of activations are taken; give calibration=, "
            "or take mode='dynamic' or 'int4', which need none",
            "calibration",
        )
    if options.target == "tensorrt" and options.mode == "dynamic":
        raise Unsupported(
            "quantizing (mode='dynamic'): TensorRT has no dynamic ranges of 8 bits, expected a "
            "mode with Q/DQ; take mode='static', 'int4' or 'fp8'",
            "mode",
        )
    if options.target == "tensorrt" and options.symmetric is False:
        raise Unsupported(
            "quantizing for TensorRT: symmetric=False was given, and TensorRT takes zero points of "
            "0 only; leave symmetric out",
            "symmetric",
        )
