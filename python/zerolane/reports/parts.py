"""What each kind of result contributes to a report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zerolane.measure.compare import CompareResult
from zerolane.measure.difference import number_text
from zerolane.optimize.graph_passes.report import GraphReport
from zerolane.optimize.precision.bisection import BisectReport
from zerolane.optimize.pruning.report import PruneReport
from zerolane.optimize.quantization.report import QuantReport, SensitivityReport
from zerolane.optimize.report import KeptNode, OutputError, PrecisionReport
from zerolane.reports.content import Bar, Bars, Figure, Point, Scatter, Table, number, size
from zerolane.tuning.result import Row, TuneResult

Part = (
    GraphReport
    | PrecisionReport
    | BisectReport
    | QuantReport
    | SensitivityReport
    | PruneReport
    | CompareResult
    | TuneResult
)
KINDS: tuple[type, ...] = Part.__args__


@dataclass
class Told:
    """What one part says. speed, bytes, accuracy: the figures of the verdict, as far as known."""

    subject: str
    source: str
    did: str
    ok: bool = True
    speed: Figure | None = None
    bytes: Figure | None = None
    accuracy: Figure | None = None
    others: list[Figure] = field(default_factory=list)
    charts: list[Bars | Scatter] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def tell(part: Part) -> Told:
    """What a part says, of whichever kind it is."""
    if isinstance(part, TuneResult):
        return _tune(part)
    if isinstance(part, CompareResult):
        return _compare(part)
    if isinstance(part, QuantReport):
        return _quant(part)
    if isinstance(part, SensitivityReport):
        return _sensitivity(part)
    if isinstance(part, PruneReport):
        return _prune(part)
    if isinstance(part, GraphReport):
        return _graph(part)
    if isinstance(part, BisectReport):
        return _bisect(part)
    return _precision(part)


def size_figure(before: int, after: int) -> Figure:
    """A file beside the one that it was made from."""
    share = after / max(before, 1)
    return Figure(f"{share:.0%}", "of the size", f"{size(before)} to {size(after)}")


def _kept(share: float, metric: str, detail: str = "") -> Figure:
    return Figure(f"{share:.2%}", f"of {metric} kept", detail)


def _worst(errors: tuple[OutputError, ...]) -> Figure | None:
    if not errors:
        return None
    worst = max(errors, key=lambda e: (e.lost, e.scaled))
    return Figure(f"{worst.scaled:.2g}", "largest error", "relative to the largest value", True)


def _tune(part: TuneResult) -> Told:
    told = Told("its best setting", part.source, f"tune for {part.goal}", part.ok)
    if part.ok:
        best = part.best
        told.subject = str(best.setting)
        low, high = best.speedup_interval
        told.speed = Figure(
            f"{best.speedup:.2f} x",
            "as fast",
            f"{low:.2f} to {high:.2f}; {best.p50_ms:.3g} ms a call",
        )
        original = part.original
        if original is not None:
            told.bytes = size_figure(original.bytes, best.bytes)
        told.accuracy = _kept(best.accuracy, part.metric, f"at least {part.floor:.2%} wanted")
        told.others.append(Figure(f"{best.p99_ms:.3g} ms", "p99 of a call", "", True))
    told.charts.append(_fastest(part))
    points = tuple(
        Point(
            row.speedup,
            row.accuracy,
            str(row.setting),
            row.artefact,
            row.pareto,
            part.ok and row is part.best,
        )
        for row in part.rows
    )
    told.charts.append(
        Scatter(
            "Speed against accuracy",
            "times the original's speed",
            f"{part.metric}, share of the original's",
            points,
            part.floor,
            f"{len(part.rows)} settings measured in turn in {part.seconds:.0f} s. Filled: no other "
            "is better in one thing and worse in none.",
        )
    )
    header = ("setting", "speed", "p50 ms", "p99 ms", "rows/s", "accuracy", "size", "")
    for title, rows, why in (
        ("Worth having", part.pareto, lambda row: ""),
        ("All settings", part.rows, lambda row: row.dropped),
    ):
        told.tables.append(
            Table(
                title,
                header,
                tuple(
                    (
                        str(r.setting),
                        f"{r.speedup:.2f} x",
                        f"{r.p50_ms:.3f}",
                        f"{r.p99_ms:.3f}",
                        f"{r.rows_per_s:,.0f}",
                        f"{r.accuracy:.4f}",
                        size(r.bytes),
                        "best" if part.ok and r is part.best else why(r),
                    )
                    for r in rows
                ),
                (1, 2, 3, 4, 5, 6),
            )
        )
    if part.left_out:
        told.tables.append(
            Table("Left out", ("what", "why"), tuple((i.what, i.reason) for i in part.left_out))
        )
    if not part.complete:
        told.notes.append("The budget ended before the search did; the same folder lets it go on.")
    return told


def _fastest(part: TuneResult) -> Bars:
    """The fastest setting of each file, within the limits where one is."""
    first: dict[str, Row] = {}
    for row in sorted(part.fitting or part.rows, key=lambda row: -row.speedup):
        first.setdefault(row.artefact, row)
    bars = tuple(
        Bar(str(row.setting), row.speedup, row.speedup_interval, row.artefact == "original")
        for row in first.values()
    )
    note = "Measured in turn with the original as it is loaded by itself, on one thread; 95 %."
    return Bars("The fastest setting of each precision", "x", bars, note)


def _compare(part: CompareResult) -> Told:
    told = Told(Path(part.a).name, Path(part.b).name, "compare", part.ok)
    if part.scores:
        name, share = min(part.scores.items(), key=lambda item: item[1])
        told.accuracy = _kept(share, name)
    if part.outputs:
        worst = max(part.outputs, key=lambda o: o.max_abs)
        beside = "" if worst.noise is None else f"noise {number_text(worst.noise)}"
        told.others.append(Figure(number_text(worst.max_abs), "largest difference", beside, True))
        cosines = [o.cosine for o in part.outputs if o.cosine is not None]
        if cosines and not part.scores:
            told.others.append(Figure(f"{min(cosines):.6f}", "cosine", "of the worst output", True))
    told.tables.append(
        Table(
            "Outputs against the reference",
            ("output", "verdict", "max abs", "mean abs", "max rel", "cosine", "noise", "off"),
            tuple(
                (
                    o.name,
                    (o.verdict or ("ok" if o.ok else "FAIL")) + (f": {o.note}" if o.note else ""),
                    number_text(o.max_abs),
                    number_text(o.mean_abs),
                    number_text(o.max_rel),
                    "" if o.cosine is None else f"{o.cosine:.6f}",
                    "" if o.noise is None else number_text(o.noise),
                    f"{o.mismatches:,} of {o.elements:,}",
                )
                for o in part.outputs
            ),
            (2, 3, 4, 5, 6, 7),
            f"Agree: |a - b| <= {number_text(part.atol)} + {number_text(part.rtol)} |b|; "
            f"{part.samples} samples. Noise: how far runs of the reference differ that should be "
            "equal.",
        )
    )
    if part.scores:
        rows = tuple((name, f"{share:.4%}") for name, share in part.scores.items())
        told.tables.append(Table("Scores", ("metric", "kept"), rows, (1,)))
    if part.layers:
        ordered = sorted(part.layers, key=lambda layer: -layer.error)
        told.tables.append(
            Table(
                "Layers, the largest error first",
                ("node", "operator", "error", "taken in", "max abs", ""),
                tuple(
                    (
                        layer.node,
                        layer.op,
                        number_text(layer.error),
                        number_text(layer.taken_in),
                        number_text(layer.max_abs),
                        "jump" if layer.jump else "",
                    )
                    for layer in ordered
                ),
                (2, 3, 4),
            )
        )
        told.charts.append(_error_bars([(f"{la.op} {la.node}", la.error) for la in ordered[:8]]))
    return told


def _quant(part: QuantReport) -> Told:
    told = Told(
        Path(part.output).name,
        Path(part.source).name,
        f"quantize {part.mode} for {part.target}",
        bytes=size_figure(part.bytes_before, part.bytes_after),
        notes=list(part.notes),
    )
    if part.score is not None and part.reference:
        told.accuracy = _kept(part.score / part.reference, part.metric)
    told.others.append(Figure(f"{part.quantized} of {part.layers}", "layers quantized"))
    told.others += _shares(part.shares)
    told.tables += _errors(part.errors)
    told.tables += _kept_table("Kept in float", part.kept, set(part.backed_off))
    return told


def _sensitivity(part: SensitivityReport) -> Told:
    told = Told("each layer quantized alone", Path(part.source).name, "sensitivity")
    worst = part.layers[0] if part.layers else None
    if worst is not None:
        told.others.append(Figure(f"{worst.error:.2e}", f"of {part.metric} lost", worst.layer))
    told.others.append(Figure(str(len(part.layers)), "layers"))
    told.others.append(Figure(str(part.samples), "samples"))
    told.charts.append(_error_bars([(f"{r.op} {r.layer}", r.error) for r in part.layers[:8]]))
    told.tables.append(
        Table(
            "Layers, the most sensitive first",
            ("layer", "operator", "score lost", "outputs off by"),
            tuple((r.layer, r.op, f"{r.error:.2e}", f"{r.scaled:.2e}") for r in part.layers),
            (2, 3),
        )
    )
    return told


def _prune(part: PruneReport) -> Told:
    told = Told(
        Path(part.output).name,
        Path(part.source).name,
        f"prune {part.method}, ratio {part.ratio:.3g}",
        bytes=size_figure(*part.bytes),
        notes=list(part.notes),
    )
    if part.score is not None:
        told.accuracy = _kept(part.score, str(part.metric))
    before, after = part.macs
    told.others.append(Figure(f"{after / max(before, 1):.0%}", "of the multiply-adds"))
    told.others.append(Figure(f"{part.zeros:.0%}", "of the weights are zero"))
    told.tables.append(
        Table(
            "Layers",
            ("layer", "operator", "before", "after", "zeros", "magnitude kept"),
            tuple(
                (
                    la.node,
                    la.op,
                    "x".join(map(str, la.shape[0])),
                    "x".join(map(str, la.shape[1])),
                    f"{la.zeros:.0%}",
                    f"{la.kept:.1%}",
                )
                for la in sorted(part.layers, key=lambda la: la.kept)
            ),
            (2, 3, 4, 5),
        )
    )
    unpruned = tuple((u.node, u.op, u.reason) for u in part.unpruned)
    if unpruned:
        told.tables.append(Table("Left as they are", ("node", "operator", "why"), unpruned))
    return told


def _graph(part: GraphReport) -> Told:
    a, b = part.before, part.after
    told = Told(
        Path(part.output).name,
        Path(part.source).name,
        "graph passes",
        bytes=size_figure(a.bytes, b.bytes),
        notes=[*part.notes, part.verified],
    )
    told.others.append(Figure(f"{b.nodes}", "nodes", f"of {a.nodes}"))
    exact = Figure("bit-equal", "outputs", "", True) if part.worst == 0 else None
    told.accuracy = exact or Figure(
        f"{part.worst:.2g}", "largest error", "of the largest value", True
    )
    told.tables.append(
        Table(
            "Passes",
            ("pass", "outcome", "nodes", "off by", "why"),
            tuple(
                (
                    p.name,
                    p.status,
                    f"{p.nodes[0]} to {p.nodes[1]}" if p.nodes[0] != p.nodes[1] else "",
                    "" if p.error is None else f"{p.error:.2g}",
                    p.why,
                )
                for p in part.passes
            ),
            (2, 3),
        )
    )
    changed = part.operators_changed
    if changed:
        rows = tuple((name, str(was), str(now)) for name, (was, now) in changed.items())
        told.tables.append(Table("Operators", ("operator", "before", "after"), rows, (1, 2)))
    return told


def _bisect(part: BisectReport) -> Told:
    told = Told(Path(part.output).name, Path(part.source).name, f"bisect to {part.dtype}")
    told.accuracy = _kept(part.score, part.metric, f"at least {part.least:g} wanted")
    told.others.append(Figure(f"{len(part.keep)} of {part.nodes}", "nodes kept in float32"))
    told.others.append(Figure(str(part.runs), "runs"))
    told.tables += _kept_table("Nodes that must stay", (*part.overflow, *part.found), set())
    return told


def _precision(part: PrecisionReport) -> Told:
    told = Told(
        Path(part.output).name,
        Path(part.source).name,
        f"convert to {part.dtype}",
        bytes=size_figure(part.bytes_before, part.bytes_after),
        accuracy=_worst(part.errors),
        notes=[*part.notes, part.verified],
    )
    told.others.append(
        Figure(str(part.converted), "nodes converted", f"{len(part.kept)} kept in float32")
    )
    told.others += _shares(dict(part.macs))
    told.tables += _errors(part.errors)
    if part.node_errors:
        worst = sorted(part.node_errors, key=lambda e: (-e.error.lost, -e.error.scaled))
        told.charts.append(_error_bars([(f"{e.op} {e.node}", e.error.scaled) for e in worst[:8]]))
        told.tables.append(
            Table(
                "Nodes, the largest error first",
                ("node", "operator", "dtype", "error", "largest value"),
                tuple(
                    (e.node, e.op, e.dtype, f"{e.error.scaled:.2e}", number(e.largest))
                    for e in worst
                ),
                (3, 4),
            )
        )
    told.tables += _kept_table("Kept in float32", part.kept, set())
    return told


def _error_bars(rows: list[tuple[str, float]]) -> Bars:
    return Bars("Layers with the largest errors", "", tuple(Bar(name, e) for name, e in rows))


def _shares(shares: dict[str, float]) -> list[Figure]:
    if not shares:
        return []
    dtype, share = max(shares.items(), key=lambda item: item[1])
    return [Figure(f"{share:.0%}", f"of multiply-adds in {dtype}")]


def _errors(errors: tuple[OutputError, ...]) -> list[Table]:
    if not errors:
        return []
    rows: tuple[Any, ...] = tuple(
        (e.name, f"{e.scaled:.2e}", f"{e.max_abs:.2e}", f"{e.max_rel:.2e}", f"{e.elements:,}")
        for e in errors
    )
    header = ("output", "of the largest value", "max abs", "max rel", "elements")
    return [Table("Outputs against the original", header, rows, (1, 2, 3, 4))]


def _kept_table(title: str, kept: tuple[KeptNode, ...], first: set[str]) -> list[Table]:
    if not kept:
        return []
    ordered = sorted(kept, key=lambda k: k.node not in first)
    count = Counter(k.reason for k in kept)
    rows = tuple((k.node, k.op, k.reason) for k in ordered)
    told = "; ".join(f"{n} x {why}" for why, n in count.most_common(3))
    return [Table(title, ("node", "operator", "why"), rows, note=told)]
