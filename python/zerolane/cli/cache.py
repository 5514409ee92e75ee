"""`zerolane cache`: what is in the cache of built engines, whether it is whole, and less of it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.verb import FAILED, Verb, console, print_json

if TYPE_CHECKING:
    from zerolane.engine import Cache, Entry, Manifest

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_COLOURS = {"ok": "green", "differs": "yellow", "damaged": "bold red"}


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", value, re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{value!r} is no size, expected one like 500M or 20G")
    return int(float(match[1]) * _UNITS[match[2].upper()])


_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="The cache. Default: $ZEROLANE_CACHE, or zerolane in the user's cache folder.",
)


@click.group()
def cache() -> None:
    """Look at, check and clean up the cache of built engines."""


@cache.command(cls=Verb)
@_folder
def ls(folder: Path | None, as_json: bool) -> None:
    """List the engines: of what, how large, how old, how often used. The last used comes first."""
    engines = _open(folder)
    entries = engines.entries()
    if as_json:
        total = sum(entry.size for entry in entries)
        rows = [_as_dict(entry) for entry in entries]
        print_json({"folder": str(engines.folder), "bytes": total, "entries": rows})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("key", "model", "library", "precision", "profiles")
    for name in ("MiB", "build s", "built", "used", "hits"):
        table.add_column(name, justify="right")
    for entry in entries:
        m = entry.manifest
        seconds = None if m is None else m.build_seconds
        cells = [
            entry.key[:12],
            "?" if m is None else m.model,
            "damaged" if m is None else _libraries(m),
            "" if m is None else m.precision or "as typed",
            "" if m is None else str(len(m.profiles) or ""),
            f"{entry.size / 2**20:.1f}",
            "" if seconds is None else f"{seconds:.1f}",
            "" if m is None else _age(_built(m.created)),
            _age(entry.last_used),
            str(entry.hits),
        ]
        table.add_row(*map(Text, cells))
    out = console()
    if entries:
        out.print(table)
    total = sum(entry.size for entry in entries)
    engines_text = f"{len(entries)} engine{'' if len(entries) == 1 else 's'}"
    out.print(f"{engines_text}, {total / 2**20:.1f} MiB in {engines.folder}", markup=False)


@cache.command(cls=Verb)
@_folder
@click.option("--full", is_flag=True, help="Read every byte of the plans, as each load does.")
@click.pass_context
def verify(ctx: click.Context, folder: Path | None, full: bool, as_json: bool) -> None:
    """Say of each engine whether it is whole, and what a build here would do differently.

    Exit code 1 where one is damaged; one that differs is whole, and merely of no use to the
    libraries of this machine.
    """
    from zerolane.engine.environment import parts_here

    engines = _open(folder)
    verdicts = []
    start = time.perf_counter()
    for verdict in engines.verify(parts_here, full=full):
        now = time.perf_counter()
        verdicts.append((verdict, (now - start) * 1e3))
        start = now
    if as_json:
        rows = [
            _as_dict(verdict.entry)
            | {
                "status": verdict.status,
                "problem": verdict.problem,
                "milliseconds": ms,
                "differences": [
                    {"part": d.part, "stored": d.stored, "here": d.wanted}
                    for d in verdict.differences
                ],
            }
            for verdict, ms in verdicts
        ]
        print_json({"folder": str(engines.folder), "full": full, "entries": rows})
    else:
        from rich.table import Table
        from rich.text import Text

        table = Table("key", "model", "", "why", "ms")
        for verdict, ms in verdicts:
            m = verdict.entry.manifest
            table.add_row(
                Text(verdict.entry.key[:12]),
                Text("?" if m is None else m.model),
                Text(verdict.status, _COLOURS[verdict.status]),
                Text(verdict.problem or "; ".join(map(str, verdict.differences))),
                Text(f"{ms:.1f}"),
            )
        out = console()
        if verdicts:
            out.print(table)
        read = "every byte read" if full else "manifests read; --full reads the plans too"
        out.print(f"{len(verdicts)} checked in {engines.folder}; {read}", markup=False)
    if any(verdict.problem for verdict, _ in verdicts):
        ctx.exit(FAILED)


@cache.command(cls=Verb)
@_folder
@click.option(
    "--max-size",
    callback=_size,
    metavar="SIZE",
    help="Keep at most this much (500M, 20G), the last used first.",
)
@click.option("--max-age", type=click.FloatRange(0), metavar="DAYS", help="Not used for longer.")
def gc(folder: Path | None, max_size: int | None, max_age: float | None, as_json: bool) -> None:
    """Remove damaged engines, leftovers of killed processes, and what the limits leave no room for.

    Engines in use go on working.
    """
    engines = _open(folder)
    done = engines.gc(max_size, max_age_days=max_age)
    if as_json:
        print_json(
            {
                "folder": str(engines.folder),
                "removed": [_as_dict(entry) for entry in done.entries],
                "leftovers": [str(path) for path in done.leftovers],
                "freed_bytes": done.freed,
                "kept_bytes": done.kept,
            }
        )
        return
    out = console()
    for entry in done.entries:
        name = "?" if entry.manifest is None else entry.manifest.model
        out.print(f"removed {entry.key[:12]} {name}, {entry.size / 2**20:.1f} MiB", markup=False)
    out.print(
        f"{len(done.entries)} engines and {len(done.leftovers)} leftovers removed, "
        f"{done.freed / 2**20:.1f} MiB freed, {done.kept / 2**20:.1f} MiB kept in {engines.folder}",
        markup=False,
    )


def _open(folder: Path | None) -> Cache:
    from zerolane.engine import Cache

    return Cache(folder)


def _as_dict(entry: Entry) -> dict[str, Any]:
    return {
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.size,
        "last_used": entry.last_used,
        "hits": entry.hits,
        "problem": entry.problem,
        "manifest": None if entry.manifest is None else entry.manifest.as_dict(),
    }


def _libraries(manifest: Manifest) -> str:
    ops = (f"+ {use.name} {use.version}" for use in manifest.op_libraries)
    return "\n".join((f"{manifest.backend} {manifest.library_version}", *ops))


def _built(created: str) -> float:
    from datetime import datetime

    try:
        return datetime.fromisoformat(created).timestamp()
    except ValueError:
        return time.time()


def _age(when: float) -> str:
    seconds = max(0.0, time.time() - when)
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
