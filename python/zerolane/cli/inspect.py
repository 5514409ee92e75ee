"""`zerolane inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zerolane.cli.verb import Verb, console, print_json

if TYPE_CHECKING:
    from zerolane.model.inspect import ModelReport


@click.command(cls=Verb)
@click.argument("model")
@click.option("--backends/--no-backends", default=True, help="Ask each backend whether it loads.")
def inspect(model: str, backends: bool, as_json: bool) -> None:
    """Show what a model file holds: inputs, outputs, operators, parameters, what backends say."""
    from zerolane.model.inspect import inspect as read

    report = read(model, backends=backends)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)


def _show(report: ModelReport) -> None:
    from rich.table import Table
    from rich.text import Text

    from zerolane.model.inspect import macs_text, shape_text

    out = console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    opsets = ", ".join(f"{name} {version}" for name, version in report.opsets.items())
    known = "" if report.format == "engine" else "ONNX"
    for subject, text in (
        ("file", f"{report.path}, {report.file_bytes:,} bytes, {report.format} format"),
        ("opset", known and f"{opsets or 'unknown'}; IR {report.ir_version or 'unknown'}"),
        ("producer", report.producer),
        ("graph", " ".join(filter(None, (report.domain, report.graph_name)))),
        ("description", report.doc),
        ("metadata", "; ".join(f"{key}: {value}" for key, value in report.metadata.items())),
        ("functions", str(report.functions or "")),
    ):
        if text:
            facts.add_row(Text(subject, "bold"), Text(text))
    out.print(facts)

    values = Table("", "name", "type", "shape", title="inputs and outputs")
    values.title_justify = "left"
    for kind, specs in (
        ("input", report.inputs),
        ("optional input", report.optional_inputs),
        ("output", report.outputs),
    ):
        for spec in specs:
            values.add_row(*(Text(t) for t in (kind, spec.name, spec.type, shape_text(spec))))
    out.print(values)

    if report.macs:
        out.print(Text("multiply-adds  ", "bold") + Text(macs_text(report.macs)))
    for step in report.steps:
        out.print(Text("step  ", "bold") + Text(str(step)))
    if report.operators:
        names = (f"{count} x {name}" for name, count in report.operators.items())
        out.print(Text("operators  ", "bold") + Text(", ".join(names)))
    if report.parameters:
        table = Table("dtype", "tensors", "values", "bytes", title="parameters")
        table.title_justify = "left"
        for dtype, p in report.parameters.items():
            table.add_row(dtype, f"{p.tensors:,}", f"{p.count:,}", f"{p.bytes:,}")
        out.print(table)
    for file in report.external_files:
        state = f"{file.size:,} bytes" if file.size is not None else "MISSING"
        out.print(Text("external data  ", "bold") + Text(f"{file.location}: {state}"))
    for backend, says in report.backends.items():
        out.print(Text(f"{backend}  ", "bold") + Text(says))
