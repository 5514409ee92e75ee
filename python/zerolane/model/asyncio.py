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
        self.queue = _native.CompletionQueue()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._tokens = itertools.count()
        loop.add_reader(self.queue.fileno(), self._wake)

    def expect(self, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[None]]:
        """A token, and what is done once `queue` has received it."""
        token = next(self._tokens)
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiting[token] = waiter
        return token, waiter

    def forget(self, token: int) -> None:
        """The token will not come."""
        self._waiting.pop(token, None)

    def _wake(self) -> None:
        for token in self.queue.drain():
            waiter = self._waiting.pop(token, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)


_loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Completions] = (
    weakref.WeakKeyDictionary()
)


def _of(loop: asyncio.AbstractEventLoop) -> _Completions:
    completions = _loops.get(loop)
    if completions is None:
        completions = _loops[loop] = _Completions(loop)
    return completions


async def submit(
    lanes: _native.Lanes,
    args: tuple[Any, ...],
    inputs: dict[str, Any] | None,
    deadline_ms: float | None,
) -> Future:
    """Queue a call on lanes, waiting for a slot without blocking the event loop."""
    loop = asyncio.get_running_loop()
    completions = _of(loop)
    began = loop.time()
    left_ms = deadline_ms
    while True:
        token, waiter = completions.expect(loop)
        try:
            future: Future | None = lanes._try_submit(
                args, inputs, left_ms, completions.queue, token
            )
        except BaseException:
            completions.forget(token)
            raise
        if future is not None:
            completions.forget(token)
            return future
        try:
            await waiter
        except asyncio.CancelledError:
            lanes._pass_on(completions.queue, token)
            completions.forget(token)
            raise
        if deadline_ms is not None:  # where nothing is left, the lane refuses the call
            left_ms = max(deadline_ms - (loop.time() - began) * 1e3, 1e-6)


async def wait(future: Future) -> Any:
    """The future's result, without blocking the loop; cancelling ends the run."""
    loop = asyncio.get_running_loop()
    completions = _of(loop)
    token, waiter = completions.expect(loop)
    future._notify(completions.queue, token)
    try:
        await waiter
    except asyncio.CancelledError:
        future.cancel()
        raise
    return future.result()
