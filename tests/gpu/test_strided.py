"""Copies of arrays that are not dense, against NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.gpu.conftest import Resources
from tests.gpu.cuda_table import TO_DEVICE, TO_HOST, Table

Array = NDArray[Any]
ELEMENTS = (1, 2, 4, 8, 16)
DTYPES: dict[int, Any] = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64, 16: np.complex128}

VIEWS: dict[str, Callable[[Array], Array]] = {
    "dense": lambda a: a,
    "transposed": lambda a: a.T,
    "every second": lambda a: a[:, ::2],
    "backwards": lambda a: a[::-1, :, ::-1],
    "axes moved": lambda a: a.transpose(2, 0, 1),
    "a window": lambda a: a[1:, 2:5, 1:-1],
    "one row": lambda a: a[2],
    "one element": lambda a: a[1:2, 3:4, 4:5],
    "repeated": lambda a: np.broadcast_to(a[:, :1], a.shape),
    "nothing": lambda a: a[:0],
}


def random_array(element: int, shape: tuple[int, ...]) -> Array:
    """Whole numbers in every byte, so that no NaN hides a difference."""
    rng = np.random.default_rng(element)
    if element == 16:
        parts = rng.integers(-(2**40), 2**40, (2, *shape)).astype(np.float64)
        return (parts[0] + 1j * parts[1]).astype(np.complex128)
    return rng.integers(0, 2 ** (8 * element), shape, dtype=DTYPES[element])


def device_address(base: Array, view: Array, device: int) -> int:
    start = view.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    return device + int(start) if view.size else device


def upload(table: Table, array: Array, device: int, stream: int) -> None:
    table.copy_async(0, device, array.ctypes.data, array.nbytes, TO_DEVICE, stream)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("element", ELEMENTS)
def test_gathered_equals_numpys(made: Resources, element: int, view: str) -> None:
    table, stream = made.table, made.stream()
    base = random_array(element, (5, 7, 9))
    part = VIEWS[view](base)
    wanted = np.ascontiguousarray(part)
    source, target = made.device(base.nbytes), made.device(max(wanted.nbytes, 1))
    upload(table, base, source, stream)
    table.strided(
        target, device_address(base, part, source), element, part.shape, wanted.strides,
        part.strides, stream,
    )  # fmt: skip
    back = np.zeros_like(wanted)
    table.copy_async(0, back.ctypes.data, target, back.nbytes, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize("element", ELEMENTS)
def test_scattered_into_a_view_and_nowhere_else(made: Resources, element: int) -> None:
    table, stream = made.table, made.stream()
    base = random_array(element, (6, 8, 10))
    wanted = base.copy()
    part = wanted[1:5, ::2, ::-3]
    values = np.ascontiguousarray(random_array(element, part.shape)[::-1])
    target, source = made.device(base.nbytes), made.device(values.nbytes)
    upload(table, base, target, stream)
    upload(table, values, source, stream)
    to = device_address(wanted, part, target)
    table.strided(to, source, element, part.shape, part.strides, values.strides, stream)
    part[...] = values
    back = np.zeros_like(base)
    table.copy_async(0, back.ctypes.data, target, back.nbytes, TO_HOST, stream)
    table.stream_synchronize(0, stream)
    np.testing.assert_array_equal(back, wanted)


@pytest.mark.parametrize("element", ELEMENTS)
def test_large_and_of_many_dimensions(made: Resources, element: int) -> None:
    """More elements than a grid's second extent has, and as many dimensions as there may be."""
    table, stream = made.table, made.stream()
    for shape, order in (
        ((3, 1031, 513), (2, 1, 0)),
        ((2, 3, 2, 3, 2, 3, 2, 5), (7, 0, 6, 1, 5, 2, 4, 3)),
        ((70_000, 3), (1, 0)),
    ):
        base = random_array(element, shape)
        part = base.transpose(order)
        wanted = np.ascontiguousarray(part)
        source, target = made.device(base.nbytes), made.device(base.nbytes)
        upload(table, base, source, stream)
        table.strided(target, source, element, part.shape, wanted.strides, part.strides, stream)
        back = np.zeros_like(wanted)
        table.copy_async(0, back.ctypes.data, target, back.nbytes, TO_HOST, stream)
        table.stream_synchronize(0, stream)
        np.testing.assert_array_equal(back, wanted)
