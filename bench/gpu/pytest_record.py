# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: one JSON line when a test begins and one when it ends, written at once.

So a test that ends the whole process, or hangs, is known by name and the others can go on.
"""

from __future__ import annotations

import json
import os
from typing import Any

VARIABLE = "ZEROLANE_TEST_RECORD"


def _write(**line: object) -> None:
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "a") as file:
            file.write(json.dumps(line) + "\n")


def pytest_runtest_logstart(nodeid: str) -> None:
    _write(test=nodeid, begun=True)


def pytest_runtest_logreport(report: Any) -> None:
    """The call's outcome; that of set-up and tear-down only where it is not a pass."""
    if report.when != "call" and report.outcome == "passed":
        return
    outcome, reason = report.outcome, ""
    if report.outcome == "skipped":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "expected to fail"
    elif report.outcome == "failed":
        reason = str(report.longrepr)
    _write(
        test=report.nodeid,
        outcome="error" if outcome == "failed" and report.when != "call" else outcome,
        seconds=round(report.duration, 3),
        reason=reason,
        facts=dict(report.user_properties),
    )


def pytest_collectreport(report: Any) -> None:
    if report.failed:
        _write(
            test=report.nodeid, outcome="error", seconds=0, reason=str(report.longrepr), facts={}
        )
