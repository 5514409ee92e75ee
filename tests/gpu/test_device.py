"""The CUDA module and the GPU it sees."""

from __future__ import annotations

import ctypes

import pytest

from tests.gpu import cuda_table, needs
from tests.gpu.cuda_table import Failed, Table


def info_of(table: Table, device: int) -> cuda_table.DeviceInfo:
    info = cuda_table.DeviceInfo()
    table.device_info(device, ctypes.byref(info))
    return info


def test_the_library_fits_the_header(table: Table) -> None:
    assert table.version == cuda_table.VERSION
    assert table.bytes == table.expected_bytes


def test_versions(table: Table) -> None:
    driver, runtime = table.number("driver_version"), table.number("runtime_version")
    assert runtime >= 12000
    assert driver // 1000 >= runtime // 1000, "the driver is older than the runtime's major"


def test_every_device_tells_its_facts(table: Table) -> None:
    for device in range(table.number("device_count")):
        info = info_of(table, device)
        free, total = ctypes.c_uint64(), ctypes.c_uint64()
        table.memory_info(device, ctypes.byref(free), ctypes.byref(total))
        assert info.name
        assert info.major >= 5
        assert info.multiprocessors > 0
        assert 0 < free.value <= total.value
        assert total.value <= info.memory_bytes * 1.01


def test_facts_equal_torchs(table: Table) -> None:
    torch = needs.torch()
    info, theirs = info_of(table, 0), torch.cuda.get_device_properties(0)
    assert info.name.decode() == theirs.name
    assert (info.major, info.minor) == (theirs.major, theirs.minor)
    assert info.multiprocessors == theirs.multi_processor_count


def test_a_device_that_is_not_there(table: Table) -> None:
    missing = table.number("device_count")
    with pytest.raises(Failed) as caught:
        info_of(table, missing)
    assert caught.value.kind == cuda_table.NO_DEVICE
    with pytest.raises(Failed) as caught:
        table.made("stream_create", missing, 0)
    assert caught.value.kind == cuda_table.NO_DEVICE
    assert info_of(table, 0).name  # the failure left nothing behind


def test_failures_have_names_and_words(table: Table) -> None:
    with pytest.raises(Failed) as caught:
        table.made("stream_create", 10_000, 0)
    status = caught.value.status
    assert table.error_name(status)
    assert table.error_text(status)


def test_priorities(table: Table) -> None:
    least, greatest = ctypes.c_int32(), ctypes.c_int32()
    table.stream_priorities(0, ctypes.byref(least), ctypes.byref(greatest))
    assert greatest.value <= least.value
    for asked in (greatest.value - 10, greatest.value, least.value, least.value + 10):
        table.stream_destroy(0, table.made("stream_create", 0, asked))  # clamped, never refused
