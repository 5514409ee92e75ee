# SPDX-License-Identifier: Apache-2.0
"""What people write today to serve many clients from one onnxruntime session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Ask = Callable[[Array], Awaitable[Array]]


class HandWritten:
    """A batcher of a page: requests of one turn of the event loop share a run on its thread."""

    def __init__(self, session: Any, max_batch: int) -> None:
        self._session = session
        self._name = session.get_inputs()[0].name
        self._max = max_batch
        self._waiting: list[tuple[Array, asyncio.Future[Array]]] = []

    async def ask(self, x: Array) -> Array:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Array] = loop.create_future()
        self._waiting.append((x, future))
        if len(self._waiting) == 1:
            loop.call_soon(self._flush)
        return await future

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for first in range(0, len(waiting), self._max):
            part = waiting[first : first + self._max]
            joined = np.concatenate([x for x, _ in part])
            results = self._session.run(None, {self._name: joined})[0]
            for i, (_, future) in enumerate(part):
                if not future.cancelled():
                    future.set_result(results[i : i + 1])


def run_async(session: Any) -> Ask:
    """onnxruntime's own run_async, its callback handed to the loop."""
    name = session.get_inputs()[0].name

    async def ask(x: Array) -> Array:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Array] = loop.create_future()

        def done(results: list[Array], _: Any, error: str) -> None:
            if error:
                loop.call_soon_threadsafe(future.set_exception, RuntimeError(error))
            else:
                loop.call_soon_threadsafe(future.set_result, results[0])

        session.run_async(None, {name: x}, done, None)
        return await future

    return ask


def executor(session: Any, workers: int) -> Ask:
    """asyncio's way with blocking calls: a pool of threads."""
    name = session.get_inputs()[0].name
    pool = ThreadPoolExecutor(workers)

    async def ask(x: Array) -> Array:
        loop = asyncio.get_running_loop()
        results = await loop.run_in_executor(pool, session.run, None, {name: x})
        return results[0]  # type: ignore[no-any-return]

    return ask
