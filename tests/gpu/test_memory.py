"""Pools, pinned memory, pointer kinds, and what happens when memory runs out."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.gpu import cuda_table, needs
from tests.gpu.conftest import Resources
from tests.gpu.cuda_table import TO_DEVICE, TO_HOST, Failed, Table

MIB = 1 << 20


def usage(table: Table, pool: int) -> cuda_table.PoolUsage:
    found = cuda_table.PoolUsage()
    table.pool_usage(0, pool, ctypes.byref(found))
    return found


def kind_of(table: Table, data: int) -> tuple[int, int]:
    info = cuda_table.PointerInfo()
    table.pointer_info(0, data, ctypes.byref(info))
    return info.kind, info.device


def total_memory(table: Table) -> int:
    free, total = ctypes.c_uint64(), ctypes.c_uint64()
    table.memory_info(0, ctypes.byref(free), ctypes.byref(total))
    return total.value


def round_trip(table: Table, device: int, stream: int, count: int = 4096) -> None:
    """Bytes to the device and back are the same bytes."""
    sent = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    back = np.zeros_like(sent)
    table.copy_async(0, device, sent.ctypes.data, count, TO_DEVICE, stream)
    table.copy_async(0, back.ctypes.data, device, count, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    np.testing.assert_array_equal(back, sent)


def test_pool_counts_and_keeps(made: Resources) -> None:
    table, pool, stream = made.table, made.pool(), made.stream()
    blocks = [table.made("pool_allocate", 0, pool, 4 * MIB, stream) for _ in range(8)]
    assert len(set(blocks)) == 8
    assert usage(table, pool).used_bytes >= 32 * MIB
    for block in blocks:
        round_trip(table, block, stream)
        table.pool_free(0, block, stream)
    table.stream_synchronize(0, stream)
    after = usage(table, pool)
    assert after.used_bytes == 0
    assert after.peak_used_bytes >= 32 * MIB
    assert after.reserved_bytes >= 32 * MIB, "the threshold is without bound, so it is all kept"


def test_a_steady_load_asks_for_nothing_new(made: Resources) -> None:
    table, pool, stream = made.table, made.pool(), made.stream()
    seen = []
    for _ in range(50):
        block = table.made("pool_allocate", 0, pool, 3 * MIB, stream)
        table.fill_async(0, block, 1, 3 * MIB, stream)
        table.pool_free(0, block, stream)
        if needs.STAND_IN:  # which does not reuse memory before the work on it is done
            table.stream_synchronize(0, stream)
        seen.append(usage(table, pool).reserved_bytes)
    table.stream_synchronize(0, stream)
    assert len(set(seen[1:])) == 1


def test_trim_gives_back(made: Resources) -> None:
    table, pool, stream = made.table, made.pool(), made.stream()
    block = table.made("pool_allocate", 0, pool, 64 * MIB, stream)
    table.pool_free(0, block, stream)
    table.stream_synchronize(0, stream)
    table.pool_trim(0, pool, 0)
    assert usage(table, pool).reserved_bytes < 64 * MIB


def test_kinds_of_memory(made: Resources) -> None:
    table, pool, stream = made.table, made.pool(), made.stream()
    pageable = np.zeros(MIB, np.uint8)
    block = table.made("pool_allocate", 0, pool, MIB, stream)
    assert kind_of(table, block) == (cuda_table.DEVICE, 0)
    assert kind_of(table, made.device(MIB)) == (cuda_table.DEVICE, 0)
    assert kind_of(table, made.pinned(MIB))[0] == cuda_table.PINNED
    assert kind_of(table, pageable.ctypes.data) == (cuda_table.HOST, -1)
    table.pool_free(0, block, stream)


def test_registered_memory_is_pinned(made: Resources) -> None:
    table = made.table
    array = np.zeros(MIB + 4096, np.uint8)
    page = -(-array.ctypes.data // 4096) * 4096
    table.host_register(0, page, MIB - 4096)
    assert kind_of(table, page)[0] == cuda_table.PINNED
    round_trip(table, made.device(4096), made.stream())
    table.host_unregister(0, page)
    assert kind_of(table, page)[0] == cuda_table.HOST


@pytest.mark.parametrize("function", ["pool_allocate", "device_allocate", "host_allocate"])
def test_out_of_memory_and_usable_after(made: Resources, function: str) -> None:
    table, stream = made.table, made.stream()
    device = made.device(4096)
    too_much = 1 << 50 if function == "host_allocate" else 4 * total_memory(table)
    arguments = {
        "pool_allocate": (0, made.pool(), too_much, stream),
        "device_allocate": (0, too_much),
        "host_allocate": (0, too_much),
    }[function]
    for _ in range(3):
        with pytest.raises(Failed) as caught:
            table.made(function, *arguments)
        # More host memory than there are addresses may be called a wrong argument as well.
        allowed = {cuda_table.OUT_OF_MEMORY}
        allowed |= {cuda_table.INVALID} if function == "host_allocate" else set()
        assert caught.value.kind in allowed
        round_trip(table, device, stream)


def test_filling_up_the_device_and_emptying_it(made: Resources) -> None:
    """Until nothing more fits, then all of it again: nothing was lost."""
    table, pool, stream = made.table, made.pool(), made.stream()
    part = total_memory(table) // 16

    def fill() -> int:
        blocks: list[int] = []
        while True:
            try:
                blocks.append(table.made("pool_allocate", 0, pool, part, stream))
            except Failed as failure:
                assert failure.kind == cuda_table.OUT_OF_MEMORY  # noqa: PT017
                break
            assert len(blocks) <= 16, "more memory was given than there is"
        for block in blocks:
            table.pool_free(0, block, stream)
        table.stream_synchronize(0, stream)
        return len(blocks)

    first = fill()
    assert first >= 1
    table.pool_trim(0, pool, 0)
    assert fill() >= first - 1  # another process may have taken some meanwhile
