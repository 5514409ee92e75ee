"""`zl.load_test`: latency against throughput of a model that many clients call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.batcher.batcher import Batcher
from zerolane.errors import InvalidArgument
from zerolane.lanes.lanes import Lanes
from zerolane.measure.progress import Progress, reporter
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.session import Session

Ask = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class LoadPoint:
    """One load: so many clients that each wait for their answer, or so many requests a second.

    throughput: answers a second. Latencies in microseconds; at a rate they count from the moment
    at which a request was due, so that a sender who is held up hides nothing.
    """

    clients: int | None
    rate: float | None
    throughput: float
    requests: int
    p50_us: float
    p90_us: float
    p99_us: float
    p999_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What `load_test` measured. rows_per_run: of a batcher, None for lanes."""

    model: str
    lanes: int
    max_batch: int | None
    points: tuple[LoadPoint, ...]
    rows_per_run: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def load_test(
    session: Session,
    *,
    clients: Sequence[int] = (1, 2, 4, 8, 16, 32),
    rates: Sequence[float] = (),
    lanes: int = 1,
    max_batch: int | None = None,
    seconds: float = 2.0,
    inputs: Mapping[str, Any] | None = None,
    shapes: Shapes | None = None,
    seed: int = 0,
    progress: Progress = False,
) -> LoadResult:
    """Call a model as a service does, under one load after the other, `seconds` each.

    clients: closed loop: each sends its next request when it has its answer. rates: open loop:
    requests a second, sent at even times whether there are answers or not.
    lanes: of `zl.Lanes`; with `max_batch` of a `zl.Batcher` with runs of so many rows.
    Inputs not given are random. Everything is sent by one event loop in this thread, which itself
    takes some microseconds a request: below that nothing can be measured. Raises what a call does.
    """
    if not clients and not rates:
        raise InvalidArgument(
            f"testing {session.name} under load: neither clients nor rates were given; give one",
            "clients",
        )
    _check("clients", clients, 1, 100_000)
    _check("rates", rates, 1e-3, 1e7)
    _check("seconds", [seconds], 1e-3, 1e6)
    feed = complete_inputs(session, inputs, shapes=shapes, seed=seed)
    report = reporter(progress)
    loads: list[tuple[int | None, float | None]] = [
        *((count, None) for count in clients),
        *((None, rate) for rate in rates),
    ]
    points = []

    def measure(ask: Ask) -> None:
        for i, (count, rate) in enumerate(loads):
            if report is not None:
                what = f"{count} clients" if count is not None else f"{rate:g} requests/s"
                report(i / len(loads), what)
            points.append(
                asyncio.run(
                    _closed(ask, count, seconds)
                    if count is not None
                    else _open(ask, rate or 1.0, seconds)
                )
            )
        if report is not None:
            report(1.0, "done")

    if max_batch is None:
        slots = max(2 * lanes, *clients, 4096 if rates else 0)
        with Lanes(session, lanes, slots=min(slots, 4096)) as direct:
            measure(lambda: direct.arun(feed))
        return LoadResult(session.name, lanes, None, tuple(points), None)
    with Batcher(session, max_batch=max_batch, lanes=lanes) as batcher:
        measure(lambda: batcher.arun(feed))
        rows = batcher.stats()["rows_per_run"]
    return LoadResult(session.name, lanes, max_batch, tuple(points), rows)


def _check(name: str, values: Sequence[float], least: float, most: float) -> None:
    for value in values:
        if not least <= value <= most:
            raise InvalidArgument(
                f"testing under load: {name} has {value!r}, expected {least:g} to {most:g}; "
                "change it",
                name,
            )


async def _closed(ask: Ask, clients: int, seconds: float) -> LoadPoint:
    latencies: list[float] = []
    await ask()  # warm
    begin = time.perf_counter()
    end = begin + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            await ask()
            latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    return _point(clients, None, latencies, time.perf_counter() - begin)


async def _open(ask: Ask, rate: float, seconds: float) -> LoadPoint:
    latencies: list[float] = []
    waiting: set[asyncio.Task[None]] = set()
    await ask()  # warm

    async def one(due: float) -> None:
        await ask()
        latencies.append(time.perf_counter() - due)

    begin = time.perf_counter()
    sent = 0
    while (now := time.perf_counter()) < begin + seconds:
        while begin + sent / rate <= now:
            task = asyncio.ensure_future(one(begin + sent / rate))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
            sent += 1
        # The loop's own clock is coarse: the last two milliseconds are spent looking at this one.
        await asyncio.sleep(max(0.0, begin + sent / rate - time.perf_counter() - 0.002))
    await asyncio.gather(*waiting)
    return _point(None, rate, latencies, time.perf_counter() - begin)


def _point(
    clients: int | None, rate: float | None, latencies: list[float], seconds: float
) -> LoadPoint:
    us: NDArray[np.float64] = 1e6 * np.array(latencies)
    quantiles = (float(q) for q in np.quantile(us, (0.5, 0.9, 0.99, 0.999, 1.0)))
    return LoadPoint(clients, rate, len(us) / seconds, len(us), *quantiles)
