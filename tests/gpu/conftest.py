from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.gpu import engines, needs
from tests.gpu.cuda_table import ON_DEVICE, Table

SCRATCH = (8 << 20) if needs.STAND_IN else (1 << 30)
FILLS = 20 if needs.STAND_IN else 100


@pytest.fixture
def table() -> Table:
    return needs.table()


class Resources:
    """Objects of the table that go when the test ends; device 0."""

    def __init__(self, table: Table, stack: ExitStack) -> None:
        self.table, self._stack = table, stack

    def stream(self, priority: int = 0) -> int:
        made = self.table.made("stream_create", 0, priority)
        self._stack.callback(self.table.stream_destroy, 0, made)
        return made

    def event(self, *, timing: bool = False) -> int:
        made = self.table.made("event_create", 0, int(timing), 0)
        self._stack.callback(self.table.event_destroy, 0, made)
        return made

    def device(self, count: int) -> int:
        made = self.table.made("device_allocate", 0, count)
        self._stack.callback(self.table.device_free, 0, made)
        return made

    def pinned(self, count: int) -> int:
        made = self.table.made("host_allocate", 0, count)
        self._stack.callback(self.table.host_free, 0, made)
        return made

    def pool(self, threshold: int = 2**64 - 1) -> int:
        made = self.table.made("pool_create", 0, threshold)
        self._stack.callback(self.table.pool_destroy, 0, made)
        return made

    def graph(self, stream: int, work: Callable[[], object]) -> int:
        """What `work` enqueues on the stream, captured."""
        self.table.capture_begin(0, stream)
        try:
            work()
        finally:
            graph = self.table.made("capture_end", 0, stream)
        self._stack.callback(self.table.graph_destroy, 0, graph)
        return graph

    def executable(self, graph: int) -> int:
        made = self.table.made("graph_instantiate", 0, graph)
        self._stack.callback(self.table.graph_exec_destroy, 0, made)
        return made

    def delay(self, stream: int) -> None:
        """Keeps the stream busy for tens of milliseconds, so that wrong order shows."""
        if not hasattr(self, "_scratch"):
            self._scratch = self.device(2 * SCRATCH)
        half = self._scratch + SCRATCH
        for _ in range(FILLS):
            self.table.copy_async(0, self._scratch, half, SCRATCH, ON_DEVICE, stream)


@pytest.fixture
def made(table: Table) -> Iterator[Resources]:
    with ExitStack() as stack:
        yield Resources(table, stack)


@pytest.fixture(params=engines.BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """A backend whose engines run here."""
    name: str = request.param
    engines.require(name)
    return name
