"""`zl.Contract`: a callable that is ready only once it has proven how fast it is."""

from __future__ import annotations

import atexit
import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from zerolane import _native
from zerolane.errors import ContractBroken, InvalidArgument
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.model.session import Session

# A call after so long without one counts as the first after idling, where idle_ms= says nothing.
_IDLE_MS = 10.0


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What the warm-up saw of one sample: calls made, and the p99 of the last ones of them."""

    shapes: str
    calls: int
    p99_ms: float


@dataclass(frozen=True, slots=True)
class ContractStats:
    """What a contract has counted.

    ready: whether the warm-up has proven the promise. early_calls: calls before that; they count
        for nothing else.
    calls: calls since then; failures: those that raised; deadline_misses: those above deadline_ms.
    p99_ms: of the last calls (`window`), None before the first; broken: whether it is above the
        promise now; p99_breaches: how often it rose above it.
    latency_us, first_latency_us: count and percentiles of calls that did not raise; first calls
        after idling are only in the second.
    pulses: runs to keep warm; of these cancelled by calls, and failed (pulse_failure: what the last
        one said); pulse_share: their part of the time.
    warm_up: one entry a sample.
    """

    ready: bool
    early_calls: int
    calls: int
    failures: int
    deadline_misses: int
    p99_ms: float | None
    broken: bool
    p99_breaches: int
    latency_us: Mapping[str, float]
    first_latency_us: Mapping[str, float]
    pulses: int
    pulses_cancelled: int
    pulses_failed: int
    pulse_failure: str
    pulse_share: float
    warm_up: tuple[WarmUp, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


class Contract(_native.Contract):
    """Wraps a callable and holds it to a latency: `fast = zl.Contract(s, p99_ms=2, samples=[x])`.

    Calling it calls `target` (a Session, a Binding, a Batcher, or any callable) with the same
    arguments and returns what that returns. `ready` turns true once `wait_ready` has seen the
    promise kept; from then on breaches are counted, and shown by `stats()` and `zl.metrics()`.

    p99_ms: at most 1 % of the last `warmup` calls may take longer while warming up, and of the last
        `window` calls in service.
    deadline_ms: no call may take longer. While warming up none of the last `warmup` may; in service
        each that does is counted (it is not ended: give `deadline_ms` to the call for that).
    samples: representative inputs: arrays, tuples of positional arguments, or dicts of inputs by
        name; each distinct shape that comes in service should be among them.
    shapes: for a Session, instead of samples: shapes by input name, or several of those; values are
        random.
    idle_ms: keep-warm pulses are made once nothing has been called for so long (None: none). They
        run on a thread and on memory of their own, never begin while a call is in progress, and
        a call that comes meanwhile cancels the pulse and does not wait.
    duty: the share of time that pulses may take.
    pulse: what to run to keep warm, from any thread. Default: the first sample, for a Session or a
        Binding in native code; for another callable a call of it with the first sample.
    name: in metrics and traces.

    Any thread, where the target allows it.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        *,
        p99_ms: float | None = None,
        deadline_ms: float | None = None,
        warmup: int = 200,
        samples: Sequence[Any] | None = None,
        shapes: Shapes | Sequence[Shapes] | None = None,
        window: int = 1000,
        idle_ms: float | None = None,
        duty: float = 0.01,
        pulse: Callable[[], object] | None = None,
        name: str | None = None,
    ) -> None:
        if not callable(target):
            raise InvalidArgument(
                f"making a contract: the target is a {type(target).__name__}, expected something "
                "that can be called; give a session, a binding or a function",
                "target",
            )
        if p99_ms is None and deadline_ms is None:
            raise InvalidArgument(
                "making a contract: neither p99_ms nor deadline_ms is given, expected a promise; "
                "give one of them",
                "p99_ms",
            )
        for what, value in (("p99_ms", p99_ms), ("deadline_ms", deadline_ms), ("idle_ms", idle_ms)):
            _check(what, value, value is None or 0 < value < 1e9, "milliseconds above zero")
        for what, count in (("warmup", warmup), ("window", window)):
            good = type(count) is int and 1 <= count <= 10_000_000
            _check(what, count, good, "a number of calls from 1 to 10,000,000")
        _check("duty", duty, 0 < duty <= 1, "a share of time above 0 and up to 1")
        self._p99_ms = p99_ms
        self._deadline_ms = deadline_ms
        self._warmup = warmup
        self._samples = _samples(target, samples, shapes)
        self._warming = threading.Lock()
        self._warm_up: tuple[WarmUp, ...] = ()
        _native.Contract.__init__(
            self,
            target,
            name or _name_of(target),
            _nanoseconds(p99_ms),
            _nanoseconds(deadline_ms),
            window,
            _nanoseconds(idle_ms if idle_ms is not None else _IDLE_MS),
        )
        if idle_ms is not None:
            chosen: Any = pulse if pulse is not None else _pulse(target, self._samples[0])
            self._guard(chosen, duty)
            _end_at_exit(self)

    def wait_ready(self, timeout: float | None = 60.0) -> None:
        """Warm up until the promise is proven; returns at once if it has been.

        Calls the target with each sample in turn, on this thread, until the last `warmup` calls of
        every one of them keep the promise. Raises ContractBroken when that has not come about after
        `timeout` seconds (None: never gives up), and what the target raises. A service that answers
        meanwhile that it is not ready runs this on a thread.
        """
        if self.ready:
            return
        end = math.inf if timeout is None else time.monotonic() + timeout
        if not self._warming.acquire(timeout=-1 if timeout is None else max(0, timeout)):
            raise ContractBroken(
                f"warming up {self.name}: another thread is at it and was not done after {timeout} "
                "s, expected the promise to be proven by then; wait longer",
                self.name,
            )
        try:
            if not self.ready:
                self._prove(end)
        finally:
            self._warming.release()

    def _prove(self, end: float) -> None:
        proofs = [_Proof(sample, self._warmup) for sample in self._samples]
        while not all(proof.holds(self._p99_ms, self._deadline_ms) for proof in proofs):
            for proof in proofs:
                if time.monotonic() > end:
                    self._warm_up = tuple(proof.seen() for proof in proofs)
                    raise self._broken(proofs)
                proof.call(self)
        self._warm_up = tuple(proof.seen() for proof in proofs)
        self._set_ready()

    def _broken(self, proofs: list[_Proof]) -> ContractBroken:
        worst = max(
            (p for p in proofs if not p.holds(self._p99_ms, self._deadline_ms)),
            key=lambda p: p.seen().p99_ms,
        )
        seen = worst.seen()
        promised = [f"p99 <= {self._p99_ms} ms"] if self._p99_ms is not None else []
        if self._deadline_ms is not None:
            promised.append(f"every call <= {self._deadline_ms} ms")
        promise = self._p99_ms if self._p99_ms is not None else self._deadline_ms
        return ContractBroken(
            f"warming up {self.name} with {seen.shapes}: after {seen.calls} calls the p99 of the "
            f"last {len(worst.last_ns)} is {seen.p99_ms:.3f} ms and the longest "
            f"{worst.longest_ms():.3f} ms, promised over {self._warmup} calls: "
            f"{' and '.join(promised)}; promise less, wait longer, or see with zl.trace what takes "
            "the time",
            self.name,
            measured_ms=seen.p99_ms,
            promised_ms=promise or 0,
        )

    async def arun(self, /, *args: Any, **kwargs: Any) -> Any:
        """Like calling it, through the target's own `arun`."""
        call = self._begin()
        failed = True
        try:
            result = await self.target.arun(*args, **kwargs)
            failed = False
        finally:
            self._end(call, failed)
        return result

    def stats(self) -> ContractStats:
        """What has been counted so far."""
        figures = self._figures()
        watched = figures["guarded_ns"]
        return ContractStats(
            ready=self.ready,
            early_calls=figures["early_calls"],
            calls=figures["calls"],
            failures=figures["failures"],
            deadline_misses=figures["deadline_misses"],
            p99_ms=figures["window_p99_ns"] / 1e6 if figures["window_calls"] else None,
            broken=figures["p99_broken"],
            p99_breaches=figures["p99_breaches"],
            latency_us=figures["latency"],
            first_latency_us=figures["first_latency"],
            pulses=figures["pulses"],
            pulses_cancelled=figures["pulses_cancelled"],
            pulses_failed=figures["pulses_failed"],
            pulse_failure=figures["pulse_failure"],
            pulse_share=figures["pulse_ns"] / watched if watched else 0.0,
            warm_up=self._warm_up,
        )

    def close(self) -> None:
        """End the keep-warm pulses. Calls go on. Blocks for a pulse in progress."""
        self._close()

    def __enter__(self) -> Contract:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        promises = {"p99_ms": self._p99_ms, "deadline_ms": self._deadline_ms}
        shown = ", ".join(f"{k}={v}" for k, v in promises.items() if v is not None)
        state = "ready" if self.ready else "not ready"
        return f"<zerolane.Contract {self.name!r}: {shown}, {state}>"


class _Proof:
    """The last calls of one sample."""

    def __init__(self, sample: tuple[Any, ...], size: int) -> None:
        self.sample = sample
        self.size = size
        self.calls = 0
        self.last_ns: deque[int] = deque(maxlen=size)

    def call(self, target: Callable[..., Any]) -> None:
        begin = time.perf_counter_ns()
        target(*self.sample)
        self.last_ns.append(time.perf_counter_ns() - begin)
        self.calls += 1

    def holds(self, p99_ms: float | None, deadline_ms: float | None) -> bool:
        if len(self.last_ns) < self.size:
            return False
        if deadline_ms is not None and self.longest_ms() > deadline_ms:
            return False
        if p99_ms is None:
            return True
        return sum(ns > p99_ms * 1e6 for ns in self.last_ns) <= self.size // 100

    def longest_ms(self) -> float:
        return max(self.last_ns, default=0) / 1e6

    def seen(self) -> WarmUp:
        ordered = sorted(self.last_ns)
        p99 = ordered[len(ordered) - len(ordered) // 100 - 1] / 1e6 if ordered else math.nan
        return WarmUp(_shapes_text(self.sample), self.calls, p99)


def _check(what: str, value: object, good: bool, expected: str) -> None:
    if not good:
        raise InvalidArgument(
            f"making a contract: {what} is {value!r}, expected {expected}; give another value", what
        )


def _nanoseconds(ms: float | None) -> int:
    return 0 if ms is None else max(1, round(ms * 1e6))


def _name_of(target: Any) -> str:
    if isinstance(target, _native.Binding):
        target = target.session
    if isinstance(target, Session):
        return target.name
    return str(getattr(target, "__qualname__", type(target).__name__))


def _samples(
    target: Any, samples: Sequence[Any] | None, shapes: Shapes | Sequence[Shapes] | None
) -> list[tuple[Any, ...]]:
    """Positional arguments of each call of the warm-up."""
    if samples is not None and shapes is not None:
        raise InvalidArgument(
            "making a contract: samples and shapes are given, expected one of them; leave one out",
            "shapes",
        )
    if samples is not None:
        if isinstance(samples, str | bytes | Mapping) or not isinstance(samples, Sequence):
            raise InvalidArgument(
                f"making a contract: samples is a {type(samples).__name__}, expected a list of "
                "inputs; put it into a list",
                "samples",
            )
        made = [one if isinstance(one, tuple) else (one,) for one in samples]
    elif isinstance(target, Session):
        each = [shapes] if shapes is None or isinstance(shapes, Mapping) else list(shapes)
        made = [(complete_inputs(target, shapes=one),) for one in each]
    elif shapes is not None:
        raise InvalidArgument(
            f"making a contract: shapes are given for a {type(target).__name__}, expected a "
            "Session; give samples",
            "shapes",
        )
    elif isinstance(target, _native.Binding):
        made = [()]
    else:
        made = []
    if not made:
        raise InvalidArgument(
            f"making a contract: there is no sample to call the {type(target).__name__} with, "
            "expected one at least; give samples=[...], [()] for a call without arguments",
            "samples",
        )
    return made


def _shapes_text(sample: tuple[Any, ...]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Mapping):
            return "{" + ", ".join(f"{k}: {one(v)}" for k, v in value.items()) + "}"
        shape = getattr(value, "shape", None)
        return "x".join(map(str, shape)) or "scalar" if shape is not None else type(value).__name__

    return ", ".join(one(value) for value in sample) or "no arguments"


def _pulse(target: Any, sample: tuple[Any, ...]) -> Any:
    """What keeps `target` warm, without touching memory that a caller may be using."""
    if isinstance(target, _native.Binding):
        own = _own_binding(target.session, target.inputs)
        if own is None:
            raise InvalidArgument(
                "making a contract: not all inputs of the binding are NumPy arrays of numbers, "
                "expected to copy them for keep-warm pulses; give pulse=, something that runs the "
                "model on other memory",
                "pulse",
            )
        return own
    if isinstance(target, Session):
        if len(sample) == 1 and isinstance(sample[0], Mapping):
            inputs = sample[0]
        else:
            names = [spec.name for spec in target.inputs]
            inputs = dict(zip(names, sample, strict=False))
        own = _own_binding(target, inputs)
        if own is not None:
            return own
    return lambda: target(*sample)


def _own_binding(session: Session, inputs: Mapping[str, Any]) -> _native.Binding | None:
    """A binding to copies of the inputs; None where they are not all NumPy arrays of numbers."""
    arrays = [inputs.get(spec.name) for spec in session.inputs]
    if not all(isinstance(a, np.ndarray) and a.dtype.kind not in "OSUT" for a in arrays):
        return None
    return session.bind(*(np.array(array) for array in arrays))


def _end_at_exit(contract: Contract) -> None:
    """The guard's thread must not ask for an interpreter that is gone."""
    held = weakref.ref(contract)

    def end() -> None:
        contract = held()
        if contract is not None:
            contract.close()
        atexit.unregister(end)

    atexit.register(end)
    # Not at exit itself, where it would come before `end` and take it away.
    weakref.finalize(contract, atexit.unregister, end).atexit = False
