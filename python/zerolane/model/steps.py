"""What was done to a model's file, as the file itself says: read without any library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KEY = "zerolane.steps"
"""Key in a model's metadata: a JSON list of the steps that made the file, the first step first."""


@dataclass(frozen=True, slots=True)
class Step:
    """One pass that wrote the file, or a file that this one was made from.

    step: its name ("fp16"). zerolane: the release that did it. tools: other packages that took
    part, with their releases. options: what was asked for, in JSON values. source: SHA-256 of the
    file it read, in hexadecimal. external: the same of that file's external data, by location.
    """

    step: str
    zerolane: str
    tools: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    external: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is empty is left out."""
        return {name: value for name, value in asdict(self).items() if value}

    def __str__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
        tools = ", ".join(f"{name} {version}" for name, version in self.tools.items())
        made = f"{self.step}({options}) by zerolane {self.zerolane}" + (f", {tools}" * bool(tools))
        return made + (f", from {self.source[:12]}" * bool(self.source))


def read_steps(metadata: Mapping[str, object]) -> tuple[Step, ...]:
    """The steps that a model's metadata tells of; none where the entry is damaged or not ours."""
    text = metadata.get(KEY)
    if not isinstance(text, str):
        return ()
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return ()
    if not isinstance(told, list):
        return ()
    return tuple(_step(row) for row in told if isinstance(row, dict))


def _step(row: dict[str, Any]) -> Step:
    def text(name: str) -> str:
        return str(row.get(name, ""))

    def mapping(name: str) -> dict[str, Any]:
        value = row.get(name)
        return value if isinstance(value, dict) else {}

    return Step(
        text("step"),
        text("zerolane"),
        mapping("tools"),
        mapping("options"),
        text("source"),
        mapping("external"),
    )
