# SPDX-License-Identifier: Apache-2.0
"""Runs test files one after the other, each in a process of its own that may die.

A test that ends its process or hangs is counted as that, and the file's other tests are run again
without it. The result is one junit file and a summary.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from bench.gpu import commands
from bench.gpu.pytest_record import VARIABLE

MOST_RESTARTS = 5
HANG_S = 240.0
BAD = ("failed", "error", "crashed", "hung", "not run")


@dataclass
class Test:
    name: str
    outcome: str
    seconds: float = 0.0
    reason: str = ""
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """A test file, which of its tests (`-k`), and a plugin that they need (`-p`)."""

    path: Path
    keyword: str = ""
    plugin: str = ""


def run(
    python: Path,
    selections: Sequence[Selection],
    folder: Path,
    seconds: float,
    environment: Mapping[str, str],
    name: str = "tests",
) -> list[Test]:
    """Writes FOLDER/NAME.junit.xml, FOLDER/NAME.json and FOLDER/logs/NAME-*.log."""
    end = time.monotonic() + seconds
    tests: list[Test] = []
    for i, selection in enumerate(selections):
        left = end - time.monotonic()
        if left < 5:
            tests.append(Test(str(selection.path), "not run", reason="no time was left"))
            continue
        # Later files keep a share of the time, whatever this one does.
        share = max(30.0, min(left, 4 * left / (len(selections) - i)))
        tests += _run_file(python, selection, folder, min(left, share), environment, name)
        _write(tests, folder, name)  # so that what is known stays known
    _write(tests, folder, name)
    return tests


def summary(tests: Sequence[Test]) -> str:
    counts = Counter(t.outcome for t in tests)
    return ", ".join(f"{n} {what}" for what, n in counts.most_common()) or "no test"


def failed(tests: Sequence[Test]) -> list[Test]:
    return [t for t in tests if t.outcome in BAD]


def _run_file(
    python: Path,
    selection: Selection,
    folder: Path,
    seconds: float,
    environment: Mapping[str, str],
    name: str,
) -> list[Test]:
    words = (selection.path.parent.name, selection.path.stem, selection.keyword)
    label = "-".join(w for w in words if w)
    log = folder / "logs" / f"{name}-{label}.log"
    log.unlink(missing_ok=True)
    record = folder / "logs" / f"{name}-{label}.jsonl"
    record.unlink(missing_ok=True)
    end = time.monotonic() + seconds
    done: dict[str, Test] = {}
    for _ in range(MOST_RESTARTS + 1):
        command = [
            *(python, "-X", "faulthandler", "-m", "pytest", selection.path, "-v", "--tb=short"),
            *("-p", "bench.gpu.pytest_record", "-p", "no:cacheprovider"),
            # A new version of torch or CuPy may warn of anything; zerolane's own are tested in CI.
            *("-W", "default", "-o", "faulthandler_timeout=120"),
            *(("-k", selection.keyword) if selection.keyword else ()),
            *(("-p", selection.plugin) if selection.plugin else ()),
            *(word for test in done for word in ("--deselect", test)),
        ]
        outcome = commands.run(
            command,
            log,
            min(HANG_S * 2, end - time.monotonic()),
            environment={**environment, VARIABLE: str(record)},
        )
        running = _read(record, done)
        if outcome.code in (0, 1, 5):  # passed, some failed, nothing (left) to run
            break
        if outcome.code == 2 and any(t.outcome == "error" for t in done.values()):
            break  # it could not be collected
        if running is None:  # before or after all tests: nothing to leave out
            key = f"{selection.path}::<process>"
            done[key] = Test(
                key, "crashed" if outcome.code is not None else "hung", 0, str(outcome)
            )
            break
        what = "hung" if outcome.code is None else "crashed"
        done[running] = Test(running, what, outcome.seconds, f"{outcome}; see {log.name}")
        if end - time.monotonic() < 5:
            break
    record.unlink(missing_ok=True)
    return list(done.values())


def _read(record: Path, done: dict[str, Test]) -> str | None:
    """Adds the finished tests of the record; returns the one that began and did not end."""
    running: str | None = None
    if not record.exists():
        return None
    for text in record.read_text().splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue  # cut off by the end of the process
        if line.get("begun"):
            running = line["test"] if line["test"] not in done else None
            continue
        known = done.get(line["test"])
        if known is None or known.outcome == "passed":  # a tear-down may still fail
            done[line["test"]] = Test(
                line["test"], line["outcome"], line["seconds"], line["reason"], line["facts"]
            )
        if running == line["test"]:
            running = None
    return running


def _write(tests: Sequence[Test], folder: Path, name: str) -> None:
    counts = Counter(t.outcome for t in tests)
    suite = ElementTree.Element(
        "testsuite",
        name=name,
        tests=str(len(tests)),
        failures=str(counts["failed"]),
        errors=str(sum(counts[b] for b in BAD if b != "failed")),
        skipped=str(counts["skipped"]),
        time=f"{sum(t.seconds for t in tests):.3f}",
    )
    for t in tests:
        where, _, what = t.name.partition("::")
        case = ElementTree.SubElement(
            suite, "testcase", classname=where, name=what or where, time=f"{t.seconds:.3f}"
        )
        if t.facts:
            properties = ElementTree.SubElement(case, "properties")
            for key, value in t.facts.items():
                ElementTree.SubElement(properties, "property", name=key, value=str(value))
        if t.outcome != "passed":
            tag = {"skipped": "skipped", "failed": "failure"}.get(t.outcome, "error")
            ElementTree.SubElement(
                case, tag, message=f"{t.outcome}: {_short(t.reason)}"
            ).text = _printable(t.reason)
    folder.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(
        folder / f"{name}.junit.xml", encoding="utf-8", xml_declaration=True
    )
    body = {
        "counts": dict(counts),
        "skipped": dict(Counter(_short(t.reason) for t in tests if t.outcome == "skipped")),
        "bad": [
            {"test": t.name, "outcome": t.outcome, "reason": t.reason[-4000:]}
            for t in tests
            if t.outcome in BAD
        ],
        "facts": {t.name: t.facts for t in tests if t.facts},
    }
    (folder / f"{name}.json").write_text(json.dumps(body, indent=1) + "\n")


def _short(text: str) -> str:
    return _printable(" ".join(text.split()))[:300]


def _printable(text: str) -> str:
    return "".join(c for c in text if c in "\n\t" or c.isprintable())
