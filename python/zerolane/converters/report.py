"""What a conversion made, and how far its numbers are from those of the framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from zerolane.optimize.report import OutputError


@dataclass(frozen=True, slots=True)
class Check:
    """One sample run in both. shapes: of the inputs. errors: by output, as in `zl.optimize`."""

    shapes: Mapping[str, tuple[int, ...]]
    errors: tuple[OutputError, ...]

    @property
    def worst(self) -> float:
        """The largest error relative to its output's largest value; infinite where values differ
        that are no floats."""
        return max(
            (float("inf") if e.differing or e.lost else e.scaled for e in self.errors), default=0.0
        )

    def __str__(self) -> str:
        shapes = ", ".join(f"{name} {list(shape)}" for name, shape in self.shapes.items())
        return f"{shapes}: off by {self.worst:.2g} of the largest value"


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """The result of `zl.convert`. inputs, outputs: name, type and shape in words."""

    source: str
    output: str
    framework: str
    versions: Mapping[str, str]
    opset: int
    bytes: int
    nodes: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    checks: tuple[Check, ...]
    notes: tuple[str, ...] = ()

    @property
    def worst(self) -> float:
        """The largest error of all checks."""
        return max((check.worst for check in self.checks), default=0.0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"worst": self.worst}

    def __str__(self) -> str:
        tools = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        lines = [
            f"{self.source} ({self.framework}) -> {self.output}: {self.nodes} nodes, "
            f"{self.bytes:,} bytes, opset {self.opset}, by {tools}",
            f"  inputs   {'; '.join(self.inputs)}",
            f"  outputs  {'; '.join(self.outputs)}",
        ]
        if self.checks:
            lines.append(f"  held against {self.framework}:")
        else:
            lines.append(f"  not held against {self.framework}: it was not asked for")
        lines += [f"    {check}" for check in self.checks]
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])
