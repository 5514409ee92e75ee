"""All checks of many cases, and what is said of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from zerolane.ops.testing.case import Case
from zerolane.ops.testing.checks import CHECKS, Result, judge


@dataclass(frozen=True)
class Report:
    """The results of `run`."""

    results: tuple[Result, ...]

    @property
    def ok(self) -> bool:
        """Nothing failed, and something was checked."""
        return not self.failures and any(r.status == "ok" for r in self.results)

    @property
    def failures(self) -> tuple[Result, ...]:
        return tuple(r for r in self.results if r.status == "failed")

    def counts(self) -> dict[str, dict[str, Counter[str]]]:
        """How many are "ok", "failed" and "skipped", by op and check."""
        found: dict[str, dict[str, Counter[str]]] = {}
        for r in self.results:
            row = found.setdefault(r.case.op, {check: Counter() for check in CHECKS})
            row[r.check][r.status] += 1
        return found

    def skips(self) -> list[tuple[str, str, str, int]]:
        """Op, check, reason and how many cases, where checks were skipped."""
        counted = Counter(
            (r.case.op, r.check, r.text) for r in self.results if r.status == "skipped"
        )
        return [(*key, count) for key, count in counted.items()]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "ok": self.ok,
            "ops": {
                op: {check: dict(counter) for check, counter in row.items()}
                for op, row in self.counts().items()
            },
            "failures": [
                {"op": r.case.op, "case": str(r.case), "check": r.check, "problem": r.text}
                for r in self.failures
            ],
            "skipped": [
                {"op": op, "check": check, "reason": reason, "cases": count}
                for op, check, reason, count in self.skips()
            ],
        }


def run(cases: Iterable[Case], progress: Callable[[float, str], object] | None = None) -> Report:
    """Every check of every case. progress: called with (fraction, text)."""
    todo = list(cases)
    results = []
    for number, case in enumerate(todo):
        if progress is not None:
            progress(number / len(todo), case.op)
        results += [judge(case, name) for name in CHECKS]
    return Report(tuple(results))
