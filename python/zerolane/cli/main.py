"""The command itself: its verbs and its exit codes."""

from __future__ import annotations

import sys
from typing import Any

import click

from zerolane import __version__
from zerolane.cli.bench import bench
from zerolane.cli.build import build
from zerolane.cli.cache import cache
from zerolane.cli.compare import compare
from zerolane.cli.convert import convert
from zerolane.cli.demo import demo
from zerolane.cli.doctor import doctor
from zerolane.cli.inspect import inspect
from zerolane.cli.op import op
from zerolane.cli.optimize import optimize
from zerolane.cli.prune import prune
from zerolane.cli.quantize import quantize
from zerolane.cli.run import run
from zerolane.cli.tune import tune
from zerolane.cli.verb import print_error
from zerolane.errors import InvalidArgument

_EPILOG = """Exit codes: 0 ok, 1 a check or the work itself failed, 2 wrong usage (arguments, names,
shapes, no such file), 3 something is missing on this machine. Every verb takes --json."""


class _Verbs(click.Group):
    """The verbs; what click refuses is told as JSON too, where --json is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta["as_json"] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if ctx.meta["as_json"]:
                print_error(InvalidArgument.code, "", error.format_message())
            raise


@click.group(cls=_Verbs, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zerolane")
def cli() -> None:
    """Low-latency inference over ONNX Runtime and TensorRT: look, run, build, measure, compare."""


for verb in (
    doctor,
    inspect,
    run,
    bench,
    compare,
    build,
    cache,
    convert,
    optimize,
    quantize,
    prune,
    tune,
    op,
    demo,
):
    cli.add_command(verb)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode is no reason to fail
            stream.reconfigure(errors="replace")
    cli(prog_name="zerolane")
