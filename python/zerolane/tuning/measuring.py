"""Runs settings: loads them when their turn first comes, and times their calls in blocks."""

from __future__ import annotations

import gc
import os
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter, perf_counter_ns
from typing import Any

import numpy as np

from zerolane.errors import Error, Unsupported
from zerolane.lanes.lanes import Lanes
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.tuning.halving import Block, Unusable
from zerolane.tuning.setting import Setting

_LEAST_CALLS, _MOST_CALLS = 3, 200
_SAMPLES = 4  # that are called in turn
_WARM_UP_S = 0.1

Arrays = Mapping[str, Any]


@dataclass(slots=True)
class _Open:
    block: Callable[[int], Block]
    call_s: float
    bytes: int


class Measurer:
    """Blocks of calls of settings, on the same inputs.

    files: of the artefacts, or bytes of a model. Sessions stay loaded while their files together
    are below a quarter of the free memory; the one unused longest is closed first.
    """

    def __init__(
        self, files: Mapping[str, Path | bytes], samples: Sequence[Arrays], device: str = "auto"
    ) -> None:
        self._files = files
        self._samples = samples
        self._device = device
        self._open: OrderedDict[Setting, _Open] = OrderedDict()
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._most_bytes = free // 4

    def __call__(self, setting: Setting, seconds: float) -> Block:
        """Calls for about so many seconds, at least three, on a warm setting."""
        opened = self._get(setting)
        calls = max(_LEAST_CALLS, min(_MOST_CALLS, int(seconds / opened.call_s)))
        collecting = gc.isenabled()
        gc.disable()
        try:
            block = opened.block(calls)
        except Error as error:
            raise Unusable(f"does not run: {error}") from error
        finally:
            if collecting:
                gc.enable()
        opened.call_s = block.wall_us / len(block.us) / 1e6
        return block

    def close(self) -> None:
        """Close all sessions."""
        self._open.clear()

    def _get(self, setting: Setting) -> _Open:
        if setting in self._open:
            self._open.move_to_end(setting)
            return self._open[setting]
        model = self._files[setting.artefact]
        size = len(model) if isinstance(model, bytes) else file_bytes(model)
        while self._open and size + sum(o.bytes for o in self._open.values()) > self._most_bytes:
            self._open.popitem(last=False)
        try:
            session = open_setting(setting, model)
            inputs = batches(self._samples, setting.batch)[:_SAMPLES]
            rows = setting.batch or _rows(inputs[0])
            block = _bound(session, inputs, rows)
            if setting.lanes > 1:
                block = _in_lanes(session, setting.lanes, inputs, rows)
            end = perf_counter() + _WARM_UP_S
            warm = block(_LEAST_CALLS)
            while perf_counter() < end:
                warm = block(_LEAST_CALLS)
        except Error as error:
            raise Unusable(f"does not load: {error}") from error
        self._open[setting] = _Open(block, warm.wall_us / len(warm.us) / 1e6, size)
        return self._open[setting]


def open_setting(setting: Setting, model: Path | bytes) -> Session:
    """The session of a setting."""
    return load(
        model,
        backend=setting.backend,
        options=setting.options,
        build=None if not setting.build else _build_options(setting),
    )


def _build_options(setting: Setting) -> Any:
    from zerolane.builder.options import BuildOptions

    return BuildOptions(**dict(setting.build))  # type: ignore[arg-type]


def file_bytes(path: Path) -> int:
    """Of a model's file and what lies beside it under its name, as external data does."""
    beside = path.with_name(path.name + ".data")
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def batches(samples: Sequence[Arrays], rows: int) -> list[dict[str, Any]]:
    """Inputs of so many rows each, from the samples' rows in turn; 0: the samples as they are."""
    if not rows:
        return [dict(sample) for sample in samples]
    names = samples[0].keys()
    stacked = {name: np.concatenate([sample[name] for sample in samples]) for name in names}
    count = len(next(iter(stacked.values())))
    starts = range(0, max(count, 1), rows)
    turns = [np.arange(start, start + rows) % count for start in starts]
    return [{name: array[turn] for name, array in stacked.items()} for turn in turns]


def _rows(sample: Arrays) -> int:
    shapes = [np.shape(value) for value in sample.values()]
    return int(shapes[0][0]) if shapes and shapes[0] else 1


def _bound(session: Session, inputs: Sequence[Arrays], rows: int) -> Callable[[int], Block]:
    """One caller, on fixed memory where the model's types allow that."""
    calls: list[Callable[[], object]]
    try:
        calls = [session._bind(dict(values), None, None) for values in inputs]
    except Unsupported:  # strings, sequences, maps
        calls = [partial(session.run, dict(values)) for values in inputs]

    def block(count: int) -> Block:
        calls[0]()  # refills the caches; not timed
        times = []
        begun = perf_counter_ns()
        for turn in range(count):
            call = calls[turn % len(calls)]
            start = perf_counter_ns()
            call()
            times.append(perf_counter_ns() - start)
        wall = perf_counter_ns() - begun
        return Block(tuple(t / 1e3 for t in times), wall / 1e3, count * rows)

    return block


def _in_lanes(
    session: Session, lanes: int, inputs: Sequence[Arrays], rows: int
) -> Callable[[int], Block]:
    """As many calls in flight as there are lanes; a call's time is from its hand-over on."""
    pool = Lanes(session, lanes, slots=lanes)

    def block(count: int) -> Block:
        times: list[int] = []
        flying: deque[tuple[int, Any]] = deque()

        def land() -> None:
            start, future = flying.popleft()
            future.result()
            times.append(perf_counter_ns() - start)

        begun = perf_counter_ns()
        for turn in range(count):
            if len(flying) == lanes:
                land()
            start = perf_counter_ns()
            flying.append((start, pool.submit(**inputs[turn % len(inputs)])))
        while flying:
            land()
        wall = perf_counter_ns() - begun
        return Block(tuple(t / 1e3 for t in times), wall / 1e3, count * rows)

    return block
