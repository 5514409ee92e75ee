"""The stand-in for CUDA from Python: streams, memory, and arrays of a library that fills its
memory asynchronously, as torch and CuPy do."""

from __future__ import annotations

import ctypes
import functools
import re
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tests.fakes.tensorrt import libraries

_P, _I32, _U64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64
DEVICE = 0


@functools.cache
def _table() -> tuple[list[str], Any]:
    """Names and addresses of the functions, in the order of cpp/cuda/table.h."""
    text = (libraries.ROOT / "cpp/cuda/table.h").read_text()
    body = text[text.index("struct Table {") :]
    names = re.findall(r"\(\*(\w+)\)\(", body[: body.index("\n};")])
    get = ctypes.CDLL(str(libraries.cuda_library())).zerolane_cuda_table
    get.restype = _P
    head = 16  # version, bytes, library
    return names, (_P * len(names)).from_address(get() + head)


def call(name: str, *arguments: Any) -> None:
    """One function of the table, on the one device. Pointers are c_void_p, the rest plain."""
    names, addresses = _table()
    types = [type(a) if isinstance(a, ctypes._SimpleCData) else _P for a in arguments]
    function = ctypes.CFUNCTYPE(_I32, _I32, *types)(addresses[names.index(name)])
    status = function(DEVICE, *arguments)
    assert status == 0, f"{name} failed with {status}"


def is_pinned(address: int) -> bool:
    """Whether it is host memory that is copied from and to without staging."""
    info = (_I32 * 2)()  # kind, device
    call("pointer_info", _P(address), ctypes.byref(info))
    return info[0] == 1


class Stream:
    """A stream with a worker thread of its own."""

    def __init__(self) -> None:
        made = _P()
        call("stream_create", _I32(0), ctypes.byref(made))
        self.handle = cast(int, made.value)

    def delay(self, ms: float) -> None:
        """Work that takes this long. No Python in it: the waiting thread may hold the GIL."""
        usleep = ctypes.cast(ctypes.CDLL(None).usleep, _P)
        call("launch_host", _P(self.handle), usleep, _P(int(ms * 1000)))

    def fill(self, address: int, values: npt.NDArray[Any]) -> None:
        call("copy_async", _P(address), values.ctypes.data_as(_P), _U64(values.nbytes), _I32(0),
             _P(self.handle))  # fmt: skip

    def synchronize(self) -> None:
        call("stream_synchronize", _P(self.handle))


def read(address: int, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
    """What device memory holds now."""
    values = np.empty(shape, dtype)
    stream = Stream()
    call("copy_async", values.ctypes.data_as(_P), _P(address), _U64(values.nbytes), _I32(1),
         _P(stream.handle))  # fmt: skip
    stream.synchronize()
    return values


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", _P), ("device_type", _I32), ("device_id", _I32), ("ndim", _I32),
        ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", _U64),
    )  # fmt: skip


class _Legacy(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("context", _P), ("deleter", _P))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", _P), ("deleter", _P),
        ("flags", _U64), ("tensor", _Tensor),
    )  # fmt: skip


_RECORDS: dict[int, Any] = {}  # records that a consumer holds, by address
_CODES = {"f": 2, "i": 0, "u": 1, "b": 6}


@ctypes.CFUNCTYPE(None, _P)
def _deleter(record: int) -> None:
    del _RECORDS[record]


@ctypes.PYFUNCTYPE(None, _P)
def _unused(capsule: int) -> None:
    """A capsule that nobody took gives its record back."""
    valid = ctypes.pythonapi.PyCapsule_IsValid
    valid.restype, valid.argtypes = ctypes.c_int, [_P, ctypes.c_char_p]
    get = ctypes.PYFUNCTYPE(_P, _P, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
    for name in (b"dltensor", b"dltensor_versioned"):
        if valid(capsule, name):
            del _RECORDS[get(capsule, name)]


def held() -> int:
    """How many records consumers hold."""
    return len(_RECORDS)


def _capsule(record: Any, name: bytes) -> Any:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [_P, ctypes.c_char_p, _P]
    return new(ctypes.addressof(record), name, ctypes.cast(_unused, _P))


class Array:
    """Values on the GPU that arrive `delay_ms` after it was made, in the order of its stream.

    Until then the memory holds `before`. `versions` and `streams` note what a consumer asked.
    """

    def __init__(
        self,
        values: npt.NDArray[Any],
        *,
        delay_ms: float = 0,
        before: float = 0,
        legacy: bool = False,
        read_only: bool = False,
        device: int = DEVICE,
        step: int = 1,
    ) -> None:
        self.values = np.ascontiguousarray(values)
        self.legacy, self.read_only, self.device, self.step = legacy, read_only, device, step
        self.stream = Stream()
        memory = _P()
        call("device_allocate", _U64(max(1, self.values.nbytes)), ctypes.byref(memory))
        self.address = cast(int, memory.value)
        self.streams: list[int | None] = []
        self.write(np.full_like(self.values, before))
        self.stream.synchronize()
        self.write(values, delay_ms)

    def write(self, values: npt.NDArray[Any], delay_ms: float = 0) -> None:
        """New values, in the order of the stream."""
        self.values = np.ascontiguousarray(values)
        if delay_ms:
            self.stream.delay(delay_ms)
        self.stream.fill(self.address, self.values)

    def read(self) -> npt.NDArray[Any]:
        return read(self.address, self.values.shape, self.values.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every `step`-th column."""
        *rows, columns = self.values.shape
        return (*rows, columns // self.step)

    def order(self, stream: int | None) -> None:
        self.streams.append(stream)
        if stream in (-1, self.stream.handle):
            return
        event = _P()
        call("event_create", _I32(0), _I32(0), ctypes.byref(event))
        call("event_record", event, _P(self.stream.handle))
        consumer = 0 if stream in (None, 1) else stream
        call("stream_wait_event", _P(consumer), event)
        call("event_destroy", event)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, self.device)

    def __dlpack__(self, *, stream: int | None = None, **asked: Any) -> Any:
        if self.legacy and asked:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        self.order(stream)
        record: Any = _Legacy() if self.legacy else _Versioned()
        tensor = record.tensor
        tensor.data, tensor.device_type, tensor.device_id = self.address, 2, self.device
        tensor.ndim = self.values.ndim
        tensor.code, tensor.lanes = _CODES[self.values.dtype.kind], 1
        tensor.bits = self.values.dtype.itemsize * 8
        strides = [s // self.values.itemsize for s in self.values.strides]
        strides[-1:] = [strides[-1] * self.step] if strides else []
        numbers = ctypes.c_int64 * max(1, self.values.ndim)
        record.keep = (numbers(*self.shape), numbers(*strides), self)
        tensor.shape, tensor.strides = record.keep[:2]
        record.deleter = ctypes.cast(_deleter, _P)
        if not self.legacy:
            record.major, record.minor, record.flags = 1, 1, int(self.read_only)
        _RECORDS[ctypes.addressof(record)] = record
        return _capsule(record, b"dltensor" if self.legacy else b"dltensor_versioned")


class Interface:
    """The same memory through __cuda_array_interface__ alone."""

    def __init__(self, array: Array) -> None:
        self.array = array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        array = self.array
        return {
            "shape": array.shape,
            "typestr": array.values.dtype.str,
            "data": (array.address, array.read_only),
            "strides": None if array.step == 1 else array.values[..., :: array.step].strides,
            "stream": array.stream.handle,
            "version": 3,
        }


class Taken:
    """A tensor as a consumer holds it, the way torch does: the record is taken out of its capsule,
    which goes at once; work is enqueued on the consumer's stream; and when the last array over the
    memory is dropped, the record's deleter is called there and then, whatever the stream still has
    to do."""

    def __init__(self, producer: Any, stream: Stream) -> None:
        assert producer.__dlpack_device__() == (2, DEVICE)
        capsule = producer.__dlpack__(stream=stream.handle, max_version=(1, 1))
        api = ctypes.pythonapi
        get = ctypes.PYFUNCTYPE(_P, ctypes.py_object, ctypes.c_char_p)(
            ("PyCapsule_GetPointer", api)
        )
        rename = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_char_p)(
            ("PyCapsule_SetName", api)
        )
        address = get(capsule, b"dltensor_versioned")
        assert rename(capsule, b"used_dltensor_versioned") == 0
        self.stream = stream
        self._record = _Versioned.from_address(address)
        tensor = self._record.tensor
        assert (tensor.device_type, tensor.device_id) == (2, DEVICE)
        self.address = cast(int, tensor.data + tensor.byte_offset)
        self.shape = tuple(tensor.shape[: tensor.ndim])
        kind = "iuf"[tensor.code] if tensor.code < 3 else "?"
        self.dtype = np.dtype(f"{kind}{tensor.bits // 8}")

    def __del__(self) -> None:
        ctypes.PYFUNCTYPE(None, _P)(self._record.deleter)(_P(ctypes.addressof(self._record)))

    def read_async(self) -> npt.NDArray[Any]:
        """The values, there once the stream is synchronised."""
        values = np.empty(self.shape, self.dtype)
        read_async(self.stream, self.address, values)
        return values


def take(tensor: Any) -> npt.NDArray[Any]:
    """What a consumer with a stream of its own finds in a zl.Tensor on the GPU."""
    stream = Stream()
    values = Taken(tensor, stream).read_async()
    stream.synchronize()
    return values


def read_async(stream: Stream, address: int, into: npt.NDArray[Any]) -> None:
    """Reads device memory in the order of the stream."""
    call("copy_async", into.ctypes.data_as(_P), _P(address), _U64(into.nbytes), _I32(1),
         _P(stream.handle))  # fmt: skip
