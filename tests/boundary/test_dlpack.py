"""DLPack in and out: both forms of capsule, flags, ownership, refusals."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from zerolane import _native

MODEL = small.identity().SerializeToString()
X = np.arange(6, dtype=np.float32)


@pytest.fixture(scope="module")
def session() -> zl.Session:
    return zl.load(MODEL)


class Legacy:
    """A producer from before DLPack 1: knows no max_version."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array

    def __dlpack__(self, stream: Any = None) -> Any:
        return self.array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Modern:
    """A producer of versioned capsules, and nothing else of an array."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.array = array
        self.capsules: list[Any] = []

    def __dlpack__(self, **options: Any) -> Any:
        capsule = self.array.__dlpack__(**options)
        self.capsules.append(capsule)
        return capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.array.__dlpack_device__()


class Once(Modern):
    """Gives the same capsule out again and again, used up or not."""

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsules[0] if self.capsules else super().__dlpack__(**options)


class Elsewhere(Modern):
    """Claims to lie on another device."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


class Refusing:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __dlpack__(self, **options: Any) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def capsule_name(capsule: Any) -> bytes:
    get = ctypes.pythonapi.PyCapsule_GetName
    get.restype, get.argtypes = ctypes.c_char_p, [ctypes.py_object]
    return bytes(get(capsule))


@pytest.mark.parametrize("kind", [Legacy, Modern])
@pytest.mark.parametrize("size", [6, 50_000, 0])
def test_in(session: zl.Session, kind: Callable[[Any], Any], size: int) -> None:
    x = np.arange(size, dtype=np.float32)
    for y in (
        session(kind(x)),
        session.run({"x": kind(x)})["y"],
        session.submit(kind(x)).result(timeout=30),
        session.bind(x=kind(x))()["y"],
    ):
        np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("kind", [Legacy, Modern])
def test_bound_memory_is_the_producers(session: zl.Session, kind: Callable[[Any], Any]) -> None:
    x, y = np.zeros(6, np.float32), np.zeros(6, np.float32)
    binding = session.bind(x=kind(x), out={"y": kind(y)})
    for value in (1, 2):
        x[:] = value
        binding()
        assert (y == value).all()


def test_out_into_the_producers_memory(session: zl.Session) -> None:
    y = np.zeros(6, np.float32)
    given = Modern(y)
    assert session.run({"x": X}, out={"y": given})["y"] is given
    np.testing.assert_array_equal(y, X)


def test_read_only_memory_is_read_and_not_written(session: zl.Session) -> None:
    x = X.copy()
    x.flags.writeable = False
    try:
        x.__dlpack__(max_version=(1, 0))
    except (TypeError, BufferError):
        pytest.skip("this NumPy gives out no read-only capsules")
    np.testing.assert_array_equal(session(Modern(x)), X)
    np.testing.assert_array_equal(session.bind(x=Modern(x))()["y"], X)
    for call in (
        lambda: session.run({"x": X}, out={"y": Modern(x)}),
        lambda: session.bind(x=X, out={"y": Modern(x)}),
    ):
        with pytest.raises(zl.InvalidArgument, match=r"read-only|cannot be used"):
            call()
    np.testing.assert_array_equal(x, X)


def test_strided_memory_is_copied_or_refused(session: zl.Session) -> None:
    x = np.arange(12, dtype=np.float32)
    np.testing.assert_array_equal(session(Modern(x[::2])), x[::2])
    with pytest.raises(zl.InvalidArgument):
        session.bind(x=Modern(x[::2]))
    with pytest.raises(zl.InvalidArgument):
        session.run({"x": X}, out={"y": Modern(x[::2])})
    with pytest.raises(zl.InvalidArgument):
        zl.load(MODEL, copy="never")(Modern(x[::2]))


def test_another_device_is_refused(session: zl.Session) -> None:
    with pytest.raises(zl.DeviceError, match="device type 2") as caught:
        session(Elsewhere(X.copy()))
    assert caught.value.code == "device"
    np.testing.assert_array_equal(session(X), X)


@pytest.mark.parametrize(
    "answer",
    [None, 5, "capsule", object(), BufferError("mine"), RuntimeError("mine")],
    ids=lambda answer: type(answer).__name__,
)
def test_producers_that_refuse(session: zl.Session, answer: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match="DLPack") as caught:
        session(Refusing(answer))
    if isinstance(answer, Exception):
        assert "mine" in str(caught.value)


@pytest.mark.parametrize("leave", [SystemExit, KeyboardInterrupt])
def test_leaving_the_program_is_no_bad_array(
    session: zl.Session, leave: type[BaseException]
) -> None:
    with pytest.raises(leave):
        session(Refusing(leave()))


def test_a_capsule_of_another_kind(session: zl.Session) -> None:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    for name in (b"other", b"used_dltensor", b"used_dltensor_versioned"):
        with pytest.raises(zl.InvalidArgument, match="DLPack"):
            session(Refusing(new(1, name, None)))


def test_a_capsule_is_used_once(session: zl.Session) -> None:
    x = np.ones(6, np.float32)
    once = Once(x)
    np.testing.assert_array_equal(session(once), x)
    assert capsule_name(once.capsules[0]).startswith(b"used_dltensor")
    with pytest.raises(zl.InvalidArgument, match="DLPack"):
        session(once)


@pytest.mark.parametrize("kind", [Legacy, Modern])
def test_the_producer_is_let_go(session: zl.Session, kind: Callable[[Any], Any]) -> None:
    """The deleter runs exactly once: the array's references are back where they were."""
    x = np.ones(1000, np.float32)
    before = sys.getrefcount(x)
    for _ in range(20):
        session(kind(x))
        session.submit(kind(x)).result(timeout=30)
        binding = session.bind(x=kind(x))
        binding()
        del binding
        with pytest.raises(zl.Error):
            session.bind(x=kind(x), out={"y": kind(x.astype(np.float64))})
        with pytest.raises(zl.Error):
            session(kind(x.reshape(10, 100)))
    gc.collect()
    assert sys.getrefcount(x) == before


def test_a_binding_keeps_the_producer(session: zl.Session) -> None:
    x = np.full(1000, 7, np.float32)
    before = sys.getrefcount(x)
    binding = session.bind(x=Modern(x))
    assert sys.getrefcount(x) > before
    assert (binding()["y"] == 7).all()


# Out


def test_versions_and_flags_of_capsules() -> None:
    tensor = _native.empty([2, 3], "float32")
    assert capsule_name(tensor.__dlpack__()) == b"dltensor"
    assert capsule_name(tensor.__dlpack__(max_version=(0, 8))) == b"dltensor"
    assert capsule_name(tensor.__dlpack__(max_version=(1, 0))) == b"dltensor_versioned"
    assert capsule_name(tensor.__dlpack__(max_version=(2, 0))) == b"dltensor_versioned"
    assert capsule_name(tensor.__dlpack__(stream=None)) == b"dltensor"
    assert tensor.__dlpack_device__() == (1, 0)
    with pytest.raises(zl.InvalidArgument, match="stream"):
        tensor.__dlpack__(stream=5)
    with pytest.raises(zl.DeviceError):
        tensor.__dlpack__(dl_device=(2, 0))
    assert capsule_name(tensor.__dlpack__(dl_device=(1, 0))) == b"dltensor"


def test_copy_on_the_way_out() -> None:
    tensor = _native.empty([4], "float32")
    np.from_dlpack(tensor)[:] = 1
    try:
        copied = np.from_dlpack(tensor, copy=True)
        shared = np.from_dlpack(tensor, copy=False)
    except TypeError:
        pytest.skip("this NumPy's from_dlpack knows no copy=")
    assert copied.ctypes.data != tensor.address
    assert shared.ctypes.data == tensor.address
    np.testing.assert_array_equal(copied, shared)


def test_unused_capsules_give_their_memory_back() -> None:
    gc.collect()
    before = _native.live_objects()["buffers"]
    for _ in range(50):
        tensor = _native.empty([1000], "float32")
        tensor.__dlpack__()
        tensor.__dlpack__(max_version=(1, 0))
        tensor.__dlpack__(max_version=(1, 0), copy=True)
        tensor.__dlpack__(copy=True)
    del tensor
    assert _native.live_objects()["buffers"] == before


def test_used_capsules_keep_the_memory() -> None:
    before = _native.live_objects()["buffers"]
    array = np.from_dlpack(_native.empty([1000], "float32"))
    gc.collect()
    assert _native.live_objects()["buffers"] == before + 1
    array[:] = 5
    filler = _native.empty([1000], "float32")
    assert filler.address != array.ctypes.data
    assert (array == 5).all()
    del array
    gc.collect()
    del filler
    assert _native.live_objects()["buffers"] == before
