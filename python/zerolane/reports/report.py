"""`zl.report`: from results to one page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.measure.progress import Progress, reporter
from zerolane.measure.random_inputs import complete_inputs
from zerolane.model.inspect import inspect
from zerolane.model.load import load
from zerolane.optimize.samples import Samples, read_samples
from zerolane.reports.content import Bar, Bars, Figure, Report, Scatter, Table, size
from zerolane.reports.parts import KINDS, Part, Told, size_figure, tell
from zerolane.reports.speed import Speed, measure


def report(
    parts: Part | Sequence[Part],
    path: str | os.PathLike[str] | None = None,
    *,
    models: Mapping[str, str | os.PathLike[str]] | None = None,
    samples: Samples | None = None,
    seconds: float = 1.0,
    threads: int = 1,
    title: str | None = None,
    progress: Progress = True,
) -> Report:
    """Put results together on one page: a verdict, pictures, tables. Blocks.

    parts: what `zl.optimize`'s passes, `zl.compare` and `zl.tune` returned, one or several.
    path: the HTML file to write, whole or not at all; it holds all that it shows. None: none.
    models: files by label, the reference first. Their sizes, the steps that made them and their
        speed are added: measured in turn for about `seconds` each, with `threads` inside an
        operator, on `samples` (see `zerolane.optimize.samples`) or random inputs.
    title: above the verdict. None: what was done.

    What is returned prints as text, gives `as_dict()` for JSON, `html()`, and `save(path)`.
    Raises InvalidArgument, NotFound, and what loading a model raises.
    """
    given = list(parts) if isinstance(parts, Sequence) else [parts]
    wrong = [type(part).__name__ for part in given if not isinstance(part, KINDS)]
    if wrong or not given:
        found = f"one is a {wrong[0]}" if wrong else "there is none"
        raise InvalidArgument(
            f"making a report of {len(given)} parts: {found}, expected results of zl.optimize, "
            "zl.compare or zl.tune; give what these returned",
            "parts",
        )
    told = [tell(part) for part in given]
    files = {str(label): Path(os.fspath(file)) for label, file in (models or {}).items()}
    last = told[-1]
    charts: list[Bars | Scatter] = []
    tables: list[Table] = []
    notes: list[str] = []
    if files:
        speeds, failed = _speeds(files, samples, threads, seconds, progress)
        charts.append(_speed_chart(speeds, threads))
        labels = [*speeds]
        if len(labels) > 1 and labels[0] == next(iter(files)):
            last.speed = _speed_figure(speeds[labels[-1]])
        sizes = {label: _bytes(file) for label, file in files.items()}
        if len(sizes) > 1:
            last.bytes = last.bytes or size_figure(*(list(sizes.values())[i] for i in (0, -1)))
        tables.append(_file_table(files, sizes, speeds))
        tables += _steps(files)
        notes += [f"{label} is not timed: {why}" for label, why in failed.items()]
    for part in told:
        charts += part.charts
        tables += part.tables if len(told) == 1 else [_named(t, part) for t in part.tables]
        notes += part.notes
    figures = [f for f in (last.speed, last.bytes, last.accuracy) if f is not None]
    figures = [*figures, *last.others]
    made = Report(
        title or f"{told[0].source}: " + ", ".join(part.did for part in told),
        all(part.ok for part in told),
        _verdict(last, figures[:3]),
        tuple(figures[:6]),
        tuple(charts),
        tuple(tables),
        tuple(dict.fromkeys(filter(None, notes))),
    )
    if path is not None:
        made.save(path)
    return made


def _verdict(part: Told, figures: Sequence[Figure]) -> str:
    """One sentence with the three numbers that matter most."""
    if part.did == "compare":
        head = f"{part.subject} {'agrees with' if part.ok else 'DIFFERS from'} {part.source}"
    elif not part.ok:
        head = f"No setting of {part.source} keeps to the limits"
    else:
        head = f"{part.subject}, beside {part.source}"
    numbers = ", ".join(f.phrase for f in figures)
    return f"{head}: {numbers}." if numbers else f"{head}."


def _speeds(
    files: Mapping[str, Path],
    samples: Samples | None,
    threads: int,
    seconds: float,
    progress: Progress,
) -> tuple[dict[str, Speed], dict[str, str]]:
    first = load(next(iter(files.values())), threads=threads)
    rows: list[dict[str, Any]]
    if samples is None:
        rows = [complete_inputs(first, None)]
    else:
        found = read_samples(samples, first.inputs, first.optional_inputs)
        rows = [dict(found[i]) for i in range(min(4, len(found)))]
    return measure(files, rows, threads=threads, seconds=seconds, report=reporter(progress))


def _speed_figure(speed: Speed) -> Figure:
    low, high = speed.ratio_interval
    return Figure(
        f"{speed.ratio:.2f} x", "as fast", f"{low:.2f} to {high:.2f}; {speed.p50_ms:.3g} ms a call"
    )


def _speed_chart(speeds: Mapping[str, Speed], threads: int) -> Bars:
    bars = tuple(
        Bar(label, speed.p50_ms, speed.interval, reference=place == 0)
        for place, (label, speed) in enumerate(speeds.items())
    )
    note = (
        f"Median of a call on {threads} thread{'s' * (threads > 1)}, all measured in turn; the "
        "whisker holds the median of blocks with 95 % confidence. Shorter is faster."
    )
    return Bars("Time of a call", "ms", bars, note)


def _file_table(
    files: Mapping[str, Path], sizes: Mapping[str, int], speeds: Mapping[str, Speed]
) -> Table:
    rows = []
    for label, file in files.items():
        speed = speeds.get(label)
        timed = ("", "", "")
        if speed is not None:
            low, high = speed.ratio_interval
            timed = (
                f"{speed.p50_ms:.3f}",
                f"{speed.p99_ms:.3f}",
                f"{speed.ratio:.2f} x ({low:.2f} to {high:.2f})",
            )
        rows.append((label, file.name, size(sizes[label]), *timed))
    header = ("", "file", "size", "p50 ms", "p99 ms", "speed")
    return Table("Files", header, tuple(rows), (2, 3, 4, 5))


def _bytes(file: Path) -> int:
    found = inspect(file)
    return found.file_bytes + sum(part.size or 0 for part in found.external_files)


def _steps(files: Mapping[str, Path]) -> list[Table]:
    rows = [
        (
            label,
            step.step,
            ", ".join(f"{name}={value}" for name, value in step.options.items()),
            ", ".join([f"zerolane {step.zerolane}", *(f"{n} {v}" for n, v in step.tools.items())]),
            step.source[:12],
        )
        for label, file in files.items()
        for step in inspect(file).steps
    ]
    if not rows:
        return []
    header = ("file", "step", "options", "with", "from SHA-256")
    return [Table("What was done", header, tuple(rows))]


def _named(table: Table, part: Told) -> Table:
    title = f"{table.title} ({part.did})"
    return Table(title, table.header, table.rows, table.numeric, table.note)
