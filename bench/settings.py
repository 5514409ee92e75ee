# SPDX-License-Identifier: Apache-2.0
"""Options shared by all benchmarks, and the frame in which one runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.results import Report, print_report

BENCH_FOLDER = Path(__file__).resolve().parent
BUILD_FOLDER = BENCH_FOLDER / "out"
MODEL_FOLDER = BENCH_FOLDER.parent / "tests" / "models"


@dataclass(frozen=True)
class Settings:
    """`threads` is the intra-op thread count given to every contestant alike."""

    quick: bool
    out: Path
    models: Path
    threads: int = 1

    def as_dict(self) -> dict[str, object]:
        return {"quick": self.quick, "threads": self.threads}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="fewer rounds: a look, not a result")
    parser.add_argument("--out", type=Path, default=BUILD_FOLDER, help="folder of the JSON results")
    parser.add_argument("--models", type=Path, default=MODEL_FOLDER, help="folder of test models")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads of everyone")


def from_arguments(arguments: argparse.Namespace) -> Settings:
    return Settings(arguments.quick, arguments.out, arguments.models, arguments.threads)


def progress(text: str) -> None:
    """A line on stderr; stdout carries the tables only."""
    print(text, file=sys.stderr, flush=True)


def main(run: Callable[[Settings], Report], title: str) -> None:
    """Parses the options, runs one benchmark, writes its JSON and prints its table."""
    parser = argparse.ArgumentParser(description=title)
    add_arguments(parser)
    settings = from_arguments(parser.parse_args())
    report = run(settings)
    path = report.write(settings.out)
    print_report(report)
    progress(f"{report.name}: wrote {path}")
