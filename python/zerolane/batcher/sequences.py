"""`zl.Sequences`: recurrent state kept for callers, one sequence a caller."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from zerolane.errors import InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zerolane.batcher.batcher import Batcher


class Sequences:
    """States of a recurrent model by sequence, around a `Batcher` that joins their steps.

    store = zl.Sequences(batcher, state={"h": "h_out"})
    sequence = store.create(); y = sequence.step(x) or await sequence.astep(x); sequence.drop()

    Steps of one sequence are made one at a time, in order: a second one while the first is under
    way raises Unavailable. A step that fails leaves the state as it was. Any thread.

    state: output that is the next state, by the input that takes it. A new sequence starts with
        zeros, or with `initial` (arrays by input, with one row).
    max_idle_s: a sequence not stepped for longer is evicted when the next one is created or
        stepped. max_bytes: of all states; the sequences stepped longest ago are evicted for it.
        Stepping an evicted sequence raises NotFound: create a new one.
    """

    def __init__(
        self,
        batcher: Batcher,
        *,
        state: Mapping[str, str],
        initial: Mapping[str, Any] | None = None,
        max_idle_s: float | None = None,
        max_bytes: int | None = None,
    ) -> None:
        import numpy as np

        session = batcher._session
        self._batcher = batcher
        self._name = session.name
        self._state = dict(state)
        inputs = {spec.name: spec for spec in session.inputs}
        outputs = {spec.name: spec for spec in session.outputs}
        if (
            not state
            or not inputs.keys() >= state.keys()
            or not outputs.keys() >= {*state.values()}
        ):
            raise InvalidArgument(
                f"making sequences of {self._name}: state is {dict(state)!r}, expected inputs of "
                f"{sorted(inputs)} to outputs of {sorted(outputs)}; check the names",
                "state",
            )
        given = initial or {}
        self._initial: dict[str, NDArray[Any]] = {}
        for name in state:
            spec = inputs[name]
            shape = [
                1 if isinstance(extent, str) or extent is None else extent
                for extent in spec.shape or ()
            ]
            value = (
                np.array(given[name], spec.dtype) if name in given else np.zeros(shape, spec.dtype)
            )
            self._initial[name] = value
        self._size = sum(value.nbytes for value in self._initial.values())
        if max_bytes is not None and max_bytes < self._size:
            raise InvalidArgument(
                f"making sequences of {self._name}: max_bytes is {max_bytes}, one state takes "
                f"{self._size}; allow more",
                "max_bytes",
            )
        self._max_idle_s = max_idle_s
        self._max_count = None if max_bytes is None else max_bytes // self._size
        self._lock = threading.Lock()  # guards all below
        self._sequences: OrderedDict[int, Sequence] = OrderedDict()  # the one stepped last is last
        self._created = 0
        self._dropped = 0
        self._evicted = 0
        self._steps = 0

    def create(self) -> Sequence:
        """A new sequence, with the initial state."""
        with self._lock:
            self._evict(1)
            sequence = Sequence(self, self._created, dict(self._initial))
            self._sequences[self._created] = sequence
            self._created += 1
        return sequence

    def stats(self) -> Mapping[str, Any]:
        """Counts: live, created, dropped, evicted, steps; bytes of the live states."""
        with self._lock:
            live = len(self._sequences)
            return {
                "live": live,
                "created": self._created,
                "dropped": self._dropped,
                "evicted": self._evicted,
                "steps": self._steps,
                "bytes": live * self._size,
            }

    def _evict(self, room: int) -> None:
        """With the lock: make room for so many. A sequence whose step is under way stays."""
        now = time.monotonic()
        gone: list[int] = []
        for number, sequence in self._sequences.items():  # stepped longest ago first
            idle = self._max_idle_s is not None and now - sequence._used > self._max_idle_s
            left = len(self._sequences) - len(gone) + room
            if not idle and (self._max_count is None or left <= self._max_count):
                break
            if not sequence._busy:
                gone.append(number)
        for number in gone:
            del self._sequences[number]
        self._evicted += len(gone)

    def _begin(self, sequence: Sequence) -> dict[str, NDArray[np.generic]]:
        with self._lock:
            self._evict(0)
            if sequence._number not in self._sequences:
                raise NotFound(
                    f"stepping a sequence of {self._name}: it was dropped or evicted; create a new "
                    "one, or raise max_idle_s or max_bytes",
                    self._name,
                )
            if sequence._busy:
                raise Unavailable(
                    f"stepping a sequence of {self._name}: a step of it is under way; wait for its "
                    "result first",
                    self._name,
                )
            sequence._busy = True
            return sequence._state

    def _end(self, sequence: Sequence, results: Mapping[str, Any] | None) -> None:
        with self._lock:
            sequence._busy = False
            sequence._used = time.monotonic()
            if results is None:
                return
            self._steps += 1
            sequence._state = {name: results[output] for name, output in self._state.items()}
            if sequence._number in self._sequences:
                self._sequences.move_to_end(sequence._number)

    def _result(self, results: Mapping[str, Any]) -> Any:
        states = {*self._state.values()}
        rest = {name: value for name, value in results.items() if name not in states}
        return next(iter(rest.values())) if len(rest) == 1 else rest

    def _drop(self, sequence: Sequence) -> None:
        with self._lock:
            if self._sequences.pop(sequence._number, None) is not None:
                self._dropped += 1

    def __repr__(self) -> str:
        return f"<zerolane.Sequences of {self._name!r}: {len(self._sequences)} live>"


class Sequence:
    """One caller's state; made by `Sequences.create`."""

    __slots__ = ("_busy", "_number", "_state", "_store", "_used")

    def __init__(self, store: Sequences, number: int, state: dict[str, Any]) -> None:
        self._store = store
        self._number = number
        self._state = state
        self._busy = False
        self._used = time.monotonic()

    def step(self, inputs: Mapping[str, Any] | Any, **options: Any) -> Any:
        """Run the model on these inputs and the state, which moves on.

        inputs: name to array, or the array where one input is no state; each with one row.
        options: deadline_ms and priority, as for the batcher. Returns the output that is no state,
        a dict where there are several.
        """
        state = self._store._begin(self)
        results: Mapping[str, Any] | None = None
        try:
            results = self._store._batcher(self._all(inputs, state), **options)
        finally:
            self._store._end(self, results)
        return self._store._result(results)

    async def astep(self, inputs: Mapping[str, Any] | Any, **options: Any) -> Any:
        """The same for coroutines."""
        state = self._store._begin(self)
        results: Mapping[str, Any] | None = None
        try:
            results = await self._store._batcher.arun(self._all(inputs, state), **options)
        finally:
            self._store._end(self, results)
        return self._store._result(results)

    def _all(self, inputs: Mapping[str, Any] | Any, state: Mapping[str, Any]) -> dict[str, Any]:
        if isinstance(inputs, Mapping):
            return {**inputs, **state}
        session = self._store._batcher._session
        free = [spec.name for spec in session.inputs if spec.name not in state]
        if len(free) != 1:
            raise InvalidArgument(
                f"stepping a sequence of {session.name}: one array was given, the inputs without "
                f"state are {free}; give a dict",
                session.name,
            )
        return {free[0]: inputs, **state}

    def drop(self) -> None:
        """Forget the state. Any number of times."""
        self._store._drop(self)
