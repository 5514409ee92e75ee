"""Arrays of every layout give right results, or are refused where they were to be used in place."""

from __future__ import annotations

import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Array = np.ndarray[Any, Any]
SHAPES = [(4, 5, 3), (30, 50, 3), (1, 1, 3), (7, 1, 3)]
VALUES = np.random.default_rng(0).standard_normal((64, 64, 3)).astype(np.float32)


def misaligned(x: Array) -> Array:
    raw = np.empty(x.nbytes + 1, np.uint8)[1:]
    y = raw.view(x.dtype).reshape(x.shape)
    y[...] = x
    assert not y.flags.aligned
    return y


def read_only(x: Array) -> Array:
    y = x.copy(order="K")
    y.flags.writeable = False
    return y


class Sub(np.ndarray[Any, Any]):
    pass


# How to lay out x in memory, and whether that can be used in place.
LAYOUTS: dict[str, tuple[Callable[[Array], Any], bool]] = {
    "plain": (lambda x: x.copy(), True),
    "read-only": (read_only, True),
    "subclass": (lambda x: x.view(Sub), True),
    "inner part": (lambda x: np.concatenate([x, x, x])[len(x) : 2 * len(x)], True),
    "new axis": (lambda x: x[None][0], True),
    "Fortran": (np.asfortranarray, False),
    "transposed": (lambda x: np.ascontiguousarray(x.T).T, False),
    "negative stride": (lambda x: x[::-1].copy()[::-1], False),
    "every second": (lambda x: np.repeat(x, 2, axis=1)[:, ::2], False),
    "zero stride": (lambda x: np.broadcast_to(x[:1], x.shape), False),
    "misaligned": (misaligned, False),
    "byte-swapped": (lambda x: x.astype(">f4"), False),
    "swapped and strided": (lambda x: np.asfortranarray(x.astype(">f4")), False),
    "read-only Fortran": (lambda x: read_only(np.asfortranarray(x)), False),
    "list": (lambda x: x.tolist(), False),
    "nested tuples": (lambda x: tuple(map(tuple, x.tolist())), False),
    "memoryview": (lambda x: memoryview(x.copy()), True),
}


@pytest.fixture(scope="module")
def session() -> zl.Session:
    """x f32 [N, ?, 3] -> y = 2 x."""
    return zl.load(small.dynamic_dims().SerializeToString())


@pytest.fixture(scope="module")
def careful() -> zl.Session:
    return zl.load(small.dynamic_dims().SerializeToString(), copy="never")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(session: zl.Session, layout: str, shape: tuple[int, ...]) -> None:
    x = VALUES[: shape[0], : shape[1]].copy()
    given = LAYOUTS[layout][0](x)
    want = 2 * np.asarray(given, np.float32)
    for y in (
        session(given),
        session.run({"x": given})["y"],
        session.submit(given).result(timeout=30),
    ):
        assert type(y) is np.ndarray
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_place_or_refused(careful: zl.Session, layout: str) -> None:
    lay_out, in_place = LAYOUTS[layout]
    x = VALUES[:4, :5].copy()
    given = lay_out(x)
    if in_place:
        np.testing.assert_array_equal(careful(given), 2 * np.asarray(given))
        binding = careful.bind(x=given)
        assert binding.inputs["x"] is given
        assert np.shares_memory(binding.inputs["x"], np.asarray(given))
        np.testing.assert_array_equal(binding()["y"], 2 * np.asarray(given))
    else:
        with pytest.raises(zl.InvalidArgument, match="input 'x'"):
            careful.bind(x=given)
        if isinstance(given, np.ndarray):
            with pytest.raises(zl.InvalidArgument, match="input 'x'"):
                careful(given)


@pytest.mark.parametrize("layout", sorted(set(LAYOUTS) - {"list", "nested tuples", "memoryview"}))
def test_out_is_written_in_place_or_refused(session: zl.Session, layout: str) -> None:
    lay_out, in_place = LAYOUTS[layout]
    x = VALUES[:4, :5].copy()
    out = lay_out(np.zeros_like(x))
    if in_place and out.flags.writeable:
        assert session.run({"x": x}, out={"y": out})["y"] is out
        np.testing.assert_array_equal(out, 2 * x)
        assert session.bind(x=x, out={"y": out}).outputs["y"] is out
    else:
        for call in (
            lambda: session.run({"x": x}, out={"y": out}),
            lambda: session.bind(x=x, out={"y": out}),
        ):
            with pytest.raises(zl.InvalidArgument, match="output 'y'"):
                call()
        assert (np.asarray(out) == 0).all()


def test_python_numbers_and_buffers() -> None:
    session = zl.load(small.identity("float32", [None]).SerializeToString())
    for x in (
        [1.0, 2.5],
        (1, 2.5),
        range(3),
        array.array("f", [1, 2.5]),
        memoryview(np.array([1, 2.5], np.float32)),
        [np.float32(1), np.float32(2.5)],
        [True, False],
    ):
        y = session(x)
        assert y.dtype == np.float32
        np.testing.assert_array_equal(y, np.asarray(list(x), np.float32))
    assert session([]).shape == (0,)


def test_python_numbers_take_the_dtype_of_the_model() -> None:
    def loaded(element: str) -> zl.Session:
        return zl.load(small.identity(element, []).SerializeToString())

    assert loaded("float16")(1.5).dtype == np.float16
    assert loaded("int8")(-128) == -128
    assert loaded("bool")(True).dtype == np.bool_
    assert loaded("uint64")(2**64 - 1) == 2**64 - 1
    assert loaded("float64")(5) == 5.0
    for element, number in (("int8", 128), ("uint8", -1), ("int32", 2**31), ("int64", 1.5)):
        with pytest.raises(zl.InvalidArgument, match="input 'x'"):
            loaded(element)(number)


def test_numpy_numbers_keep_their_dtype() -> None:
    session = zl.load(small.identity("float32", []).SerializeToString())
    assert session(np.float32(1.5)) == 1.5
    with pytest.raises(zl.InvalidArgument, match="float64"):
        session(np.float64(1.5))


def test_no_dimension_at_all() -> None:
    session = zl.load(small.identity("float32", []).SerializeToString())
    for x in (np.array(3, np.float32), np.float32(3), 3.0):
        y = session(x)
        assert isinstance(y, np.ndarray)
        assert y.shape == ()
        assert y == 3


def test_special_numbers(session: zl.Session) -> None:
    x = np.array([[[np.nan, np.inf, -np.inf], [-0.0, 1e-45, 3e38]]], np.float32)
    y = session(x)
    np.testing.assert_array_equal(y, [[[np.nan, np.inf, -np.inf], [0, 2 * x[0, 1, 1], np.inf]]])
    assert np.signbit(y[0, 1, 0])
    same = zl.load(small.identity("float32", [None, None, None]).SerializeToString())
    assert same(x).tobytes() == x.tobytes()
    payload = np.array([0x7FC00001, 0xFFFFFFFF, 0x7F800001], np.uint32).view(np.float32)
    assert same(payload[None, None]).tobytes() == payload.tobytes()


def test_matrix() -> None:
    session = zl.load(small.identity("float32", [None, None]).SerializeToString())
    with pytest.warns(PendingDeprecationWarning):
        x = np.matrix([[1, 2], [3, 4]], np.float32)
    y = session(x)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, np.asarray(x))


def test_memmap(session: zl.Session, tmp_path: Path) -> None:
    x = VALUES[:20, :30].copy()
    np.save(tmp_path / "x.npy", x)
    for mode in ("r", "c", "r+"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        np.testing.assert_array_equal(session(mapped), 2 * x)
        binding = session.bind(x=mapped)
        np.testing.assert_array_equal(binding()["y"], 2 * x)
    session.run({"x": x}, out={"y": mapped})
    mapped.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), 2 * x)


def test_reversed_in_every_axis() -> None:
    session = zl.load(small.identity("int16", [None] * 4).SerializeToString())
    x = np.arange(2 * 3 * 5 * 7, dtype=np.int16).reshape(2, 3, 5, 7)
    for view in (x[::-1, ::-1, ::-1, ::-1], x.transpose(3, 1, 0, 2), x[:, ::2, 1::2, -1:0:-3]):
        np.testing.assert_array_equal(session(view), view)


def test_byte_order_of_every_width() -> None:
    for element in ("int16", "int32", "int64", "uint16", "float16", "float64"):
        session = zl.load(small.identity(element).SerializeToString())
        x = np.arange(5).astype(np.dtype(element).newbyteorder(">"))
        y = session(x)
        assert y.dtype == np.dtype(element)
        np.testing.assert_array_equal(y, np.arange(5))


def test_rank_32_and_above() -> None:
    session = zl.load(small.unknown_rank().SerializeToString())
    x = np.full((1,) * 32, -1, np.float32)
    assert session(x).shape == x.shape
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        with pytest.raises(zl.Error, match="33"):
            session(np.full((1,) * 33, -1, np.float32))


def test_the_second_64_bit_integer_type() -> None:
    session = zl.load(small.identity("int64").SerializeToString())
    np.testing.assert_array_equal(session(np.arange(3, dtype=np.longlong)), [0, 1, 2])
    unsigned = zl.load(small.identity("uint64").SerializeToString())
    np.testing.assert_array_equal(unsigned(np.arange(3, dtype=np.ulonglong)), [0, 1, 2])
