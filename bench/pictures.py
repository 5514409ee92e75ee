# SPDX-License-Identifier: Apache-2.0
"""The pictures of a report, drawn from the JSON of the benchmarks. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.results import format_number
from bench.stats import CURVE_PERCENTS

Result = dict[str, Any]

LABELS = {
    "c.loop": "C loop (floor)",
    "zerolane.bound": "zerolane b()",
    "zerolane.call": "zerolane s(x)",
    "zerolane.run": "zerolane s.run",
    "onnxruntime.iobinding": "onnxruntime iobinding",
    "onnxruntime.run": "onnxruntime run",
    "c": "C (floor)",
}
COLOURS = {
    "c.loop": "#8a8a8a",
    "c": "#8a8a8a",
    "zerolane.bound": "#0b6e4f",
    "zerolane.call": "#21a179",
    "zerolane.run": "#7fd1ae",
    "zerolane": "#0b6e4f",
    "zerolane.load": "#21a179",
    "zerolane first answer": "#7fd1ae",
    "onnxruntime.iobinding": "#e08e45",
    "onnxruntime.run": "#c44536",
    "onnxruntime": "#c44536",
    "onnxruntime first answer": "#e08e45",
    "bare": "#8a8a8a",
}
GOOD, BAD, INK, FAINT, AXIS = "#0b6e4f", "#c44536", "#222222", "#dddddd", "#999999"


def draw_all(results: list[Result]) -> dict[str, Figure]:
    """Figures by file stem; a picture whose benchmark is not among the results is left out."""
    mpl.rcParams |= {"font.size": 8.5, "axes.titlesize": 10, "figure.facecolor": "white"}
    by_name = {r["bench"]: r for r in results}
    figures = {"targets": targets(results)}
    if "call" in by_name:
        figures["call"] = calls(by_name["call"])
        figures["distributions"] = distributions(by_name["call"], by_name.get("gil"))
    if {"import", "load", "memory"} <= set(by_name):
        figures["costs"] = costs(by_name["import"], by_name["load"], by_name["memory"])
    return figures


def _figure(title: str, width: float, height: float, environment: Result) -> Figure:
    room = ConstrainedLayoutEngine(rect=(0, 0.2 / height, 1, 1 - 0.55 / height))
    figure = Figure(figsize=(width, height), layout=room)
    figure.text(0.008, 1 - 0.12 / height, title, fontsize=12, color=INK, va="top")
    e, packages = environment, environment["packages"]
    versions = ", ".join(f"{k} {packages[k] or '(absent)'}" for k in ("zerolane", "onnxruntime"))
    about = f"{e['cpu']}, {e['cores_usable']} cores, {e['python']}, {versions}, {e['date'][:10]}"
    figure.text(0.008, 0.05 / height, about, fontsize=7, color="#777777")
    return figure


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", color=INK, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(AXIS)
    axes.tick_params(color=AXIS, labelcolor=INK)


def _beside(axes: Axes, row: float, text: str, colour: str = INK) -> None:
    """A note to the right of the axes, at the height of a row."""
    axes.annotate(
        text, (1.02, row), xycoords=("axes fraction", "data"), va="center", color=colour, fontsize=8
    )


def _rows(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


def _subjects(result: Result) -> dict[str, list[Result]]:
    order = list(COLOURS)
    subjects: dict[str, list[Result]] = {}
    for s in result["series"]:
        subjects.setdefault(s["subject"], []).append(s)
    for series in subjects.values():
        series.sort(key=lambda s: order.index(s["contestant"]))
    return subjects


def calls(result: Result) -> Figure:
    """One panel a model: bar to the median, thin line to p99."""
    subjects = _subjects(result)
    columns = 3
    rows = -(-len(subjects) // columns)
    title = "One call: bar to the median, line to the 99th percentile (shorter is better)"
    figure = _figure(title, 14, 0.9 + 1.9 * rows, result["environment"])
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat[len(subjects) :]:
        axes.set_visible(False)
    for axes, (subject, series) in zip(grid.flat, subjects.items(), strict=False):
        unit, scale = ("ms", 1e6) if series[-1]["summary"]["median"] >= 1e6 else ("µs", 1e3)
        right = 1.9 * max(s["summary"]["median"] for s in series) / scale
        for i, s in enumerate(series):
            colour = COLOURS[s["contestant"]]
            median, p99 = s["summary"]["median"] / scale, s["summary"]["p99"] / scale
            axes.barh(i, median, height=0.66, color=colour, linewidth=0)
            axes.plot([median, min(p99, right)], [i, i], color=colour, linewidth=1.4)
            beyond = p99 > right
            axes.plot(min(p99, right), i, ">" if beyond else "|", color=colour, markersize=6)
            _beside(axes, i, f"{format_number(median)}  (p99 {format_number(p99)})")
        _rows(axes, [LABELS[s["contestant"]] for s in series])
        axes.set_xlim(0, right * 1.02)
        _style(axes, f"{subject}, {unit}")
    return figure


def distributions(call: Result, gil: Result | None) -> Figure:
    """The shape of the latencies of single calls, one ridge a contestant, logarithmic time."""
    wanted = ("one_operator", "policy", "digits_cnn")
    panels = [(k, v, 1e3) for k, v in _subjects(call).items() if k in wanted]
    if gil is not None:
        busy = _subjects(gil).get("other thread busy", [])
        panels.append(("policy at 1 kHz beside a busy Python thread", busy, 1.0))
    title = "Latency of single calls: share of calls over time, dot at the 99th percentile"
    figure = _figure(title, 14, 7.2, call["environment"])
    for axes, (subject, series, scale) in zip(
        figure.subplots(2, 2).flat, [p for p in panels if p[1]], strict=False
    ):
        for i, s in enumerate(series):
            curve = np.maximum(np.asarray(s["curve"]) / scale, 1e-3)
            colour = COLOURS[s["contestant"]]
            x, height = _density(curve)
            axes.fill_between(x, i + 0.4 - 0.85 * height, i + 0.4, color=colour, linewidth=0)
            axes.hlines(i + 0.4, curve[0], curve[-1], color=colour, linewidth=0.8)
            p50, p99 = np.interp((50, 99), CURVE_PERCENTS, curve)
            axes.plot(p99, i + 0.4, "o", color=colour, markersize=5, markeredgecolor="white")
            _beside(axes, i + 0.15, f"{format_number(p50)}  (p99 {format_number(p99)})")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda v, _: f"{v:,g}")
        axes.set_xlabel("µs")
        _rows(axes, [LABELS[s["contestant"]] for s in series])
        _style(axes, subject)
    return figure


def _density(curve: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[Any, Any]:
    """Outline of a distribution over log time from its quantiles, height 0 to 1."""
    percents = np.asarray(CURVE_PERCENTS)
    logs = np.log(curve)
    edges = np.linspace(logs[0] - 0.02, logs[percents <= 99][-1] + 0.02, 161)
    share = np.diff(np.interp(edges, logs, percents, left=0, right=100))
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    smooth = np.convolve(share, kernel / kernel.sum(), mode="same")
    return np.exp((edges[1:] + edges[:-1]) / 2), smooth / smooth.max()


def targets(results: list[Result]) -> Figure:
    """Every judged figure on one scale: how many times better than its target it is."""
    judged = [c for r in results for c in r["checks"] if c["reached"] is not None]
    reached = sum(bool(c["reached"]) for c in judged)
    title = f"Targets: {reached} of {len(judged)} reached. Right of the line is better than asked"
    environment = results[0]["environment"] if results else {"packages": {}}
    figure = _figure(title, 11, 1.4 + 0.27 * max(len(judged), 1), environment)
    axes = figure.subplots()
    for i, c in enumerate(judged):
        colour = GOOD if c["reached"] else BAD
        margin = float(np.clip(_margin(c), 0.1, 16))
        axes.barh(i, margin - 1, left=1, height=0.66, color=colour, linewidth=0)
        if c["spread"] and c["unit"] == "x":
            ends = [np.clip(_margin({**c, "value": v}), 0.1, 16) for v in c["spread"]]
            axes.plot(ends, [i, i], color=INK, linewidth=1)
        value = f"{format_number(c['value'])} {c['unit']}"
        _beside(axes, i, f"{value}   (wanted {c['compare']} {format_number(c['target'])})", colour)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set_xlim(0.25, 16)
    axes.set_xticks(ticks := (0.25, 0.5, 1, 2, 4, 8, 16), [f"{t:g}x" for t in ticks])
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_axisbelow(True)
    _rows(axes, [", ".join(t for t in (c["measure"], c["subject"]) if t) for c in judged])
    _style(axes, "")
    return figure


def _margin(check: Result) -> float:
    """How many times better than the target; with a zero on either side, off the scale."""
    value, target = check["value"], check["target"]
    better, worse = (target, value) if check["compare"] == "<=" else (value, target)
    if better <= 0 or worse <= 0:
        return 16.0 if check["reached"] else 0.1
    return float(better / worse)


def costs(imports: Result, load: Result, memory: Result) -> Figure:
    """Import, load and memory, a panel each."""
    figure = _figure("Import, load, memory over calls", 14, 4.6, imports["environment"])
    left, middle, right = figure.subplots(1, 3)
    bars = [c for c in imports["checks"] if c["measure"].endswith(": time")]
    memories = {c["measure"]: c for c in imports["checks"] if c["measure"].endswith(": memory")}
    for i, c in enumerate(bars):
        name = c["measure"].removesuffix(": time")
        left.barh(i, c["value"], height=0.66, color=COLOURS[name], linewidth=0)
        mib = memories[f"{name}: memory"]["value"]
        _beside(left, i, f"{format_number(c['value'])} ms, {format_number(mib)} MiB")
    _rows(left, [c["measure"].removesuffix(": time") for c in bars])
    _style(left, "fresh process, ms over bare Python")

    subjects = _subjects(load)
    for i, series in enumerate(subjects.values()):
        height = 0.8 / len(series)
        for k, s in enumerate(series):
            at = i - 0.4 + height * (k + 0.5)
            colour = COLOURS[s["contestant"]]
            label = LABELS.get(s["contestant"], s["contestant"]) if i == 0 else None
            middle.barh(
                at, s["summary"]["median"], height * 0.9, color=colour, linewidth=0, label=label
            )
    _rows(middle, list(subjects))
    middle.legend(frameon=False, loc="lower right")
    _style(middle, "load of a model, median ms")

    for s in memory["series"]:
        sizes = np.asarray(s["detail"]["rss_kib"]) / 1024
        thousands = np.linspace(0, memory["settings"]["calls"] / 1000, len(sizes))
        right.plot(thousands, sizes, linewidth=1.6, label=s["subject"])
    right.set_ylim(bottom=0)
    right.set_xlabel("thousand calls")
    right.legend(frameon=False, loc="lower right")
    _style(right, "resident memory, MiB")
    return figure
