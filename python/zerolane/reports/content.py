"""What a report says, apart from how it looks: the terminal, JSON and HTML are made from this."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zerolane.engine.atomic import write_atomic
from zerolane.errors import InvalidArgument, NotFound

_MOST_ROWS = 12  # of a table on a terminal


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the verdict: "2.9 x", "as fast"; detail: its interval, or what it is of."""

    value: str
    what: str
    detail: str = ""
    what_first: bool = False  # in a sentence

    @property
    def phrase(self) -> str:
        return f"{self.what} {self.value}" if self.what_first else f"{self.value} {self.what}"


@dataclass(frozen=True, slots=True)
class Bar:
    """value, with the interval that it lies in; the same unit for all bars of a chart."""

    label: str
    value: float
    interval: tuple[float, float] | None = None
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars from zero."""

    title: str
    unit: str
    bars: tuple[Bar, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a scatter; kind decides its colour and shape."""

    x: float
    y: float
    label: str
    kind: str
    front: bool = False
    best: bool = False


@dataclass(frozen=True, slots=True)
class Scatter:
    """Points; x from zero. line: a limit of y."""

    title: str
    x: str
    y: str
    points: tuple[Point, ...]
    line: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts. numeric: the columns that hold numbers."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """A verdict of one sentence, its numbers, pictures, tables. ok: whether all checks passed."""

    title: str
    ok: bool
    verdict: str
    figures: tuple[Figure, ...]
    charts: tuple[Bars | Scatter, ...]
    tables: tuple[Table, ...]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def html(self) -> str:
        """One page that needs nothing else: no script, no font, no network."""
        from zerolane.reports.page import page

        return page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, whole or not at all. Raises NotFound, InvalidArgument."""
        target = Path(os.fspath(path))
        if not target.parent.is_dir():
            raise NotFound(
                f"writing the report {target.name!r}: there is no folder {str(target.parent)!r} "
                f"(in {os.getcwd()!r}); make it first",
                str(target),
            )
        try:
            write_atomic(target, [self.html().encode("utf-8", "backslashreplace")])
        except OSError as error:
            raise InvalidArgument(
                f"writing the report {str(target)!r}: {error.strerror or error}, expected a file "
                "that can be written; choose another place",
                str(target),
            ) from error

    def __str__(self) -> str:
        lines = [self.verdict]
        for chart in self.charts:
            lines += ["", chart.title, *_chart(chart)]
        for table in self.tables:
            lines += ["", table.title, *_aligned(table)]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _chart(chart: Bars | Scatter) -> list[str]:
    if isinstance(chart, Scatter):  # its table says the same, better
        best = [p for p in chart.points if p.best]
        return [f"  {len(chart.points)} points" + "".join(f"; best: {p.label}" for p in best)]
    most = max((b.value for b in chart.bars if math.isfinite(b.value)), default=0.0) or 1.0
    width = max((len(bar.label) for bar in chart.bars), default=0)
    lines = []
    for bar in chart.bars:
        between = "" if bar.interval is None else f" ({number(bar.interval[0])} to "
        between += "" if bar.interval is None else f"{number(bar.interval[1])})"
        drawn = "█" * max(1, round(30 * min(bar.value / most, 1.0)))
        lines.append(f"  {bar.label:<{width}}  {drawn} {number(bar.value)} {chart.unit}{between}")
    return lines


def _aligned(table: Table) -> list[str]:
    cells: Sequence[Sequence[str]] = [table.header, *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.header))]
    lines = []
    shown = [*cells[: _MOST_ROWS + 1]]
    for row in shown:
        parts = [
            cell.rjust(width) if place in table.numeric else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  " + "  ".join(parts).rstrip())
    if len(cells) > len(shown):
        lines.append(f"  and {len(cells) - len(shown)} more")
    return lines


def number(value: float) -> str:
    """Three digits that count, no exponent where none is needed."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def size(count: int) -> str:
    """Bytes in a unit that leaves few digits."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} bytes"
