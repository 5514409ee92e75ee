"""Zero-copy claims, by address."""

from __future__ import annotations

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from zerolane import _native

SIZES = [4, 100_000]  # staged in calls, and bound in place


@pytest.fixture(scope="module")
def session() -> zl.Session:
    return zl.load(small.identity().SerializeToString())


def address(x: np.ndarray) -> int:  # type: ignore[type-arg]
    return int(x.ctypes.data)


@pytest.mark.parametrize("size", SIZES)
def test_bind_uses_the_memory_of_the_caller(session: zl.Session, size: int) -> None:
    x, y = np.zeros(size, np.float32), np.zeros(size, np.float32)
    binding = session.bind(x=x, out={"y": y})
    assert binding.inputs["x"] is x
    assert binding.outputs["y"] is y
    for value in (1, 2, 3):
        x[:] = value  # no other way in
        binding()
        assert (y == value).all()  # no other way out


@pytest.mark.parametrize("size", SIZES)
def test_bound_outputs_are_always_the_same_memory(session: zl.Session, size: int) -> None:
    binding = session.bind(x=(size,))
    y = binding.outputs["y"]
    for value in (1, 2, 3):
        binding.inputs["x"][...] = value
        assert binding()["y"] is y
        assert binding.run()["y"] is y
        assert (y == value).all()


def test_part_of_an_array_is_bound_where_it_lies(session: zl.Session) -> None:
    ring = np.arange(40, dtype=np.float32).reshape(10, 4)
    binding = session.bind(x=ring[3], out={"y": ring[7]})
    ring[3] = [5, 6, 7, 8]
    binding()
    np.testing.assert_array_equal(ring[7], [5, 6, 7, 8])
    np.testing.assert_array_equal(ring[6], np.arange(24, 28))
    np.testing.assert_array_equal(ring[8], np.arange(32, 36))


@pytest.mark.parametrize("size", SIZES)
def test_out_is_the_memory_of_the_caller(session: zl.Session, size: int) -> None:
    x, out = np.ones(size, np.float32), np.zeros(size, np.float32)
    before = address(out)
    assert session.run({"x": x}, out={"y": out})["y"] is out
    assert address(out) == before
    assert (out == 1).all()


@pytest.mark.parametrize("size", SIZES)
def test_fresh_results_share_nothing(session: zl.Session, size: int) -> None:
    x = np.ones(size, np.float32)
    first, second = session(x), session(x)
    assert address(first) != address(second)
    assert not np.shares_memory(first, x)
    first[:] = 7
    assert (second == 1).all()
    assert (x == 1).all()


def test_results_are_writable_and_own_their_memory() -> None:
    for model, x in (
        (small.identity(), np.ones(5, np.float32)),
        (small.nonzero(), np.ones(5, np.float32)),
    ):
        y = zl.load(model.SerializeToString())(x)
        y[...] = 3
        assert y.flags.c_contiguous
        assert y.flags.writeable
        assert y.flags.aligned


def test_dlpack_out_shares_memory() -> None:
    tensor = _native.empty([4, 3], "float32")
    for take in (np.from_dlpack, lambda t: np.from_dlpack(t, copy=False)):
        try:
            array = take(tensor)
        except TypeError:
            pytest.skip("this NumPy's from_dlpack knows no copy=")
        assert address(array) == tensor.address
        assert array.flags.writeable or np.lib.NumpyVersion(np.__version__) < "2.2.0"


def test_dlpack_in_is_bound_where_it_lies(session: zl.Session) -> None:
    source = _native.empty([5], "float32")
    view = np.from_dlpack(source)
    binding = session.bind(x=source)
    view[:] = 7
    assert (binding()["y"] == 7).all()


def test_native_memory_is_aligned_for_vectors() -> None:
    for size in (1, 3, 100, 4097):
        assert _native.empty([size], "uint8").address % 64 == 0
