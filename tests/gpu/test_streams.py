"""Copies, the order of streams, events, and host work between them."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable

import numpy as np
import pytest

from tests.gpu import cuda_table, needs
from tests.gpu.conftest import Resources
from tests.gpu.cuda_table import ON_DEVICE, TO_DEVICE, TO_HOST, HostFunction

SIZES = (1, 3, 255, 4096, 65537, 1 << 20, (32 << 20) + 1)


def host_view(address: int, count: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))


@pytest.mark.parametrize("pinned", [True, False])
@pytest.mark.parametrize("count", SIZES)
def test_round_trip(made: Resources, count: int, pinned: bool) -> None:
    table, stream = made.table, made.stream()
    first, second = made.device(count), made.device(count)
    pageable = np.zeros((2, count), np.uint8)
    if pinned:
        sent, back = (host_view(made.pinned(count), count) for _ in range(2))
    else:
        sent, back = pageable
    sent[:] = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    back[:] = 0
    table.copy_async(0, first, sent.ctypes.data, count, TO_DEVICE, stream)
    table.copy_async(0, second, first, count, ON_DEVICE, stream)
    table.copy_async(0, back.ctypes.data, second, count, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    np.testing.assert_array_equal(back, sent)


def test_fill(made: Resources) -> None:
    table, stream = made.table, made.stream()
    device, back = made.device(1000), np.zeros(1000, np.uint8)
    table.fill_async(0, device, 0xAB, 1000, stream)
    table.fill_async(0, device + 100, 0x11, 50, stream)
    table.copy_async(0, back.ctypes.data, device, 1000, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    wanted = np.full(1000, 0xAB, np.uint8)
    wanted[100:150] = 0x11
    np.testing.assert_array_equal(back, wanted)


def test_a_stream_keeps_its_order(made: Resources) -> None:
    """The last of many writes to the same place is the one that is seen."""
    table, stream = made.table, made.stream()
    device, back = made.device(4096), np.zeros(4096, np.uint8)
    made.delay(stream)
    for byte in range(256):
        table.fill_async(0, device, byte, 4096, stream)
    table.copy_async(0, back.ctypes.data, device, 4096, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    assert (back == 255).all()


def test_query(made: Resources) -> None:
    table, stream, event = made.table, made.stream(), made.event()
    made.delay(stream)
    table.event_record(0, event, stream)
    busy = table.raw_stream_query(0, stream)
    assert table.status_kind(busy) in (cuda_table.NOT_READY, cuda_table.SUCCESS)
    table.event_synchronize(0, event)
    assert table.raw_event_query(0, event) == 0
    table.stream_synchronize(0, stream)
    assert table.raw_stream_query(0, stream) == 0


def test_a_consumer_waits_for_its_producer(made: Resources) -> None:
    """Filled behind long work on one stream, read on another that waits for its event."""
    table, producer, consumer = made.table, made.stream(), made.stream()
    event, device = made.event(), made.device(1 << 20)
    back = host_view(made.pinned(1 << 20), 1 << 20)
    for byte in (7, 8, 9):
        made.delay(producer)
        table.fill_async(0, device, byte, 1 << 20, producer)
        table.event_record(0, event, producer)
        table.stream_wait_event(0, consumer, event)
        table.copy_async(0, back.ctypes.data, device, 1 << 20, TO_HOST, consumer)
        table.stream_synchronize(0, consumer)
        assert (back == byte).all()


def test_waiting_for_an_event_never_recorded(made: Resources) -> None:
    table, stream = made.table, made.stream()
    table.stream_wait_event(0, stream, made.event())
    table.stream_synchronize(0, stream)


def test_host_work_runs_in_its_place(made: Resources) -> None:
    table, stream = made.table, made.stream()
    device = made.device(64)
    back = host_view(made.pinned(64), 64)
    back[:] = 0
    seen: list[int] = []
    look = HostFunction(lambda _: seen.append(int(back[0])))
    address = ctypes.cast(look, ctypes.c_void_p)
    made.delay(stream)
    for byte in (1, 2, 3):
        table.fill_async(0, device, byte, 64, stream)
        table.copy_async(0, back.ctypes.data, device, 64, TO_HOST, stream)
        table.launch_host(0, stream, address, None)
    table.stream_synchronize(0, stream)
    assert seen == [1, 2, 3]


def test_elapsed_time_grows_with_the_work(made: Resources) -> None:
    table, stream = made.table, made.stream()
    before, after = made.event(timing=True), made.event(timing=True)
    table.event_record(0, before, stream)
    made.delay(stream)
    table.event_record(0, after, stream)
    table.event_synchronize(0, after)
    assert table.number("event_elapsed_ms", 0, before, after, kind=ctypes.c_float) > 0


def test_pinned_bandwidth_is_told(
    made: Resources, record_property: Callable[[str, object], None]
) -> None:
    """GB/s each way go into the report; the bytes must be right, the speed is the machine's."""
    table, stream = made.table, made.stream()
    count = (8 << 20) if needs.STAND_IN else (256 << 20)
    device, host = made.device(count), made.pinned(count)
    view = host_view(host, count)
    view[:] = 5
    before, after = made.event(timing=True), made.event(timing=True)
    for name, kind, to, source in (
        ("to_device_gb_s", TO_DEVICE, device, host),
        ("to_host_gb_s", TO_HOST, host, device),
    ):
        table.copy_async(0, to, source, count, kind, stream)
        table.event_record(0, before, stream)
        for _ in range(4):
            table.copy_async(0, to, source, count, kind, stream)
        table.event_record(0, after, stream)
        table.event_synchronize(0, after)
        ms = table.number("event_elapsed_ms", 0, before, after, kind=ctypes.c_float)
        record_property(name, round(4 * count / 1e6 / ms, 2))
        if kind == TO_DEVICE:
            view[:] = 0
    assert (view == 5).all()


def test_many_threads_with_a_stream_each(made: Resources) -> None:
    table = made.table
    wrong: list[int] = []

    def work(byte: int) -> None:
        stream = table.made("stream_create", 0, 0)
        device = table.made("device_allocate", 0, 65536)
        back = np.zeros(65536, np.uint8)
        for i in range(50):
            value = (byte + i) % 256
            table.fill_async(0, device, value, 65536, stream)
            table.copy_async(0, back.ctypes.data, device, 65536, TO_HOST, stream)
            table.stream_synchronize(0, stream)
            if not (back == value).all():
                wrong.append(value)
        table.device_free(0, device)
        table.stream_destroy(0, stream)

    threads = [threading.Thread(target=work, args=(8 * n,)) for n in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []
