# SPDX-License-Identifier: Apache-2.0
"""Clients in a closed loop: each sends its next request when it has the answer to the last."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.rivals.batching import Array, Ask


@dataclass
class Served:
    """Requests a second of each round, and the latency of every request in microseconds."""

    rates: list[float] = field(default_factory=list)
    latencies_us: list[float] = field(default_factory=list)

    def quantile(self, fraction: float) -> float:
        return float(np.quantile(np.array(self.latencies_us), fraction))


def coroutines(ask: Ask, x: Array, clients: int, seconds: float, into: Served) -> None:
    """`clients` coroutines of one event loop, for `seconds`."""

    async def main() -> None:
        latencies: list[float] = []
        end = time.perf_counter() + seconds

        async def client() -> None:
            while True:
                start = time.perf_counter()
                if start >= end:
                    return
                await ask(x)
                latencies.append(time.perf_counter() - start)

        begin = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        into.rates.append(len(latencies) / (time.perf_counter() - begin))
        into.latencies_us += [1e6 * value for value in latencies]

    asyncio.run(main())


def threads(
    call: Callable[[Array], Any], x: Array, clients: int, seconds: float, into: Served
) -> None:
    """`clients` threads, for `seconds`."""
    latencies: list[list[float]] = [[] for _ in range(clients)]
    start_line = threading.Barrier(clients + 1)
    end = 0.0

    def client(mine: list[float]) -> None:
        start_line.wait()
        while True:
            start = time.perf_counter()
            if start >= end:
                return
            call(x)
            mine.append(time.perf_counter() - start)

    workers = [threading.Thread(target=client, args=(mine,)) for mine in latencies]
    for worker in workers:
        worker.start()
    begin = time.perf_counter()
    end = begin + seconds
    start_line.wait()
    for worker in workers:
        worker.join()
    total = sum(map(len, latencies))
    into.rates.append(total / (time.perf_counter() - begin))
    into.latencies_us += [1e6 * value for mine in latencies for value in mine]
