"""What a search found: every setting in a table, those worth having, and the best."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from zerolane.errors import NotFound
from zerolane.tuning.setting import Setting

Goal = Literal["latency", "throughput"]


@dataclass(frozen=True, slots=True)
class Row:
    """A setting as it was measured.

    p50_ms, p99_ms: of a call. p50_interval: 95 %, by order statistics of the blocks' medians.
    rows_per_s: all callers together. speedup: the baseline's cost over its own, block by block, and
    its interval. accuracy: the share of the original's score. bytes: of the file. calls, sweeps:
    how often it was measured. pareto: whether no other is better in one thing and worse in none.
    dropped: why it was given up before the end; "" for those that went to the end.
    """

    setting: Setting
    p50_ms: float
    p99_ms: float
    p50_interval: tuple[float, float]
    rows_per_s: float
    speedup: float
    speedup_interval: tuple[float, float]
    accuracy: float
    bytes: int
    calls: int
    sweeps: int
    pareto: bool = False
    dropped: str = ""

    @property
    def artefact(self) -> str:
        return self.setting.artefact

    @property
    def threads(self) -> int:
        return self.setting.threads

    @property
    def lanes(self) -> int:
        return self.setting.lanes

    @property
    def batch(self) -> int:
        return self.setting.batch

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"setting": self.setting.as_dict()}


class Scratch:
    """A folder that is removed when the last result that needs it goes."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="zerolane-tune-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not measured to any end, and why: an artefact, a backend or a setting."""

    what: str
    reason: str


@dataclass(frozen=True)
class TuneResult:
    """The result of `zl.tune`. rows: the best first.

    seconds: used, of budget_s. complete: the search came to its end within the budget.
    resumed: a journal was gone on with. folder: where the artefacts and the journal are.
    """

    source: str
    goal: Goal
    metric: str
    floor: float
    p99_limit_ms: float | None
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    budget_s: float
    seconds: float
    complete: bool
    resumed: bool
    folder: Path
    files: Mapping[str, Mapping[str, Any]]  # of each artefact: file, sha256, bytes, score, reason
    model: Mapping[str, Any]  # sha256, external, as in the file that `save` writes
    environment: Mapping[str, Any]
    baseline: Setting
    _scratch: Scratch | None = None  # the folder, where none was given

    @property
    def fitting(self) -> tuple[Row, ...]:
        """The rows within the limit of p99, the best first."""
        limit = self.p99_limit_ms
        return tuple(r for r in self.rows if limit is None or r.p99_ms <= limit)

    @property
    def ok(self) -> bool:
        """Whether a setting keeps to all limits."""
        return bool(self.fitting)

    @property
    def best(self) -> Row:
        """The setting to take. Raises NotFound where none keeps to the limits."""
        fitting = [row for row in self.fitting if not row.dropped] or list(self.fitting)
        if fitting:
            return fitting[0]
        nearest = min(self.rows, key=lambda row: row.p99_ms, default=None)
        found = (
            "nothing could be measured"
            if nearest is None
            else f"the least p99 is {nearest.p99_ms:.3f} ms, with {nearest.setting}"
        )
        raise NotFound(
            f"choosing the best setting of {self.source}: {found}, expected p99 <= "
            f"{self.p99_limit_ms} ms; allow more, or a smaller model",
            "best",
        )

    @property
    def pareto(self) -> tuple[Row, ...]:
        """The rows that no other one beats in everything."""
        return tuple(row for row in self.rows if row.pareto)

    @property
    def original(self) -> Row | None:
        """The model as it was given, with the options it has by itself on one thread."""
        return next((row for row in self.rows if row.setting == self.baseline), None)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the best setting for `zl.load(model, tuned=path)`; whole or not at all.

        The file is TOML and names the artefact relative to itself. Where the search had no folder
        of its own, the artefact is copied beside it.
        """
        from zerolane.tuning.save import save

        save(self, Path(path))

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Write a picture of speed against accuracy. Needs matplotlib, zerolane[plot]."""
        from zerolane.tuning.plot import plot

        plot(self, Path(path))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        names = ("source", "goal", "metric", "floor", "p99_limit_ms", "budget_s", "seconds")
        return {
            **{name: getattr(self, name) for name in names},
            "complete": self.complete,
            "resumed": self.resumed,
            "ok": self.ok,
            "best": self.best.as_dict() if self.ok else None,
            "pareto": [row.as_dict() for row in self.pareto],
            "rows": [row.as_dict() for row in self.rows],
            "left_out": [asdict(item) for item in self.left_out],
            "artefacts": {name: dict(facts) for name, facts in self.files.items()},
            "model": dict(self.model),
            "environment": dict(self.environment),
        }

    def __str__(self) -> str:
        end = "to its end" if self.complete else "the budget ended first"
        lines = [
            f"{self.source}, goal {self.goal}, {self.metric} >= {self.floor:g} of the original's"
            + ("" if self.p99_limit_ms is None else f", p99 <= {self.p99_limit_ms:g} ms")
            + f": {len(self.rows)} settings measured in {self.seconds:.0f} s ({end})"
        ]
        if self.ok:
            row = self.best
            lines.append(
                f"  best: {row.setting}: {row.speedup:.2f} x the original's speed, p50 "
                f"{row.p50_ms:.3f} ms, p99 {row.p99_ms:.3f} ms, {row.rows_per_s:,.0f} rows/s, "
                f"keeps {row.accuracy:.2%}"
            )
        else:
            lines.append("  no setting keeps to the limits")
        lines += ["  worth having (*: the best):", *_table(self)]
        lines += [f"  left out: {item.what}: {item.reason}" for item in self.left_out]
        return "\n".join(lines)


def _table(result: TuneResult) -> list[str]:
    header = ("", "p50 ms", "p99 ms", "rows/s", "speed", "accuracy", "MB", "setting")
    best = result.best if result.ok else None
    cells = [header]
    for row in result.pareto:
        cells.append(
            (
                "*" if row is best else "",
                f"{row.p50_ms:.3f}",
                f"{row.p99_ms:.3f}",
                f"{row.rows_per_s:,.0f}",
                f"{row.speedup:.2f} x",
                f"{row.accuracy:.4f}",
                f"{row.bytes / 1e6:.2f}",
                str(row.setting),
            )
        )
    widths = [max(len(line[i]) for line in cells) for i in range(len(header) - 1)]
    return [
        "    " + "  ".join(c.rjust(w) for c, w in zip(line, widths, strict=False)) + f"  {line[-1]}"
        for line in cells
    ]


def pareto(rows: Sequence[Row], goal: Goal) -> list[bool]:
    """Of each row whether no other is better in one thing and worse in none.

    The things: speed beside the baseline, accuracy and size; for throughput the time of a call too,
    which lanes and batches trade for it.
    """

    def values(row: Row) -> tuple[float, ...]:
        waits = row.p50_ms if goal == "throughput" else 0.0
        return (-row.speedup, -row.accuracy, row.bytes, waits)

    points = [values(row) for row in rows]
    return [
        not any(
            other != point and all(o <= p for o, p in zip(other, point, strict=True))
            for other in points
        )
        for point in points
    ]
