"""Awaiting native futures: one descriptor an event loop, no thread a call."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from typing import TYPE_CHECKING, Any

from zerolane import _native

if TYPE_CHECKING:
    from zerolane._native import Future


class _Completions:
    """The jobs that one event loop waits for. Its descriptor turns readable when any is done."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._queue = _native.CompletionQueue()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tokens = itertools.count()
        loop.add_reader(self._queue.fileno(), self._wake)

    def register(self, future: Future, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        token = next(self._tokens)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[token] = waiter
        future._notify(self._queue, token)
        return waiter

    def _wake(self) -> None:
        for token in self._queue.drain():
            waiter = self._waiting.pop(token)
            if not waiter.done():
                waiter.set_result(None)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Completions] = (
    weakref.WeakKeyDictionary()
)


async def wait(future: Future) -> Any:
    """The future's result, without blocking the loop; cancelling ends the run."""
    loop = asyncio.get_running_loop()
    completions = _loops.get(loop)
    if completions is None:
        completions = _loops[loop] = _Completions(loop)
    waiter = completions.register(future, loop)
    try:
        await waiter
    except asyncio.CancelledError:
        future.cancel()
        raise
    return future.result()
