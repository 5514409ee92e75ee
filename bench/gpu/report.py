# SPDX-License-Identifier: Apache-2.0
"""Tables and pictures of the GPU benchmarks: `python -m bench.gpu.report FOLDER`.

Writes gpu_report.md and, where matplotlib is installed, gpu_calls.png, gpu_graph.png,
gpu_lanes.png and gpu_overlap.png there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from bench.report import markdown, read
from bench.results import format_number

Result = dict[str, Any]
DPI = 130
COLOURS = {"zerolane": "#0b6e4f", "onnxruntime": "#c44536", "vendor": "#6c6cb5"}
OTHER, FLOOR, TORCH = "#8a8a8a", "#8a8a8a", "#e08e45"


def gpu_results(folder: Path) -> list[Result]:
    return [r for r in read(folder) if r["bench"].startswith("gpu_")]


def text(results: list[Result], folder: Path) -> str:
    """The machine, the tests' counts, then every figure."""
    gpu = results[0]["environment"].get("gpu", {}) if results else {}
    lines = ["# GPU results", ""]
    if gpu.get("stand_in"):
        lines += ["**A dry run on stand-ins: no GPU took part, and no figure means anything.**", ""]
    facts = {k: v for k, v in gpu.items() if v and k not in ("packages", "stand_in")}
    lines += ["; ".join(f"{k.replace('_', ' ')}: {v}" for k, v in facts.items()), ""]
    packages = {k: v for k, v in (gpu.get("packages") or {}).items() if v}
    lines += [", ".join(f"{k} {v}" for k, v in packages.items()), ""]
    for name in ("gpu_tests", "gpu_contract"):
        path = folder / f"{name}.json"
        if path.exists():
            counts = json.loads(path.read_text())["counts"]
            lines += [f"{name}: " + ", ".join(f"{n} {what}" for what, n in counts.items()), ""]
    body = markdown(results).partition("\n")[2]
    return "\n".join(lines) + body


def colour(contestant: str) -> str:
    if contestant.startswith("c."):
        return FLOOR
    if contestant.startswith("torch"):
        return TORCH
    return next((c for k, c in COLOURS.items() if contestant.startswith(k)), OTHER)


def about(result: Result) -> str:
    environment = result["environment"]
    gpu = environment.get("gpu", {})
    if gpu.get("stand_in"):
        return "STAND-IN, NO GPU: these figures mean nothing"
    name, driver = gpu.get("name") or "unknown GPU", gpu.get("driver") or "unknown"
    return f"{name}, driver {driver}, {environment['cpu']}, {environment['date'][:10]}"


def draw(results: list[Result]) -> dict[str, Any]:
    """Figures by file stem, for the benchmarks that are there."""
    import matplotlib as mpl

    mpl.rcParams |= {"font.size": 8.5, "axes.titlesize": 10, "figure.facecolor": "white"}
    by_name = {r["bench"]: r for r in results if r["series"]}
    figures = {}
    if "gpu_call" in by_name:
        figures["gpu_calls"] = calls(by_name["gpu_call"])
    if "gpu_graph" in by_name:
        figures["gpu_graph"] = calls(by_name["gpu_graph"])
    if "gpu_lanes" in by_name:
        figures["gpu_lanes"] = lanes(by_name["gpu_lanes"])
    if "gpu_overlap" in by_name:
        figures["gpu_overlap"] = calls(by_name["gpu_overlap"])
    return figures


def _subjects(result: Result) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for s in result["series"]:
        found.setdefault(s["subject"], []).append(s)
    return found


def _figure(result: Result, width: float, height: float) -> Any:
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    room = ConstrainedLayoutEngine(rect=(0, 0.25 / height, 1, 1 - 0.6 / height))
    figure = Figure(figsize=(width, height), layout=room)
    figure.text(0.008, 1 - 0.12 / height, result["title"], fontsize=12, va="top")
    figure.text(0.008, 0.06 / height, about(result), fontsize=7, color="#777777")
    return figure


def calls(result: Result) -> Any:
    """A panel a subject: bar to the median, thin line to p99, in microseconds."""
    subjects = _subjects(result)
    columns = min(2, len(subjects))
    rows = -(-len(subjects) // columns)
    tallest = max(len(series) for series in subjects.values())
    figure = _figure(result, 14, 1.0 + rows * (0.6 + 0.2 * tallest))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in list(grid.flat)[len(subjects) :]:
        axes.set_visible(False)
    for axes, (subject, series) in zip(grid.flat, subjects.items(), strict=False):
        ordered = sorted(series, key=lambda s: s["summary"]["median"])
        right = 1.7 * max(s["summary"]["median"] for s in ordered)
        for i, s in enumerate(ordered):
            median, p99 = s["summary"]["median"], s["summary"]["p99"]
            tone = colour(s["contestant"])
            axes.barh(i, median, height=0.7, color=tone, linewidth=0)
            axes.plot([median, min(p99, right)], [i, i], color=tone, linewidth=1.3)
            note = f"{format_number(median)}  (p99 {format_number(p99)})"
            place = ("axes fraction", "data")
            axes.annotate(note, (1.01, i), xycoords=place, va="center", fontsize=8)
        axes.set_yticks(range(len(ordered)), [s["contestant"] for s in ordered])
        axes.set_ylim(len(ordered) - 0.4, -0.6)
        axes.set_xlim(0, right * 1.02)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{subject}, µs", loc="left", fontweight="bold")
    return figure


def lanes(result: Result) -> Any:
    """Calls a second over the number of lanes, a panel a model."""
    models: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for s in result["series"]:
        model = s["subject"].rpartition(",")[0]
        point = (s["detail"]["lanes"], s["summary"]["median"])
        models.setdefault(model, {}).setdefault(s["contestant"], []).append(point)
    figure = _figure(result, 14, 4.6)
    panels = figure.subplots(1, len(models), squeeze=False).flat
    for axes, (model, contestants) in zip(panels, models.items(), strict=True):
        for contestant, points in contestants.items():
            counts, rates = zip(*sorted(points), strict=True)
            dashed = "--" if "(trt)" in contestant else "-"
            tone = colour(contestant)
            axes.plot(counts, rates, dashed, marker="o", color=tone, label=contestant)
        axes.set_ylim(bottom=0)
        axes.set_xticks(sorted({c for points in contestants.values() for c, _ in points}))
        axes.set_xlabel("lanes")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(f"{model}, calls/s", loc="left", fontweight="bold")
        axes.legend(frameon=False, fontsize=7)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu.report", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    results = gpu_results(folder)
    if not results:
        raise SystemExit(
            f"drawing a report: {folder} holds no GPU result, expected gpu_*.json; run "
            "bench/gpu/run.sh --only bench first"
        )
    (folder / "gpu_report.md").write_text(text(results, folder))
    written = ["gpu_report.md"]
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as missing:
        print(f"report: no pictures, {missing}", file=sys.stderr)
    else:
        for name, figure in draw(results).items():
            figure.savefig(folder / f"{name}.png", dpi=DPI)
            written.append(f"{name}.png")
    print("report: " + ", ".join(written), file=sys.stderr)


if __name__ == "__main__":
    main()
