"""`zerolane doctor`."""

from __future__ import annotations

import click

from zerolane.cli.verb import ENVIRONMENT, Verb, console, print_json

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command(cls=Verb)
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> None:
    """Say what is on this machine, what is missing, and what to do. Exit code 3 if not ok."""
    from rich.table import Table
    from rich.text import Text

    from zerolane.runtimes.doctor import doctor as look

    report = look()
    if as_json:
        print_json(report.as_dict())
    else:
        out = console()
        table = Table(box=None, show_header=False, pad_edge=False)
        for subject, text in report.rows():
            table.add_row(Text(subject, "bold"), Text(text))
        out.print(table)
        for finding in report.findings:
            head = Text(f"{finding.level}: ", f"bold {_COLOURS[finding.level]}")
            out.print(head + Text(f"{finding.what}\n  {finding.do}"))
        if report.ok:
            out.print(Text("ok: models can be run here", "bold green"))
        else:
            out.print(Text("not ok: no model can be run here", "bold red"))
    if not report.ok:
        ctx.exit(ENVIRONMENT)
