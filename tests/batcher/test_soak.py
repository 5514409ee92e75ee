"""Lanes and a batcher under load, with cancels, bad requests and clients that go away.

ZEROLANE_SOAK_SECONDS makes it last longer than the 5 s of every test run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
import threading
import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.batcher import models

SECONDS = float(os.environ.get("ZEROLANE_SOAK_SECONDS", "5"))


class Ledger:
    """What became of each request, by its number. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent = 0
        self.ends: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._open: set[int] = set()

    def send(self) -> int:
        with self._lock:
            self._sent += 1
            self._open.add(self._sent)
            return self._sent

    def end(self, number: int, how: str) -> None:
        with self._lock:
            if number not in self._open:
                self.wrong.append(f"{number} ended twice, the second time {how}")
            self._open.discard(number)
            self.ends[how] += 1

    @property
    def open(self) -> int:
        return len(self._open)


def rows_of(number: int, rng: random.Random) -> np.ndarray[Any, Any]:
    """Rows that hold the request's number; an index outside the table makes it a bad one."""
    return np.full((rng.randint(1, 3),), number % 8, np.int64)


def check(ledger: Ledger, number: int, x: np.ndarray[Any, Any], y: Any) -> None:
    right = np.array_equal(y, x.astype(np.float32))
    ledger.end(number, "right" if right else "wrong")
    if not right:
        ledger.wrong.append(f"{number}: {y} for {x}")


@pytest.mark.parametrize("gil", ["auto", "release"])
def test_every_request_ends_once(gil: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # A million records of refused requests would be what grows.
    monkeypatch.setattr(logging.getLogger("zerolane"), "disabled", True)
    monkeypatch.setattr(logging.getLogger("zerolane.onnxruntime"), "disabled", True)
    session = zl.load(models.lookup(), threads=1, gil=gil)
    batcher = zl.Batcher(session, max_batch=8, lanes=2, max_queue=64)
    lanes = zl.Lanes(session, 2)
    ledger = Ledger()
    seconds = SECONDS / 2
    end = time.monotonic() + seconds

    def thread_client(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            number = ledger.send()
            x = rows_of(number, rng)
            kind = rng.random()
            if kind < 0.1:
                x[0] = 99
            deadline = 0.05 if 0.1 < kind < 0.15 else None
            try:
                if rng.random() < 0.5:
                    options = {} if deadline is None else {"deadline_ms": deadline}
                    y = batcher(x, priority=rng.randint(-8, 7), **options)
                else:
                    future = lanes.submit(x, deadline_ms=deadline)
                    if kind > 0.9:
                        future.cancel()
                    if kind > 0.97:
                        del future  # nobody will ask
                        ledger.end(number, "left")
                        continue
                    y = future.result(60)
            except zl.Error as error:
                expected = {
                    zl.InvalidArgument: x[0] == 99,
                    zl.DeadlineExceeded: deadline is not None,
                    zl.Cancelled: kind > 0.9,
                    zl.Unavailable: True,
                }
                if not expected.get(type(error), False):
                    ledger.wrong.append(f"{number}: {error!r}")
                ledger.end(number, type(error).__name__)
            else:
                check(ledger, number, x, y)

    async def coroutine_client(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < end:
            number = ledger.send()
            x = rows_of(number, rng)
            bad = rng.random() < 0.1
            if bad:
                x[0] = -99
            task = asyncio.ensure_future(_asked(batcher, x))
            if rng.random() < 0.1:
                await asyncio.sleep(0)
                task.cancel()
            try:
                check(ledger, number, x, await task)
            except asyncio.CancelledError:
                ledger.end(number, "CancelledError")
            except (zl.InvalidArgument, zl.Unavailable) as error:
                if isinstance(error, zl.InvalidArgument) and not bad:
                    ledger.wrong.append(f"{number}: {error!r}")
                ledger.end(number, type(error).__name__)

    async def coroutines(seed: int) -> None:
        clients = [asyncio.ensure_future(coroutine_client(seed + i)) for i in range(16)]
        await asyncio.sleep(seconds / 2)
        clients[0].cancel()  # a client that dies with its request under way
        for client in clients:
            with contextlib.suppress(asyncio.CancelledError):
                await client

    threads = [threading.Thread(target=thread_client, args=(i,)) for i in range(6)]
    threads += [threading.Thread(target=asyncio.run, args=(coroutines(100 * i),)) for i in (1, 2)]
    for thread in threads:
        thread.start()
    time.sleep(seconds / 3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for thread in threads:
        thread.join(seconds + 60)
        assert not thread.is_alive()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    batcher.close()
    lanes.close()
    assert not ledger.wrong, ledger.wrong[:5]
    assert ledger.open <= 2  # of the two clients that died
    assert ledger.ends["right"] > 100
    stats = batcher.stats()
    assert stats["requests"] == stats["answered"] + stats["late"] + stats["cancelled"]
    assert stats["waiting"] == lanes.stats()["queued"] == lanes.stats()["in_flight"] == 0
    assert grown < 30_000, f"{grown} KiB"


async def _asked(batcher: zl.Batcher, x: np.ndarray[Any, Any]) -> Any:
    return await batcher.arun(x)
