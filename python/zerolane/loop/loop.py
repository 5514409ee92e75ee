"""A model that runs at a fixed rate on a native thread."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Literal

from zerolane import _native
from zerolane._native import Binding
from zerolane.errors import DeadlineExceeded, InvalidArgument
from zerolane.loop.mailbox import Mailbox, Reading
from zerolane.loop.realtime import Realtime, checked, told
from zerolane.loop.stats import LoopStats, read_stats

_logger = logging.getLogger("zerolane.loop")
_SLICE_S = 0.1
_PATIENCE_S = 5.0

OnResult = Callable[[dict[str, Reading]], object]


class Loop:
    """Runs a binding once a tick on a native thread that never touches Python.

        loop = zl.Loop(s.bind(x=(1, 64)), rate_hz=1000, overrun="skip")
        with loop:
            loop.inputs["x"].write(obs)
            y, age_ms = loop.outputs["y"].read()

    A tick takes the newest message of each input's mailbox, runs the model and writes its outputs
    to their mailboxes with the age of the data they were made from. Ticks before every input has
    been written once do nothing. `inputs` and `outputs` are mailboxes by tensor name. While the
    loop has the binding, nobody else can run it; afterwards it is free again.

    rate_hz: ticks a second, 0.001 to 100,000, at absolute times that never drift. Or
    trigger: the input whose messages are the ticks.
    overrun: "skip": ticks whose time passes while an earlier one runs are left out and the next one
        runs at its own time; "catch_up": they run as soon as possible; "stop": the loop ends.
    deadline_ms: from the time a tick is due (a trigger's message was written) to its outputs; the
        period where a rate is given, else none. A result that comes later is a missed tick; it is
        still written, unless there is a safe output.
    safe: arrays by output name, written in place of a result that is missed or failed, while a run
        hangs (which is then cancelled), and when the loop ends. Their readings are `safe`.
    max_age_ms: an input older than that makes the tick a missed one.
    feedback: {output: input}: what a tick returned there is that input in the next one, as for
        recurrent state. Those inputs have no mailbox; their first value is what the binding holds.
    inputs: mailboxes to take in place of new ones: another loop's output, another process's.
    name: makes the mailboxes readable from other processes: `zl.Mailbox.open("NAME/TENSOR")`; also
        the label of its metrics, which is the model's name without.
    spin_us: the thread no longer sleeps that long before a tick (after one, with a trigger), at the
        price of that much of a CPU; 10,000 at most, 0 by default.
    cpus, priority, lock_memory: as in `zl.realtime`, for the loop's thread.
    on_result: called with {output: Reading} on a Python thread of its own whenever there is a new
        result and the last call has returned: the latest wins. What it raises is logged and counted
        in `callback_failures`, and the loop does not notice.

    A run that fails is a missed tick: the loop goes on (with "stop" it ends), and `close` raises
    the first failure.
    """

    def __init__(
        self,
        binding: Binding,
        *,
        rate_hz: float | None = None,
        trigger: str | None = None,
        overrun: Literal["skip", "catch_up", "stop"] = "skip",
        deadline_ms: float | None = None,
        safe: Mapping[str, Any] | None = None,
        max_age_ms: float | None = None,
        feedback: Mapping[str, str] | None = None,
        inputs: Mapping[str, Mailbox] | None = None,
        name: str | None = None,
        spin_us: float | None = None,
        cpus: Iterable[int] | None = None,
        priority: int | None = None,
        lock_memory: bool = False,
        on_result: OnResult | None = None,
    ) -> None:
        numbers, level = checked(cpus, priority)
        self._loop = _native.Loop(
            binding,
            {
                "rate_hz": _number(rate_hz),
                "trigger": trigger,
                "overrun": overrun,
                "deadline_ms": deadline_ms,
                "safe": dict(safe or {}),
                "max_age_ms": max_age_ms,
                "feedback": dict(feedback or {}),
                "inputs": {name: _box(name, box) for name, box in (inputs or {}).items()},
                "name": name,
                "spin_us": spin_us or None,
                "cpus": numbers,
                "priority": level,
                "lock_memory": lock_memory,
            },
        )
        made_inputs, made_outputs = self._loop.mailboxes()
        self._inputs = _over(made_inputs) | dict(inputs or {})
        self._outputs = _over(made_outputs)
        self._on_result = on_result
        self._watcher: threading.Thread | None = None
        self._closing = threading.Event()
        self.callback_failures = 0

    @property
    def inputs(self) -> Mapping[str, Mailbox]:
        return MappingProxyType(self._inputs)

    @property
    def outputs(self) -> Mapping[str, Mailbox]:
        return MappingProxyType(self._outputs)

    @property
    def running(self) -> bool:
        """Whether it ticks: it was started, and neither closed nor ended by a failure."""
        return self._loop.running()

    def start(self) -> Realtime:
        """Start ticking, once; returns what the system refused of cpus, priority, lock_memory."""
        granted = told(self._loop.start())
        if self._on_result is not None:
            boxes = {name: box.another() for name, box in self._outputs.items()}
            arguments = (weakref.ref(self), self._closing, boxes, self._on_result)
            self._watcher = threading.Thread(
                target=_deliver, args=arguments, name="zl-loop-results", daemon=True
            )
            self._watcher.start()
        return granted

    def close(self, timeout_s: float = _PATIENCE_S) -> None:
        """End the run in progress and the loop; again: nothing. The mailboxes stay readable.

        Returns within the timeout. Raises DeadlineExceeded where a run has not ended by then, so
        that its thread and memory are left behind; otherwise the first failure of a run, or what
        ended the loop.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        ended = self._loop.close(timeout_s)
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join(timeout_s)
        if not ended:
            raise DeadlineExceeded(
                f"closing a loop: its run did not end within {timeout_s} s of being cancelled, "
                "expected it to end between two operators; its thread and memory are left behind "
                "until the process ends",
                "timeout_s",
            )
        self._loop.raise_error()

    def stats(self) -> LoopStats:
        """Counts and times since the start; also after closing. Never raises."""
        return read_stats(self._loop)

    def quantiles_us(
        self, which: Literal["call", "late", "age"], fractions: Sequence[float]
    ) -> list[float]:
        """Points of the distributions that `stats` sums up; a fraction is 0 to 1."""
        return self._loop.percentiles_us(which, list(fractions))

    def __enter__(self) -> Loop:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close()
        except Exception:  # the error on its way is the one to see
            _logger.exception("a loop had failed before the block around it did")

    def _callback_failed(self) -> None:
        self.callback_failures += 1
        _logger.exception("on_result of a loop failed; the loop goes on")


def _deliver(
    loop: weakref.ref[Loop],  # so that a loop which is let go is closed
    closing: threading.Event,
    boxes: dict[str, Mailbox],
    on_result: OnResult,
) -> None:
    """The thread of on_result."""
    last = next(reversed(boxes))  # written last: when its message is there, the others' are
    seen = 0
    while not closing.is_set():
        if not boxes[last].wait(seen, _SLICE_S):
            if not _ticks(loop):
                return
            continue
        try:
            results = {name: box.read() for name, box in boxes.items()}
            seen = max(seen + 1, results[last].sequence)
            on_result(results)
        except Exception:
            _count_failure(loop)


def _ticks(loop: weakref.ref[Loop]) -> bool:
    here = loop()
    return here is not None and here.running


def _count_failure(loop: weakref.ref[Loop]) -> None:
    here = loop()
    if here is not None:
        here._callback_failed()


def _over(boxes: Mapping[str, _native.Mailbox]) -> dict[str, Mailbox]:
    return {name: Mailbox._over(box) for name, box in boxes.items()}


def _box(name: str, box: Mailbox) -> _native.Mailbox:
    if isinstance(box, Mailbox):
        return box._end
    raise InvalidArgument(
        f"making a loop: inputs[{name!r}] is a {type(box).__name__}, expected a zl.Mailbox; give "
        "one, and write arrays into it",
        name,
    )


def _number(rate_hz: Any) -> float | None:
    try:
        return None if rate_hz is None else float(rate_hz)
    except (TypeError, ValueError):
        raise InvalidArgument(
            f"making a loop: rate_hz is {rate_hz!r}, expected a number; give ticks a second",
            "rate_hz",
        ) from None
