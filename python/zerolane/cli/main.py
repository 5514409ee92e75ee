"""The command itself: its verbs and its exit codes."""

from __future__ import annotations

import sys

import click

from zerolane import __version__
from zerolane.cli.bench import bench
from zerolane.cli.build import build
from zerolane.cli.cache import cache
from zerolane.cli.compare import compare
from zerolane.cli.demo import demo
from zerolane.cli.doctor import doctor
from zerolane.cli.inspect import inspect
from zerolane.cli.optimize import optimize
from zerolane.cli.run import run

_EPILOG = """Exit codes: 0 ok, 1 a check or the work itself failed, 2 wrong usage (arguments, names,
shapes, no such file), 3 something is missing on this machine. Every verb takes --json."""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="zerolane")
def cli() -> None:
    """Low-latency inference over ONNX Runtime: look, run, measure and compare."""


for verb in (doctor, inspect, run, bench, compare, build, cache, optimize, demo):
    cli.add_command(verb)


def main() -> None:
    """Entry point of the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a terminal without Unicode is no reason to fail
            stream.reconfigure(errors="replace")
    cli(prog_name="zerolane")
