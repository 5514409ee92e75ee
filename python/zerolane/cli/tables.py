"""Tables that more than one verb prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from zerolane.measure.bench import BenchResult
    from zerolane.measure.compare import CompareResult


def latency_table(results: Sequence[BenchResult]) -> Table:
    """A row for each result: percentiles in microseconds, and calls a second."""
    from rich.table import Table
    from rich.text import Text

    first = results[0]
    shapes = ", ".join(f"{name} {list(shape)}" for name, shape in first.shapes.items())
    threads = f"{first.threads} thread{'s' if first.threads > 1 else ''}"
    title = f"{first.model} ({shapes}), {threads}, {first.device}, {first.calls} calls"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("us a call")
    for name in ("p50", "p90", "p99", "p99.9", "max", "mean", "calls/s"):
        table.add_column(name, justify="right")
    for result in results:
        us = result.latency_us
        table.add_row(
            f"{result.label}, {result.version}",
            *(f"{v:.2f}" for v in (us.p50, us.p90, us.p99, us.p999, us.max, us.mean)),
            f"{result.throughput:,.0f}",
        )
    return table


def difference_table(result: CompareResult) -> Table:
    """A row for each output of a comparison."""
    from rich.table import Table
    from rich.text import Text

    from zerolane.measure.difference import number_text

    table = Table("", "output", "dtype", "shape", "max abs", "max rel", "out of tolerance", "worst")
    for row in result.outputs:
        mark = Text("ok", "green") if row.ok else Text("FAIL", "bold red")
        shape = next((list(s) for s in row.shape if s is not None), "")
        cells = [row.name, row.dtype[0] or row.dtype[1] or "", str(shape)]
        if row.elements or not row.note:
            cells += [number_text(row.max_abs), number_text(row.max_rel)]
            cells.append(f"{row.mismatches} of {row.elements}")
        else:
            cells += ["", "", ""]
        worst = row.note
        if row.worst is not None:
            at = f"{list(row.worst.index)}: {row.worst.a!r} and {row.worst.b!r}"
            worst = f"{worst}; {at}" if worst else at
        table.add_row(mark, *(Text(cell) for cell in (*cells, worst)))
    return table
