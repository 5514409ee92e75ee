"""What the graph passes did to a model, one by one and in all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zerolane.model.inspect import macs_text

APPLIED, NOTHING, REFUSED, SKIPPED = "applied", "no change", "refused", "skipped"


@dataclass(frozen=True, slots=True)
class PassEffect:
    """One pass. nodes, bytes: before and after it, Constant nodes not counted.

    status: "applied", "no change", "refused" (its result was thrown away) or "skipped" (by skip=).
    error: the largest difference from the original, relative to the largest value of the output; 0
        is bit-equal, None where nothing was run. why: what was refused or rewritten.
    """

    name: str
    status: str
    nodes: tuple[int, int]
    bytes: tuple[int, int]
    error: float | None = None
    why: str = ""

    def __str__(self) -> str:
        text = f"{self.name:<8} {self.status}"
        if self.status == APPLIED:
            text += f": {self.nodes[0]} -> {self.nodes[1]} nodes"
            if self.bytes[0] != self.bytes[1]:
                text += f", {self.bytes[0]:,} -> {self.bytes[1]:,} bytes"
            if self.error is not None:
                same = "bit-equal" if self.error == 0 else f"off by {self.error:.2g}"
                text += f", {same}"
        return text + (f" ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """A model in numbers. operators: how often each occurs, bodies included, no Constant.

    weights: bytes of stored values by dtype. macs: multiply-adds by dtype for one run, free
    dimensions counted as 1. bytes: of the file, with external data.
    """

    bytes: int
    opset: int
    operators: Mapping[str, int]
    weights: Mapping[str, int]
    macs: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def nodes(self) -> int:
        return sum(self.operators.values())


@dataclass(frozen=True, slots=True)
class GraphReport:
    """The result of `zl.optimize.graph`. verified: what was run to compare, or why nothing was."""

    source: str
    output: str
    passes: tuple[PassEffect, ...]
    before: ModelSize
    after: ModelSize
    verified: str
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> float:
        """The largest difference of any applied pass from the original."""
        return max((p.error or 0.0 for p in self.passes if p.status == APPLIED), default=0.0)

    @property
    def refused(self) -> tuple[str, ...]:
        """The names of the passes whose result was thrown away."""
        return tuple(p.name for p in self.passes if p.status == REFUSED)

    @property
    def operators_changed(self) -> dict[str, tuple[int, int]]:
        """Operators that occur more or less often than before: before, after."""
        a, b = self.before.operators, self.after.operators
        return {
            name: (a.get(name, 0), b.get(name, 0))
            for name in sorted({*a, *b})
            if a.get(name, 0) != b.get(name, 0)
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        own = {
            "worst": self.worst,
            "refused": list(self.refused),
            "operators_changed": self.operators_changed,
        }
        return asdict(self) | own

    def __str__(self) -> str:
        a, b = self.before, self.after
        lines = [
            f"{self.source} -> {self.output}: {a.nodes} -> {b.nodes} nodes, {a.bytes:,} -> "
            f"{b.bytes:,} bytes" + (f", opset {a.opset} -> {b.opset}" * (a.opset != b.opset))
        ]
        lines += [f"  {effect}" for effect in self.passes]
        changed = (f"{name} {was} -> {now}" for name, (was, now) in self.operators_changed.items())
        if self.operators_changed:
            lines.append("  operators  " + ", ".join(changed))
        for title, one, other in (
            ("inputs", a.inputs, b.inputs),
            ("outputs", a.outputs, b.outputs),
        ):
            if one != other:
                lines.append(f"  {title}  {', '.join(one)} -> {', '.join(other)}")
        if a.weights != b.weights:
            lines.append(f"  weights    {_bytes(a.weights)} -> {_bytes(b.weights)}")
        if b.macs:
            lines.append(f"  multiply-adds  {macs_text(b.macs)}")
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, f"  {self.verified}"])


def _bytes(weights: Mapping[str, int]) -> str:
    return ", ".join(f"{dtype} {size:,} bytes" for dtype, size in weights.items()) or "none"
