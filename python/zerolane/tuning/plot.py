"""The picture of a search: speed against accuracy, a point a setting."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zerolane._lazy import require
from zerolane.measure.plot import font, save_figure

if TYPE_CHECKING:
    from zerolane.tuning.result import TuneResult

# Okabe and Ito's colours, which people with any colour vision tell apart; the shape tells it too.
_LOOKS = {
    "original": ("#555555", "o"),
    "graph": ("#0072B2", "s"),
    "fp16": ("#E69F00", "^"),
    "bf16": ("#CC79A7", "v"),
    "int8": ("#009E73", "D"),
}


def plot(result: TuneResult, path: Path) -> None:
    """Write the picture; the file name's ending is the format."""
    figures = require("matplotlib.figure", "plot", "drawing a picture")
    figure = figures.Figure(figsize=(7.2, 4.6), facecolor="white")
    figure.text(0.05, 0.94, f"{result.source}: ways to run it", **font(14, "#1c2321", "bold"))
    told = f"{len(result.rows)} settings, goal {result.goal}; filled: no other beats it throughout"
    figure.text(0.05, 0.89, told, **font(9.5, "#6b7572"))
    ax = figure.add_axes((0.12, 0.13, 0.83, 0.7))
    for name, (colour, marker) in _LOOKS.items():
        rows = [row for row in result.rows if row.artefact == name]
        for filled in (False, True):
            shown = [row for row in rows if row.pareto is filled]
            ax.scatter(
                [row.speedup for row in shown],
                [row.accuracy for row in shown],
                s=46 if filled else 26,
                marker=marker,
                edgecolors=colour,
                facecolors=colour if filled else "none",
                label=name if filled or not any(row.pareto for row in rows) else None,
            )
    if result.ok:
        best = result.best
        ax.annotate(
            f"best: {best.setting}\n{best.speedup:.2f} x",
            (best.speedup, best.accuracy),
            textcoords="offset points",
            xytext=(-8, -30),
            ha="right",
            **font(9, "#1c2321"),
        )
    ax.axhline(result.floor, color="#c8553d", linewidth=1, linestyle="--")
    ax.set_xlim(left=0)
    ax.set_xlabel("speed, as many times the original's", **font(9.5, "#6b7572"))
    ax.set_ylabel(f"{result.metric}, share of the original's", **font(9.5, "#6b7572"))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    save_figure(figure, path)
