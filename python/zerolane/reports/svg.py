"""Small charts as inline SVG, coloured by the page's own variables so that dark mode holds.

matplotlib's SVG was tried: 30 to 100 kB a picture, with colours fixed in the file.
"""

from __future__ import annotations

import math
from html import escape

from zerolane.reports.content import Bars, Point, Scatter, number

# By order of appearance; the colours are variables of the page, the shapes tell kinds apart too.
_KINDS = ("original", "graph", "fp16", "bf16", "int8")
_ROW, _LABEL, _WIDTH = 44, 20, 640


def bars(chart: Bars) -> str:
    """A bar under each label, its value behind it, and its interval as a whisker."""
    # Of the bars, not of the whiskers: one wide interval would make all bars short.
    most = 1.25 * max((b.value for b in chart.bars if math.isfinite(b.value)), default=0.0) or 1.0
    room = _WIDTH - 150
    rows = []
    for place, bar in enumerate(chart.bars):
        top = place * _ROW
        long = room * (bar.value / most if math.isfinite(bar.value) else 1.0)
        look = "ref" if bar.reference else "own"
        rows.append(
            f'<text x="0" y="{top + 14}" class="label">{escape(bar.label)}</text>'
            f'<rect x="0" y="{top + _LABEL}" width="{long:.1f}" height="16" rx="2" class="{look}"/>'
        )
        end = long
        if bar.interval is not None:
            low, high = (room * min(v / most, 1.0) for v in bar.interval)
            middle = top + _LABEL + 8
            rows.append(
                f'<path d="M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} '
                f'{middle - 4}v8" class="whisker"/>'
            )
            end = max(long, high)
        rows.append(
            f'<text x="{end + 8:.1f}" y="{top + _LABEL + 13}" class="value">'
            f"{number(bar.value)} {escape(chart.unit)}</text>"
        )
    told = "; ".join(f"{b.label}: {number(b.value)} {chart.unit}" for b in chart.bars)
    return _svg(len(chart.bars) * _ROW, f"{chart.title}. {told}", rows)


def scatter(chart: Scatter) -> str:
    """Points over two axes, the best one named."""
    height, left, bottom, top = 340, 62, 44, 12
    xs, ys = [p.x for p in chart.points], [p.y for p in chart.points]
    ys_all = ys + ([] if chart.line is None else [chart.line])
    x_most = max(xs, default=1.0) * 1.08 or 1.0
    y_low, y_high = min(ys_all, default=0.0), max(ys_all, default=1.0)
    pad = (y_high - y_low) * 0.12 or max(abs(y_high), 1e-6) * 0.01
    y_low, y_high = y_low - pad, y_high + pad

    def at(x: float, y: float) -> tuple[float, float]:
        across = left + (_WIDTH - left - 10) * x / x_most
        return across, top + (height - top - bottom) * (y_high - y) / (y_high - y_low)

    rows = []
    for tick in _ticks(0, x_most):
        x, _ = at(tick, y_low)
        rows.append(f'<path d="M{x:.1f} {top}V{height - bottom}" class="grid"/>')
        rows.append(
            f'<text x="{x:.1f}" y="{height - bottom + 17}" class="tick" text-anchor="middle">'
            f"{number(tick)}</text>"
        )
    step = _step(y_low, y_high)
    digits = max(0, -math.floor(math.log10(step)))
    for tick in _ticks(y_low, y_high):
        _, y = at(0, tick)
        rows.append(f'<path d="M{left} {y:.1f}H{_WIDTH - 10}" class="grid"/>')
        rows.append(
            f'<text x="{left - 6}" y="{y + 4:.1f}" class="tick" text-anchor="end">'
            f"{tick:.{digits}f}</text>"
        )
    if chart.line is not None:
        _, y = at(0, chart.line)
        rows.append(f'<path d="M{left} {y:.1f}H{_WIDTH - 10}" class="limit"/>')
        rows.append(
            f'<text x="{_WIDTH - 12}" y="{y - 5:.1f}" class="tick" text-anchor="end">floor</text>'
        )
    rows.append(
        f'<text x="{(_WIDTH + left) / 2}" y="{height - 8}" class="axis" text-anchor="middle">'
        f"{escape(chart.x)}</text>"
        f'<text transform="translate(12 {(height - bottom) / 2}) rotate(-90)" class="axis" '
        f'text-anchor="middle">{escape(chart.y)}</text>'
    )
    for point in sorted(chart.points, key=lambda p: (p.front, p.best)):
        rows.append(_mark(point, *at(point.x, point.y)))
    for point in chart.points:
        if point.best:
            x, y = at(point.x, point.y)
            under = y < height - bottom - 50
            side = "end" if x > _WIDTH / 2 else "start"
            rows.append(
                f'<text x="{x:.1f}" y="{y + (24 if under else -16):.1f}" class="value" '
                f'text-anchor="{side}">{escape(point.label)}</text>'
            )
    kinds = [k for k in _KINDS if any(p.kind == k for p in chart.points)]
    told = f"{chart.title}: {len(chart.points)} points. " + "; ".join(
        f"best: {p.label}" for p in chart.points if p.best
    )
    legend = "".join(
        f'<span><svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">'
        f"{_mark(Point(0, 0, '', kind, front=True), 8, 8)}</svg>{escape(kind)}</span>"
        for kind in kinds
    )
    return _svg(height, told, rows) + f'<p class="legend">{legend}</p>'


def _mark(point: Point, x: float, y: float) -> str:
    kind = _KINDS.index(point.kind) if point.kind in _KINDS else 0
    r = 7.0 if point.best else 5.0 if point.front else 4.0
    shapes = (
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}"',
        f'<rect x="{x - r:.1f}" y="{y - r:.1f}" width="{2 * r}" height="{2 * r}"',
        f'<path d="M{x:.1f} {y - r:.1f}l{r} {2 * r}h{-2 * r}z"',
        f'<path d="M{x:.1f} {y + r:.1f}l{r} {-2 * r}h{-2 * r}z"',
        f'<path d="M{x:.1f} {y - r:.1f}l{r} {r}l{-r} {r}l{-r} {-r}z"',
    )
    filled = "full" if point.front else "hollow"
    tag = shapes[kind][1:].split(" ", 1)[0]
    told = escape(point.label)
    return f'{shapes[kind]} class="k{kind} {filled}"><title>{told}</title></{tag}>'


def _step(low: float, high: float) -> float:
    rough = (high - low) / 5
    scale = 10.0 ** math.floor(math.log10(rough))
    return float(next(scale * m for m in (1, 2, 5, 10) if scale * m >= rough))


def _ticks(low: float, high: float) -> list[float]:
    step = _step(low, high)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [k * step for k in range(first, last + 1)]


def _svg(height: int, told: str, rows: list[str]) -> str:
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(told)}">'
        + "".join(rows)
        + "</svg>"
    )
