"""What all verbs share: --json, --debug, errors, exit codes, progress."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from zerolane.errors import (
    DeviceError,
    Error,
    InvalidArgument,
    NotFound,
    OutOfMemory,
    Unavailable,
)

if TYPE_CHECKING:
    from rich.console import Console

FAILED, USAGE, ENVIRONMENT = 1, 2, 3
TRACE = "zerolane.trace"  # of a context: where to write a trace of the verb to
OPS = "zerolane.ops"  # of a context: libraries of ops that the verb needs


class Verb(click.Command):
    """A command with --json (passed on as `as_json`) and --debug, and zerolane's exit codes."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params += [
            click.Option(
                ["--json", "as_json"],
                is_flag=True,
                help="Print JSON on stdout and nothing else there.",
            ),
            click.Option(
                ["--debug"],
                is_flag=True,
                expose_value=False,
                callback=lambda ctx, _, value: ctx.meta.update(debug=value),
                help="Show the traceback of an error.",
            ),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        try:
            _load_ops(ctx.meta.get(OPS, ()))
            with _trace(ctx.meta.get(TRACE)):
                return super().invoke(ctx)
        except Error as error:
            if ctx.meta["debug"]:
                raise
            click.echo(f"error [{error.code}]: {error}", err=True)
            if ctx.params["as_json"]:
                print_error(error.code, error.subject, str(error))
            ctx.exit(exit_code(error))


def _load_ops(paths: Sequence[str]) -> None:
    for path in paths:
        from zerolane.ops.library import load

        load(path)


@contextmanager
def _trace(path: str | None) -> Iterator[None]:
    if path is None:
        yield
        return
    from zerolane.measure.trace import trace

    with trace(path):
        yield
    click.echo(f"trace written to {path}; open it in ui.perfetto.dev", err=True)


def exit_code(error: Error) -> int:
    """The exit code for an error: 2 what the user typed, 3 the machine, 1 anything else."""
    if isinstance(error, NotFound):
        return ENVIRONMENT if ".so" in error.subject.rpartition("/")[2] else USAGE
    if isinstance(error, Unavailable | OutOfMemory | DeviceError):
        return ENVIRONMENT
    return USAGE if isinstance(error, InvalidArgument) else FAILED


def print_error(code: str, subject: str, message: str) -> None:
    """Print an error as the JSON that every verb prints for one."""
    print_json({"error": {"code": code, "subject": subject, "message": message}})


def print_json(value: Any) -> None:
    """Print strict JSON; NaN and infinities are strings, arrays are lists."""
    click.echo(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """The value in types that JSON has."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def console() -> Console:
    """Where tables go: stdout, wide enough not to cut them where it is no terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160, highlight=False)


@contextmanager
def progress() -> Iterator[Callable[[float, str], object] | bool]:
    """A value for `progress=`: a bar on stderr where that is a terminal, else False."""
    if not sys.stderr.isatty():
        yield False
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    err = Console(stderr=True)
    # Names of files are no markup, and of a line too long its text is cut, not its number.
    text = TextColumn("{task.description}", markup=False)
    columns = text, BarColumn(bar_width=20), TaskProgressColumn()
    room = max(err.width - 28, 10)
    # Refreshed by hand: the thread of rich that would do it takes the GIL while calls are timed.
    bar = Progress(*columns, console=err, transient=True, auto_refresh=False)
    with bar:
        task = bar.add_task("", total=1.0)

        def tell(done: float, doing: str) -> None:
            said = doing if len(doing) <= room else doing[: room - 1] + "…"
            bar.update(task, completed=done, description=said, refresh=True)

        yield tell
