# SPDX-License-Identifier: Apache-2.0
"""Draws a folder of results: `python -m bench.report FOLDER` writes report.md and PNGs there.

targets.png has every target with the measured figure, call.png medians and p99, distributions.png
the shape of the latencies, costs.png import, load and memory. The tables go to stdout too.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.results import CHECK_HEADER, check_row, format_number
from bench.settings import BUILD_FOLDER

Result = dict[str, Any]

SERIES_HEADER = ("subject", "contestant", "median", "p5", "p95", "p99", "unit")
DPI = 130


def read(folder: Path) -> list[Result]:
    """Every result in the folder, in the order of their names."""
    found = [json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))]
    return [r for r in found if "schema" in r and "bench" in r]


def markdown(results: list[Result]) -> str:
    """All figures as Markdown tables, each benchmark below its environment."""
    parts = ["# Benchmark results\n"]
    for r in results:
        e = r["environment"]
        packages = ", ".join(f"{k} {v}" for k, v in e["packages"].items() if v)
        load = f"load {e['load_average'][0]:.1f} to {e['load_average_after'][0]:.1f}"
        about = f"{e['cpu']}, {e['cores_usable']} cores, Linux {e['kernel']}, {e['python']}"
        parts.append(f"## {r['bench']}: {r['title']}\n")
        parts.append(f"{about}, {packages}. {e['date']}, {load}. `{e['command']}`\n")
        if r["series"]:
            parts.append(_markdown_table(SERIES_HEADER, [_series_row(s) for s in r["series"]]))
        parts.append(_markdown_table(CHECK_HEADER, [check_row(c) for c in r["checks"]]))
    return "\n".join(parts)


def _series_row(series: Result) -> list[str]:
    numbers = [format_number(series["summary"].get(k)) for k in SERIES_HEADER[2:6]]
    return [series["subject"], series["contestant"], *numbers, series["unit"]]


def _markdown_table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def draw(folder: Path) -> None:
    """Writes report.md, and the pictures where matplotlib is installed; names them on stderr."""
    results = read(folder)
    if not results:
        raise SystemExit(
            f"drawing a report: {folder} holds no result, expected JSON of `python -m bench`; "
            "run that first or name another folder"
        )
    written = [folder / "report.md"]
    written[0].write_text(markdown(results))
    try:
        from PIL import Image  # matplotlib needs it too

        from bench import pictures
    except ModuleNotFoundError as missing:
        print(f"report: no pictures, {missing}; pip install matplotlib", file=sys.stderr)
    else:
        for name, figure in pictures.draw_all(results).items():
            written.append(folder / f"{name}.png")
            figure.savefig(written[-1], dpi=DPI)
            # Few colours, in a palette of them: a third of the size.
            with Image.open(written[-1]) as picture:
                picture.convert("RGB").quantize(64).save(written[-1], optimize=True)
    print("report: " + ", ".join(p.name for p in written) + f" in {folder}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=BUILD_FOLDER)
    folder = parser.parse_args().folder
    draw(folder)
    print((folder / "report.md").read_text())


if __name__ == "__main__":
    main()
