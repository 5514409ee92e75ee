"""Graphs: capture, replay, update in place, what cannot be captured, and what a graph keeps."""

from __future__ import annotations

import ctypes
import threading

import numpy as np
import pytest

from tests.gpu import cuda_table
from tests.gpu.conftest import Resources
from tests.gpu.cuda_table import ON_DEVICE, TO_HOST, Failed, HostFunction, Table

COUNT = 4096


def read(table: Table, device: int, stream: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    back = np.zeros(COUNT, np.uint8)
    table.copy_async(0, back.ctypes.data, device, COUNT, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    return back


def nodes(table: Table, graph: int) -> int:
    return int(table.number("graph_nodes", 0, graph, kind=ctypes.c_uint64))


def test_capture_records_and_does_not_run(made: Resources) -> None:
    table, stream, device = made.table, made.stream(), made.device(COUNT)
    table.fill_async(0, device, 1, COUNT, stream)
    graph = made.graph(stream, lambda: table.fill_async(0, device, 2, COUNT, stream))
    assert nodes(table, graph) == 1
    assert (read(table, device, stream) == 1).all()
    executable = made.executable(graph)
    assert (read(table, device, stream) == 1).all()
    table.graph_launch(0, executable, stream)
    assert (read(table, device, stream) == 2).all()


def test_replays_read_what_is_there_now(made: Resources) -> None:
    table, stream = made.table, made.stream()
    source, target = made.device(COUNT), made.device(COUNT)
    executable = made.executable(
        made.graph(stream, lambda: table.copy_async(0, target, source, COUNT, ON_DEVICE, stream))
    )
    for byte in range(20):
        table.fill_async(0, source, byte, COUNT, stream)
        table.graph_launch(0, executable, stream)
        assert (read(table, target, stream) == byte).all()


def test_update_in_place(made: Resources) -> None:
    table, stream = made.table, made.stream()
    first, second = made.device(COUNT), made.device(COUNT)
    table.fill_async(0, second, 0, COUNT, stream)
    executable = made.executable(
        made.graph(stream, lambda: table.fill_async(0, first, 3, COUNT, stream))
    )
    other = made.graph(stream, lambda: table.fill_async(0, second, 4, COUNT, stream))
    assert table.number("graph_update", 0, executable, other) == 1
    table.graph_launch(0, executable, stream)
    assert (read(table, second, stream) == 4).all()


def test_update_to_another_structure_is_refused_and_harmless(made: Resources) -> None:
    table, stream, device = made.table, made.stream(), made.device(COUNT)
    executable = made.executable(
        made.graph(stream, lambda: table.fill_async(0, device, 5, COUNT, stream))
    )

    def two() -> None:
        table.fill_async(0, device, 6, COUNT, stream)
        table.fill_async(0, device, 7, COUNT // 2, stream)

    assert table.number("graph_update", 0, executable, made.graph(stream, two)) == 0
    table.graph_launch(0, executable, stream)
    assert (read(table, device, stream) == 5).all()


def test_nothing_enqueued_is_an_empty_graph_that_can_be_told(made: Resources) -> None:
    assert nodes(made.table, made.graph(made.stream(), lambda: None)) == 0


def test_state_of_a_capture(made: Resources) -> None:
    table, stream = made.table, made.stream()
    assert table.number("capture_state", 0, stream) == 0
    table.capture_begin(0, stream)
    assert table.number("capture_state", 0, stream) == 1
    table.graph_destroy(0, table.made("capture_end", 0, stream))
    assert table.number("capture_state", 0, stream) == 0


def test_a_broken_capture_leaves_a_usable_stream(made: Resources) -> None:
    """Waiting for a stream that is being captured is not allowed, and breaks the capture."""
    table, stream, device = made.table, made.stream(), made.device(COUNT)
    table.capture_begin(0, stream)
    table.fill_async(0, device, 1, COUNT, stream)
    with pytest.raises(Failed) as caught:
        table.stream_synchronize(0, stream)
    assert caught.value.kind == cuda_table.CAPTURE
    with pytest.raises(Failed) as caught:
        table.made("capture_end", 0, stream)
    assert caught.value.kind == cuda_table.CAPTURE
    assert table.number("capture_state", 0, stream) == 0
    table.fill_async(0, device, 9, COUNT, stream)
    assert (read(table, device, stream) == 9).all()


def test_another_thread_may_work_during_a_capture(made: Resources) -> None:
    table, stream, device = made.table, made.stream(), made.device(COUNT)
    seen: list[bool] = []

    def work() -> None:
        other = table.made("stream_create", 0, 0)
        block = table.made("device_allocate", 0, COUNT)
        table.fill_async(0, block, 6, COUNT, other)
        seen.append(bool((read(table, block, other) == 6).all()))
        table.device_free(0, block)
        table.stream_destroy(0, other)

    def captured() -> None:
        table.fill_async(0, device, 2, COUNT, stream)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    executable = made.executable(made.graph(stream, captured))
    table.graph_launch(0, executable, stream)
    assert seen == [True]
    assert (read(table, device, stream) == 2).all()


def test_two_streams_in_one_graph(made: Resources) -> None:
    """A second stream joins the capture by an event and comes back by one."""
    table, first, second = made.table, made.stream(), made.stream()
    fork, join = made.event(), made.event()
    source, target = made.device(COUNT), made.device(COUNT)

    def work() -> None:
        table.fill_async(0, source, 3, COUNT, first)
        table.event_record(0, fork, first)
        table.stream_wait_event(0, second, fork)
        table.copy_async(0, target, source, COUNT, ON_DEVICE, second)
        table.event_record(0, join, second)
        table.stream_wait_event(0, first, join)

    executable = made.executable(made.graph(first, work))
    table.graph_launch(0, executable, first)
    assert (read(table, target, first) == 3).all()


def test_host_work_runs_at_every_replay(made: Resources) -> None:
    table, stream = made.table, made.stream()
    calls: list[int] = []
    work = HostFunction(lambda _: calls.append(1))
    address = ctypes.cast(work, ctypes.c_void_p)
    executable = made.executable(
        made.graph(stream, lambda: table.launch_host(0, stream, address, None))
    )
    assert calls == []
    for _ in range(5):
        table.graph_launch(0, executable, stream)
    table.stream_synchronize(0, stream)
    assert len(calls) == 5


def test_what_a_graph_keeps_goes_with_the_last_of_it(made: Resources) -> None:
    table, stream, device = made.table, made.stream(), made.device(COUNT)
    gone = threading.Event()
    destroy = HostFunction(lambda _: gone.set())
    table.capture_begin(0, stream)
    table.fill_async(0, device, 1, COUNT, stream)
    graph = table.made("capture_end", 0, stream)
    table.graph_retain(0, graph, device, ctypes.cast(destroy, ctypes.c_void_p))
    executable = table.made("graph_instantiate", 0, graph)
    table.graph_launch(0, executable, stream)
    table.graph_destroy(0, graph)
    assert not gone.is_set(), "the executable still holds it"
    table.stream_synchronize(0, stream)
    table.graph_exec_destroy(0, executable)
    assert gone.wait(30)
