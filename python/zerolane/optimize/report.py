"""What a precision pass did, and how far its numbers are from those of the original."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zerolane.errors import Error


class AccuracyLost(Error, ArithmeticError):
    """A converted model is farther from the original than was allowed."""

    code = "accuracy_lost"


@dataclass(frozen=True, slots=True)
class KeptNode:
    """A node that stays in float32. `node` is its name, or that of its first output."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class OutputError:
    """One value of the converted model held against the original's.

    max_abs, max_rel: the largest |converted - original|, and the same over |original|.
    scaled: max_abs over the largest |original| of the value: what a tolerance is held against.
    differing: elements that differ, where the value holds no floats.
    lost: elements that are finite in the original and not in the converted model.
    """

    name: str
    elements: int
    max_abs: float = 0.0
    max_rel: float = 0.0
    scaled: float = 0.0
    differing: int = 0
    lost: int = 0

    def __str__(self) -> str:
        if self.differing:
            return f"{self.name}: {self.differing} of {self.elements} elements differ"
        lost = f", {self.lost} no longer finite" if self.lost else ""
        return (
            f"{self.name}: max abs {self.max_abs:.3g}, max rel {self.max_rel:.3g}, "
            f"of the largest value {self.scaled:.3g}{lost}"
        )


@dataclass(frozen=True, slots=True)
class NodeError:
    """The error of what a node gives, carried over from the nodes before it included."""

    node: str
    op: str
    dtype: str
    error: OutputError
    largest: float
    """The largest finite |original|: float16 ends at 65504."""


@dataclass(frozen=True, slots=True)
class PrecisionReport:
    """The result of `fp16` and `bf16`.

    casts: Cast nodes before and after. opset: before and after. bytes_before, bytes_after: with
    external data. constants, subnormal, flushed: values converted, those that became subnormal,
    those that became zero. too_large: constants beyond float16 that are kept in float32.
    macs: the share of multiply-adds by dtype, free dimensions counted as 1.
    errors: by output, the worst over the samples; `verified` says how they were measured.
    """

    source: str
    output: str
    dtype: str
    nodes: int
    converted: int
    kept: tuple[KeptNode, ...]
    casts: tuple[int, int]
    opset: tuple[int, int]
    bytes_before: int
    bytes_after: int
    constants: int
    subnormal: int
    flushed: int
    too_large: int
    macs: Mapping[str, float]
    verified: str
    errors: tuple[OutputError, ...] = ()
    node_errors: tuple[NodeError, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def casts_added(self) -> int:
        return self.casts[1] - self.casts[0]

    @property
    def worst(self) -> float:
        """The largest error of any float output, relative to that output's largest value."""
        return max((e.scaled for e in self.errors), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "casts_added": self.casts_added, "worst": self.worst}

    def __str__(self) -> str:
        share = self.bytes_after / max(self.bytes_before, 1)
        lines = [
            f"{self.source} -> {self.output} ({self.dtype}): {self.converted} nodes converted, "
            f"{len(self.kept)} kept in float32, casts {self.casts[0]} -> {self.casts[1]}, "
            f"{self.bytes_before:,} -> {self.bytes_after:,} bytes ({share:.0%})"
        ]
        if self.subnormal or self.flushed or self.too_large:
            lines.append(
                f"  constants: {self.constants:,} values converted, {self.subnormal:,} became "
                f"subnormal, {self.flushed:,} became zero; {self.too_large} kept, too large"
            )
        if self.macs:
            told = ", ".join(f"{share:.1%} {dtype}" for dtype, share in self.macs.items())
            lines.append(f"  multiply-adds: {told}")
        reasons = Counter((kept.op, kept.reason) for kept in self.kept)
        lines += [f"  kept {count} x {op}: {why}" for (op, why), count in reasons.items()]
        lines += [f"  note: {note}" for note in self.notes]
        lines.append(f"  {self.verified}")
        lines += [f"    {error}" for error in self.errors]
        if self.node_errors:
            lines.append("  by node, the worst first:")
            worst = sorted(self.node_errors, key=lambda e: -_rank(e))
            lines += [f"    {e.op} {e.node} ({e.dtype}): {e.error}" for e in worst[:20]]
        return "\n".join(lines)


def _rank(error: NodeError) -> float:
    return float("inf") if error.error.lost else error.error.scaled
