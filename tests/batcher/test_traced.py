"""What lanes and batchers tell traces and metrics."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np

import zerolane as zl
from tests.batcher import models

SHIFT = np.array(0.5, np.float32)
X = np.ones((1, 3), np.float32)


def test_a_trace_shows_queue_and_runs(tmp_path: Path) -> None:
    session = zl.load(models.rows(), threads=1, gil="release")
    with zl.Batcher(session, lanes=2) as batcher, zl.Lanes(session, 1) as lanes:

        async def main() -> None:
            await asyncio.gather(*(batcher.arun(X, SHIFT) for _ in range(6)))

        with zl.trace(tmp_path / "t.json"):
            asyncio.run(main())
            for _ in lanes.map([(X, SHIFT)] * 5):
                pass
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    rows = {e["tid"]: e["args"]["name"] for e in events if e.get("name") == "thread_name"}

    def spans(name: str, row: str) -> list[dict[str, object]]:
        return [e for e in events if e["ph"] == "X" and e["name"] == name and row in rows[e["tid"]]]

    assert len(spans("queue", "batcher of model in memory")) == 6
    assert len(spans("queue", "queue of model in memory")) >= 5
    assert spans("batch", "lane ")
    assert len(spans("run", "lane 0 of model in memory")) >= 5
    requests = {e["args"]["request"] for e in spans("queue", "batcher of")}  # type: ignore[index]
    assert len(requests) == 6
    steps = [e for e in events if e["ph"] in "stf"]
    assert requests <= {e["id"] for e in steps}


def test_metrics() -> None:
    session = zl.load(models.rows(), threads=1)
    before = zl.metrics()
    with zl.Batcher(session) as batcher, zl.Lanes(session) as lanes:
        for _ in range(7):
            batcher(X, SHIFT)
            lanes.submit(X, SHIFT).result(30)
        found = zl.metrics(since=before)
    answered = [
        series["value"]
        for series in found["zerolane_batcher_requests_total"]["series"]
        if series["labels"] == {"model": "model in memory", "outcome": "answered"}
    ]
    assert answered == [7]
    for family in ("zerolane_batcher_queue_seconds", "zerolane_lanes_queue_seconds"):
        assert sum(series["count"] for series in found[family]["series"]) >= 7
