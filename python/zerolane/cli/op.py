"""`zerolane op`: new, list, show, test."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from zerolane.cli.verb import FAILED, Verb, console, print_json, progress

if TYPE_CHECKING:
    from zerolane.ops.testing import Report

_SHOWN = 20  # problems; more of them are too much to read


@click.group()
def op() -> None:
    """Write, look at and test ops: your own, installed ones and zerolane's."""


@op.command(cls=Verb)
@click.argument("package")
@click.option("--domain", help="Of the op in models. Default: PACKAGE without _ops.")
@click.option("--op", "name", default="ScaledGelu", show_default=True, help="The op's name.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make the package's folder there. Default: here.",
)
def new(package: str, domain: str | None, name: str, folder: Path | None, as_json: bool) -> None:
    """Write a package that defines one op and can be installed by pip. Overwrites nothing."""
    from zerolane.ops import project

    root = project.new(package, domain=domain, op=name, folder=folder)
    if as_json:
        written = sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file())
        print_json({"package": package, "folder": str(root), "files": written})
        return
    console().print(
        f"wrote {root}. Next:\n"
        f"  pip install scikit-build-core nanobind cmake ninja\n"
        f"  pip install --no-build-isolation '{root.absolute()}[test]'\n"
        f"  zerolane op test {package}",
        markup=False,
        soft_wrap=True,
    )


@op.command("list", cls=Verb)
def list_ops(as_json: bool) -> None:
    """List the ops that are built in or installed."""
    from rich.table import Table
    from rich.text import Text

    from zerolane.ops import library
    from zerolane.ops.op import definition, names

    found = [definition(name) for name in names()]
    broken = library.broken()
    if as_json:
        rows = [
            {"name": d.name, "version": d.version, "cpu": d.cpu, "cuda": d.cuda, "doc": d.doc}
            | {"library": d.library}
            for d in found
        ]
        print_json({"ops": rows, "broken": broken})
        return
    table = Table("op", "version", "runs on", "", "library")
    for d in found:
        runs_on = " ".join(word for word, has in (("CPU", d.cpu), ("CUDA", d.cuda)) if has)
        cells = d.name, str(d.version), runs_on, d.doc.split("\n")[0], Path(d.library).name
        table.add_row(*map(Text, cells))
    console().print(table)
    for who, why in broken.items():
        click.echo(f"entry point {who} failed: {why}", err=True)


@op.command(cls=Verb)
@click.argument("name")
def show(name: str, as_json: bool) -> None:
    """Show what an op takes, gives and can be told. NAME: domain::Op, or Op if that is enough."""
    from dataclasses import asdict

    from zerolane.ops.op import definition

    found = definition(name)
    if as_json:
        print_json(asdict(found))
        return
    bodies = " and ".join(word for word, has in (("CPU", found.cpu), ("CUDA", found.cuda)) if has)
    out = console()
    out.print(str(found), markup=False, soft_wrap=True)
    out.print(f"  bodies: {bodies}", markup=False)
    out.print(f"  library: {found.library or 'this process'}", markup=False, soft_wrap=True)


@op.command(cls=Verb)
@click.argument("target", required=False)
@click.pass_context
def test(ctx: click.Context, target: str | None, as_json: bool) -> None:
    """Test ops in every way they can run. TARGET: an installed package, a library's path, an op.

    Without it: all that are known. Exit code 1 where a check fails.
    """
    from zerolane.ops import testing

    with progress() as tell:
        report = testing.run(testing.cases(target), tell if callable(tell) else None)
    if as_json:
        print_json(report.as_dict())
    else:
        _show(report)
    if not report.ok:
        ctx.exit(FAILED)


def _show(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from zerolane.ops.testing import CHECKS

    table = Table("op", *CHECKS)
    for name, row in report.counts().items():
        cells = [Text(name)]
        for check in CHECKS:
            failed, passed = row[check]["failed"], row[check]["ok"]
            if failed:
                cells.append(Text(f"{failed} of {failed + passed} FAILED", "bold red"))
            else:
                cells.append(Text(f"{passed} ok", "green") if passed else Text("skipped"))
        table.add_row(*cells)
    out = console()
    out.print(table)
    told = Counter((failure.case.op, failure.check, failure.text) for failure in report.failures)
    first = {(f.case.op, f.check, f.text): f.case for f in reversed(report.failures)}
    for key, count in list(told.items())[:_SHOWN]:
        more = f" and {count - 1} more" if count > 1 else ""
        text = f"FAILED {first[key]}{more}\n  {key[1]}: {key[2]}"
        out.print(text, markup=False, soft_wrap=True)
    if len(told) > _SHOWN:
        out.print(f"and {len(told) - _SHOWN} other problems; --json lists all", markup=False)
    for reason, (checks, ops, count) in report.skips().items():
        whose = ops[0] if len(ops) == 1 else f"{len(ops)} ops"
        text = f"skipped {', '.join(checks)} in {count} cases of {whose}: {reason}"
        out.print(text, markup=False, soft_wrap=True)
