# SPDX-License-Identifier: Apache-2.0
"""What a benchmark hands back, its JSON form and its plain table."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench import environment
from bench.stats import Ratio

SCHEMA = 1


@dataclass(frozen=True)
class Check:
    """One measured figure, with the target where there is one.

    `spread` is the interquartile range of the figure. `compare` is "<=" or ">=". `reached` is None
    where there is no target or the figure could not be taken; `note` then says why.
    """

    measure: str
    subject: str
    value: float | None
    unit: str
    spread: tuple[float, float] | None = None
    target: float | None = None
    compare: str = "<="
    note: str = ""

    @property
    def reached(self) -> bool | None:
        if self.value is None or self.target is None:
            return None
        return self.value <= self.target if self.compare == "<=" else self.value >= self.target

    def as_dict(self) -> dict[str, object]:
        return {**asdict(self), "reached": self.reached}


@dataclass(frozen=True)
class Series:
    """The distribution of one contestant on one subject: what report.py draws."""

    subject: str
    contestant: str
    unit: str
    summary: dict[str, float]
    curve: list[float] = field(default_factory=list)
    detail: dict[str, object] = field(default_factory=dict)


@dataclass
class Report:
    """All figures of one benchmark."""

    name: str
    title: str
    settings: dict[str, object]
    checks: list[Check] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    started: dict[str, object] = field(default_factory=environment.describe)

    def write(self, folder: Path) -> Path:
        """Writes FOLDER/NAME.json whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.name}.json"
        body = {
            "schema": SCHEMA,
            "bench": self.name,
            "title": self.title,
            "environment": {**self.started, "load_average_after": list(os.getloadavg())},
            "settings": self.settings,
            "checks": [c.as_dict() for c in self.checks],
            "series": [asdict(s) for s in self.series],
        }
        partial = path.with_suffix(".json.partial")
        partial.write_text(json.dumps(body, indent=1) + "\n")
        partial.replace(path)
        return path


def ratio_check(
    measure: str, subject: str, ratio: Ratio, target: float | None, compare: str, note: str = ""
) -> Check:
    """A Check over a paired ratio: its median, with the interquartile range as spread."""
    return Check(measure, subject, ratio.median, "x", (ratio.p25, ratio.p75), target, compare, note)


def format_number(value: float | None) -> str:
    if value is None:
        return "-"
    if value == int(value):
        return f"{int(value):,}"
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    return f"{value:,.{digits}f}"


def check_row(check: Check | dict[str, object]) -> list[str]:
    """measure, subject, value, spread, target, verdict: one line of the table of figures."""
    c = check.as_dict() if isinstance(check, Check) else check
    unit, value, target, spread = c["unit"], c["value"], c["target"], c["spread"]
    verdict = {True: "yes", False: "NO", None: ""}[c["reached"]]  # type: ignore[index]
    return [
        str(c["measure"]),
        str(c["subject"]),
        "-" if value is None else f"{format_number(value)} {unit}",  # type: ignore[arg-type]
        "" if spread is None else " .. ".join(format_number(v) for v in spread),  # type: ignore[attr-defined]
        "" if target is None else f"{c['compare']} {format_number(target)}",  # type: ignore[arg-type]
        " ".join(w for w in (verdict, f"({c['note']})" if c["note"] else "") if w),
    ]


CHECK_HEADER = ("measure", "subject", "value", "middle half", "target", "reached")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Plain aligned columns."""
    lines = [list(header), *([str(c) for c in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines]
    text.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(line.rstrip() for line in text)


def print_report(report: Report) -> None:
    """The figures and distributions on stdout."""
    print(f"\n{report.name}: {report.title}")
    if report.series:
        header = ("subject", "contestant", "median", "p25", "p75", "p99", "unit")
        keys = ("median", "p25", "p75", "p99")
        rows = [
            (s.subject, s.contestant, *(format_number(s.summary.get(k)) for k in keys), s.unit)
            for s in report.series
        ]
        print("\n" + table(header, rows))
    print("\n" + table(CHECK_HEADER, [check_row(c) for c in report.checks]))
