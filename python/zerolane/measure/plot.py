"""Pictures of latency distributions: PNG by matplotlib, and for the terminal."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane._lazy import require
from zerolane.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from rich.text import Text

Samples = NDArray[np.float64]

_INK, _QUIET, _RULE = "#1c2321", "#6b7572", "#d9dedb"
_OURS = ("#0b6e4f", "#2fa37c", "#86cdb2")
_THEIRS = ("#c8553d", "#e29578")
# Names, so that every terminal shows them in its own palette.
_TERMINAL_OURS, _TERMINAL_THEIRS = ("green", "cyan", "blue"), ("red", "magenta")
_BINS = 110
_PANEL_WIDTH, _GUTTER, _ROW_HEIGHT = 5.5, 1.5, 0.86  # inches
_BLOCKS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Panel:
    """Distributions of comparable calls: microseconds of each call, by the caller's label.

    note: a line under the title: what is to be seen. each: what the microseconds are of.
    """

    title: str
    series: Mapping[str, Samples]
    note: str = ""
    each: str = "a call"


def plot_latency(
    panels: Sequence[Panel],
    path: str | os.PathLike[str],
    *,
    title: str,
    subtitle: str = "",
) -> None:
    """Write a picture with a panel beside the other; the file name's ending is the format (.png).

    Each panel has one linear axis from zero for all its series, with the median and the 99th
    percentile marked; what lies beyond the axis is said in words. Needs matplotlib.
    """
    figures = require("matplotlib.figure", "plot", "drawing a picture")
    rows = max(len(panel.series) for panel in panels)
    width, height = _PANEL_WIDTH * len(panels) + 0.2, 2.05 + _ROW_HEIGHT * rows
    figure = figures.Figure(figsize=(width, height), facecolor="white")
    figure.text(0.3 / width, 1 - 0.42 / height, title, **font(15, _INK, "bold"))
    figure.text(0.3 / width, 1 - 0.72 / height, subtitle, **font(9.5, _QUIET))
    for column, panel in enumerate(panels):
        left = 0.3 + _PANEL_WIDTH * column
        figure.text(left / width, 1 - 1.2 / height, panel.title, **font(11.5, _INK, "bold"))
        figure.text(left / width, 1 - 1.44 / height, panel.note, **font(10, _OURS[0], "bold"))
        box = (left + _GUTTER, 0.5, _PANEL_WIDTH - _GUTTER - 0.4, _ROW_HEIGHT * rows)
        sizes = (width, height, width, height)
        ax = figure.add_axes(tuple(b / s for b, s in zip(box, sizes, strict=True)))
        _draw(ax, panel, rows)
    save_figure(figure, Path(path))


def save_figure(figure: Any, target: Path) -> None:
    if not target.parent.is_dir():
        raise NotFound(
            f"drawing {target.name!r}: there is no folder {str(target.parent)!r}; make it first",
            str(target),
        )
    try:
        figure.savefig(target, dpi=160)
    except ValueError as error:
        raise InvalidArgument(
            f"drawing {target.name!r}: {error}; give a name that ends in .png", str(target)
        ) from error
    except OSError as error:
        raise InvalidArgument(
            f"drawing {target.name!r}: the file cannot be written at {str(target)!r} "
            f"({error.strerror or error}); choose another place",
            str(target),
        ) from error


def plot_load(
    curves: Sequence[Sequence[tuple[str, float, float, float]]],
    path: str | os.PathLike[str],
    *,
    title: str,
    subtitle: str = "",
) -> None:
    """Write a picture of latency against throughput, the axis of latency logarithmic.

    curves: each of points that belong together: label, answers a second, p50 and p99 in us.
    Needs matplotlib.
    """
    figures = require("matplotlib.figure", "plot", "drawing a picture")
    figure = figures.Figure(figsize=(7.2, 4.6), facecolor="white")
    figure.text(0.045, 0.94, title, **font(15, _INK, "bold"))
    figure.text(0.045, 0.89, subtitle, **font(9.5, _QUIET))
    ax = figure.add_axes((0.1, 0.13, 0.86, 0.7))
    points = [point for curve in curves for point in curve]
    for curve in curves:
        rates = [rate for _, rate, _, _ in curve]
        for name, colour, values in (
            ("p50", _OURS[0], [p50 / 1e3 for _, _, p50, _ in curve]),
            ("p99", _OURS[2], [p99 / 1e3 for _, _, _, p99 in curve]),
        ):
            ax.plot(rates, values, color=colour, marker="o", markersize=5, linewidth=1.6)
            where = {"xytext": (7, 4), "textcoords": "offset points"}
            ax.annotate(name, (rates[-1], values[-1]), **where, **font(10, colour, "bold"))
    for label, rate, p50, _ in points:
        ax.annotate(
            label,
            (rate, p50 / 1e3),
            (0, -14),
            textcoords="offset points",
            ha="center",
            **font(8, _QUIET),
        )
    ax.set_yscale("log")
    ax.set_ylim(0.6 * min(p50 for _, _, p50, _ in points) / 1e3, None)
    ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    ax.set_xlim(0, 1.12 * max(rate for _, rate, _, _ in points))
    ax.grid(axis="y", color=_RULE, linewidth=0.6)
    for side in ("right", "top"):
        ax.spines[side].set_visible(False)
    ax.tick_params(colors=_QUIET, labelsize=8.5)
    ax.set_xlabel("answers a second", **font(9, _QUIET))
    ax.set_ylabel("milliseconds", **font(9, _QUIET))
    save_figure(figure, Path(path))


def _draw(ax: Any, panel: Panel, rows: int) -> None:
    """One panel: a row for each series, its numbers in the gutter left of the axis."""
    limit = axis_limit(panel.series.values())
    edges = np.linspace(0, limit, _BINS + 1)
    colours = series_colours(panel.series)
    gutter = -limit * _GUTTER / (_PANEL_WIDTH - _GUTTER - 0.4)
    for row, (label, us) in enumerate(panel.series.items()):
        base, colour = rows - 1 - row, colours[label]
        p50, p99 = (float(p) for p in np.percentile(us, (50, 99)))
        ax.text(gutter, base + 0.58, label, **font(10, colour, "bold"))
        ax.text(gutter, base + 0.25, f"{time_text(p50)}", **font(15, _INK, "bold"))
        ax.text(gutter, base + 0.03, f"p99 {time_text(p99)}", **font(9, _QUIET))
        counts, _ = np.histogram(us, edges)
        tops = base + 0.6 * np.append(counts, counts[-1]) / max(1, counts.max())
        ax.fill_between(edges, base, tops, step="post", color=colour, linewidth=0)
        ax.plot([0, limit], [base, base], color=_RULE, linewidth=0.8, zorder=0)
        ax.plot([p50, p50], [base + 0.62, base + 0.69], color=_INK, linewidth=1.5)
        ax.text(p50, base + 0.7, "p50", ha="center", va="bottom", **font(8, _INK))
        if p99 <= 0.97 * limit:
            ax.plot([p99, p99], [base, base + 0.22], color=_INK, linewidth=1.1)
            ax.text(p99 + 0.008 * limit, base + 0.1, "p99", **font(8, _QUIET))
        else:
            ax.text(limit, base + 0.05, "p99 →", ha="right", va="bottom", **font(8, _QUIET))
    ax.set_xlim(0, limit)
    ax.set_ylim(-0.03, rows)
    ax.set_yticks([])
    for side in ("left", "right", "top"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(_RULE)
    ax.tick_params(axis="x", colors=_QUIET, labelsize=8.5, length=3)
    ax.set_xlabel(f"microseconds {panel.each}", labelpad=2, **font(8.5, _QUIET))


def font(size: float, colour: str, weight: str = "normal") -> dict[str, Any]:
    return {"fontsize": size, "color": colour, "fontweight": weight}


def axis_limit(series: Iterable[Samples]) -> float:
    """Where a linear axis from zero ends: at the last p99, but at twice the last median at most."""
    quantiles = [np.percentile(us, (50, 99)) for us in series]
    p50, p99 = (max(float(q[place]) for q in quantiles) for place in (0, 1))
    return min(2.0 * p50, max(1.35 * p50, 1.1 * p99))


def series_colours(
    labels: Sequence[str] | Mapping[str, Any],
    ours: Sequence[str] = _OURS,
    theirs: Sequence[str] = _THEIRS,
) -> dict[str, str]:
    """A colour by label: greens for zerolane, reds for others."""
    mine, others = itertools.cycle(ours), itertools.cycle(theirs)
    return {label: next(mine if label.startswith("zerolane") else others) for label in labels}


def time_text(us: float) -> str:
    """Microseconds in three digits: 1.21 µs, 28.7 µs, 4.1 ms."""
    number, unit = (us / 1000, "ms") if us >= 999.5 else (us, "µs")
    return f"{number:#.3g}".rstrip(".") + f" {unit}"


def terminal_histogram(
    series: Mapping[str, Samples], width: int = 64, height: int = 3, each: str = "a call"
) -> Text:
    """The distributions in block characters, one above the other on one linear axis from zero."""
    from rich.text import Text

    limit = axis_limit(series.values())
    colours = series_colours(series, _TERMINAL_OURS, _TERMINAL_THEIRS)
    text = Text(no_wrap=True)
    for label, us in series.items():
        p50, p99 = (float(p) for p in np.percentile(us, (50, 99)))
        text.append(f"{label:<18}", style=f"bold {colours[label]}")
        text.append(f" p50 {time_text(p50)}   p99 {time_text(p99)}\n")
        counts, _ = np.histogram(us, np.linspace(0, limit, width + 1))
        shares = counts / max(1, counts.max())
        eighths = np.ceil(np.where(shares < 0.005, 0, shares) * 8 * height).astype(int)
        for line in reversed(range(height)):
            cells = (_BLOCKS[int(np.clip(e - 8 * line, 0, 8))] for e in eighths)
            text.append("".join(cells).rstrip() + "\n", style=colours[label])
    marks = "".join(f"{limit * part / 4:<{width // 4}.3g}" for part in range(4))
    text.append("└" + ("─" * (width // 4 - 1) + "┴") * 4 + "\n", style="dim")
    text.append(f"{marks}{limit:.3g} µs {each}", style="dim")
    return text
