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

    def skips(self) -> dict[str, tuple[list[str], list[str], int]]:
        """By reason: the checks that were skipped, of which ops, and in how many cases of them."""
        found: dict[str, tuple[dict[str, None], dict[str, None], set[Case]]] = {}
        for r in self.results:
            if r.status == "skipped":
                checks, ops, cases = found.setdefault(r.text, ({}, {}, set()))
                checks[r.check] = ops[r.case.op] = None
                cases.add(r.case)
        return {text: (list(c), list(ops), len(n)) for text, (c, ops, n) in found.items()}

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
                {"reason": reason, "checks": checks, "ops": ops, "cases": count}
                for reason, (checks, ops, count) in self.skips().items()
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
