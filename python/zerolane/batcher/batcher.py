"""`zl.Batcher`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from zerolane import _native
from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    from zerolane.model.session import Session


class Batcher(_native.Batcher):
    """Gathers single requests from many threads or coroutines into one run.

    `batcher(x)` blocks the calling thread; `await batcher.arun(x)` suspends the coroutine.
    Arguments and results are as in a call of the session, with the batch dimension: a request has
    one row or more, and gets as many. Both take `deadline_ms=` (a request that still waits then is
    refused with DeadlineExceeded, not run) and `priority=` (-8 to 7, higher ones first). Any
    thread, any event loop. Inputs are host memory and held until the request is done: do not
    change them before.

    Requests are joined along the batch dimension: the first one of the first input that is open in
    the model, wherever its name stands in other inputs and outputs, on any axis; so recurrent state
    that callers carry is joined too. Inputs without it must be equal for a run. A lane that is free
    takes at once what waits; only one that comes from a run of several rows waits for as many to
    come back, up to max_delay_ms. How many rows pay is measured: where larger runs gain nothing,
    requests run alone, in the order in which they came. If a joined run fails, its requests run
    once more, each alone. Runs of less than 0.1 ms are made by the caller itself, where nobody has
    to be woken.

    session: on ONNX Runtime, load it with `threads=1` and take more lanes instead.
    max_batch: rows of a run. A request of more rows runs alone.
    max_queue: requests that may wait; one more raises Unavailable.
    lanes: runs at once. cpus, spin_us: as for `Lanes`.
    buckets: extents that an open dimension is padded to, by its name: {"T": (16, 32, 64)}.
        Requests of one bucket share runs; outputs with that dimension are cut back.
    pad_values: what is padded with, by input; 0 where not given.
    copy: results own their memory. Otherwise those above 16 KiB are views of their run's output,
        whose memory lives as long as any of them.
    """

    def __init__(
        self,
        session: Session,
        *,
        max_batch: int = 16,
        max_delay_ms: float = 0.5,
        max_queue: int = 8192,
        lanes: int = 1,
        cpus: Sequence[int] | None = None,
        spin_us: float = 0.0,
        buckets: Mapping[str, Sequence[int]] | None = None,
        pad_values: Mapping[str, Any] | None = None,
        copy: bool = False,
    ) -> None:
        if not isinstance(session, _native.Session):
            raise InvalidArgument(
                f"making a batcher: session is a {type(session).__name__}, expected what zl.load "
                "returns; load the model first",
                "session",
            )
        self._session = session
        super().__init__(
            session,
            _number("max_batch", max_batch, 1, 32768),
            _number("max_delay_ms", max_delay_ms, 0, 60_000),
            _number("max_queue", max_queue, 1, 2**30),
            _number("lanes", lanes, 1, 256),
            [] if cpus is None else list(cpus),
            _number("spin_us", spin_us, 0, 1e6),
            self._read_buckets(buckets or {}),
            self._read_pads(pad_values or {}),
            bool(copy),
        )

    def _read_buckets(self, buckets: Mapping[str, Sequence[int]]) -> list[tuple[str, list[int]]]:
        open_dims = {
            dim for s in self._session.inputs for dim in s.shape or () if dim.__class__ is str
        }
        found = []
        for name, extents in buckets.items():
            sizes = sorted(extents)
            whole = all(isinstance(size, int) and size > 0 for size in sizes)
            if name not in open_dims or not sizes or not whole:
                raise InvalidArgument(
                    f"making a batcher of {self._session.name}: buckets has {name!r}: {extents!r}, "
                    f"expected sizes above 0 of one of the open dimensions {sorted(open_dims)}; "
                    "check the name and the sizes",
                    "buckets",
                )
            found.append((name, sizes))
        return found

    def _read_pads(self, values: Mapping[str, Any]) -> list[bytes]:
        if not values:
            return []
        import numpy as np

        names = [spec.name for spec in self._session.inputs]
        if not values.keys() <= set(names):
            raise InvalidArgument(
                f"making a batcher of {self._session.name}: pad_values names "
                f"{sorted(values.keys() - set(names))}, the inputs are {names}; check the names",
                "pad_values",
            )
        return [
            np.asarray(values[spec.name], spec.dtype).tobytes() if spec.name in values else b""
            for spec in self._session.inputs
        ]

    def close(self, *, cancel: bool = False) -> None:
        """Take no more requests; answer, or cancel, those that wait. Blocks; any number of
        times."""
        self._close(cancel)

    def stats(self) -> Mapping[str, Any]:
        """Counts of requests (answered, failed, late, cancelled, refused) and runs; rows_per_run;
        percentiles of queue_us and run_us."""
        return self._stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(cancel=kind is not None)

    def __repr__(self) -> str:
        return f"<zerolane.Batcher of {self._session.name!r}>"


def _number(name: str, value: Any, least: float, most: float) -> Any:
    fits = not isinstance(value, bool) and isinstance(value, int | float)
    if not fits or not least <= value <= most:
        raise InvalidArgument(
            f"making a batcher: {name} is {value!r}, expected a number from {least} to {most}; "
            "leave it out for the default",
            name,
        )
    return value
