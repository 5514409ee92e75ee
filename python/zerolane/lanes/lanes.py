"""`zl.Lanes`."""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from zerolane import _native
from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    from zerolane._native import Future
    from zerolane.model.session import Session


class Lanes(_native.Lanes):
    """Native threads that run calls of one session side by side; any thread may use them.

    A lane is a thread with memory for its calls (on a GPU: a stream of its own, so that one lane
    copies while another computes). Calls are taken in the order in which they come, by whichever
    lane is free. At most `slots` calls are in flight; whoever submits one more waits, which is the
    back-pressure. Inputs are held until their call is over: do not change them before.

    session: on ONNX Runtime, load it with `threads=1`, so that each lane computes on its own thread
        alone; with more, all lanes share the library's pool.
    count: of lanes. None: one a usable CPU on the host, 3 on a GPU.
    slots: calls in flight. None: two a lane, so that a lane finds the next call ready.
    cpus: lane i is bound to cpus[i % len(cpus)]. None: not bound.
    spin_us: how long a lane that has nothing to do, and `Future.result` (which then keeps the GIL),
        look for work before they sleep. A hand-off costs a microsecond while they look and some
        40 us once they sleep; looking keeps a CPU busy. 0: they sleep at once.
    """

    def __init__(
        self,
        session: Session,
        count: int | None = None,
        *,
        slots: int | None = None,
        cpus: Sequence[int] | None = None,
        spin_us: float = 0.0,
    ) -> None:
        if not isinstance(session, _native.Session):
            raise InvalidArgument(
                f"making lanes: session is a {type(session).__name__}, expected what zl.load "
                "returns; load the model first",
                "session",
            )
        if count is None:
            count = 3 if session.device.startswith("cuda") else _native.usable_cpus()
        count = _whole("count", count, 1, 256)
        slots = 2 * count if slots is None else _whole("slots", slots, count, 4096)
        if not 0 <= spin_us <= 1e6:
            raise InvalidArgument(
                f"making lanes of {session.name}: spin_us is {spin_us!r}, expected 0 to 1e6; 0 "
                "sleeps at once",
                "spin_us",
            )
        self._session = session
        super().__init__(session, count, slots, [] if cpus is None else list(cpus), spin_us)

    def submit(self, /, *args: Any, deadline_ms: float | None = None, **inputs: Any) -> Future:
        """Queue a call and return its `Future`. Blocks while `slots` calls are in flight.

        Arguments and results as in a direct call. A call whose deadline has passed is not begun.
        """
        return self._submit(args, inputs or None, deadline_ms)

    async def arun(self, /, *args: Any, deadline_ms: float | None = None, **inputs: Any) -> Any:
        """Like `submit`, awaited. Cancelling the task ends the run.

        Where no slot is free it waits for one, and the event loop goes on meanwhile.
        """
        from zerolane.model.asyncio import submit, wait

        return await wait(await submit(self, args, inputs or None, deadline_ms))

    def map(
        self,
        items: Iterable[Any],
        *,
        ordered: bool = True,
        return_exceptions: bool = False,
        deadline_ms: float | None = None,
    ) -> Iterator[Any]:
        """Results of all items, reading `slots` ahead and no further.

        items: each an array, a tuple of arrays in input order, or a dict of name to array.
        ordered: in the order of the items; otherwise pairs (index of the item, result), as they are
            done.
        return_exceptions: the error of a call takes the place of its result. Otherwise it is
            raised when its turn comes, which ends the iteration and cancels calls in flight.
        """
        calls = (self._submit_item(item, deadline_ms) for item in items)
        return (
            self._in_order(calls, return_exceptions)
            if ordered
            else self._as_done(calls, return_exceptions)
        )

    def _submit_item(self, item: Any, deadline_ms: float | None) -> Future | Exception:
        try:
            return self._submit(item if isinstance(item, tuple) else (item,), None, deadline_ms)
        except (TypeError, ValueError, LookupError) as error:  # of this item alone
            return error

    def _in_order(
        self, calls: Iterator[Future | Exception], return_exceptions: bool
    ) -> Iterator[Any]:
        waiting: deque[Future | Exception] = deque()
        try:
            for call in calls:
                waiting.append(call)
                while waiting and (len(waiting) >= self.slots or _is_done(waiting[0])):
                    yield _take(waiting.popleft(), return_exceptions)
            while waiting:
                yield _take(waiting.popleft(), return_exceptions)
        finally:
            for call in waiting:
                _cancel(call)

    def _as_done(
        self, calls: Iterator[Future | Exception], return_exceptions: bool
    ) -> Iterator[tuple[int, Any]]:
        queue = _native.CompletionQueue()
        waiting: dict[int, Future] = {}
        try:
            for index, call in enumerate(calls):
                if isinstance(call, Exception):
                    yield index, _take(call, return_exceptions)
                    continue
                waiting[index] = call
                call._notify(queue, index)
                block = len(waiting) >= self.slots
                for done in _done(queue, block):
                    yield done, _take(waiting.pop(done), return_exceptions)
            while waiting:
                for done in _done(queue, True):
                    yield done, _take(waiting.pop(done), return_exceptions)
        finally:
            for call in waiting.values():
                _cancel(call)

    def close(self, *, cancel: bool = False) -> None:
        """Take no more calls; finish, or end, those in flight. Blocks; any number of times."""
        self._close(cancel)

    def stats(self) -> Mapping[str, Any]:
        """Calls and busy seconds of each lane; queued, in_flight; percentiles of queue_us."""
        return self._stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        return f"<zerolane.Lanes: {self.count} of {self._session.name!r}, {self.slots} slots>"


def _whole(name: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidArgument(
            f"making lanes: {name} is {value!r}, expected a whole number from {least} to {most}; "
            "leave it out for the default",
            name,
        )
    return value


def _is_done(call: Future | Exception) -> bool:
    return isinstance(call, Exception) or call.done()


def _take(call: Future | Exception, return_exceptions: bool) -> Any:
    try:
        if isinstance(call, Exception):
            raise call
        return call.result()
    except Exception as error:
        if not return_exceptions:
            raise
        return error


def _cancel(call: Future | Exception) -> None:
    if not isinstance(call, Exception):
        call.cancel()


def _done(queue: _native.CompletionQueue, block: bool) -> list[int]:
    """Indices of calls that are done; waits for one if `block`."""
    while True:
        done = queue.drain()
        if done or not block:
            return done
        ready = select.poll()  # select() takes no descriptor above 1023
        ready.register(queue.fileno(), select.POLLIN)
        ready.poll()
