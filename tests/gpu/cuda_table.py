"""The table of the CUDA module (`cpp/cuda/table.h`) for ctypes, read from the header itself."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

HEADER = Path(__file__).parents[2] / "cpp" / "cuda" / "table.h"
VARIABLE = "ZEROLANE_CUDA_LIBRARY"
SYMBOL = "zerolane_cuda_table"
FILE_NAME = "libzerolane_cuda.so"

SUCCESS, NOT_READY, OUT_OF_MEMORY, NO_DRIVER, NO_DEVICE, INVALID, CAPTURE, FATAL, OTHER = range(9)
TO_DEVICE, TO_HOST, ON_DEVICE, INFER = range(4)
HOST, PINNED, DEVICE, MANAGED = range(4)
LARGEST_RANK = 8

_SCALARS: dict[str, Any] = {
    "int32_t": ctypes.c_int32,
    "uint8_t": ctypes.c_uint8,
    "uint32_t": ctypes.c_uint32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "char": ctypes.c_char,
    "float": ctypes.c_float,
    "CopyKind": ctypes.c_int32,
    "MemoryKind": ctypes.c_int32,
    "StatusKind": ctypes.c_int32,
    "CaptureState": ctypes.c_int32,
    "HostFunction": ctypes.c_void_p,
}


def _text() -> str:
    return re.sub(r"//[^\n]*", "", HEADER.read_text())


def _body(kind: str, text: str) -> str:
    found = re.search(rf"struct {kind} \{{(.*?)\n\}};", text, re.DOTALL)
    if found is None:
        raise RuntimeError(f"reading {HEADER.name}: no struct {kind}, expected one; follow it here")
    return found[1]


def _type(spelled: str) -> Any:
    spelled = spelled.replace("const", "").strip()
    return ctypes.c_void_p if spelled.endswith("*") else _SCALARS[spelled]


def structure(name: str) -> type[ctypes.Structure]:
    """A plain struct of the header."""
    fields: list[tuple[str, Any]] = []
    for line in _body(name, _text()).split(";"):
        if not line.strip():
            continue
        declared = re.match(r"\s*(?:const )?(\w+)\s*(.*)$", line, re.DOTALL)
        assert declared is not None, line
        pointer = "*" in line
        for item in declared[2].split(","):
            part = re.match(r"[\s*]*(\w+)(?:\[(\w+)\])?", item)
            assert part is not None, item
            kind: Any = ctypes.c_void_p if pointer else _SCALARS[declared[1]]
            if part[2]:
                count = int(part[2]) if part[2].isdecimal() else LARGEST_RANK
                kind = kind * count
            fields.append((part[1], kind))
    return type(name, (ctypes.Structure,), {"_fields_": fields})


def _constant(name: str) -> int:
    found = re.search(rf"\b{name} = (\d+);", _text())
    if found is None:
        raise RuntimeError(
            f"reading {HEADER.name}: no constant {name}, expected one; follow it here"
        )
    return int(found[1])


VERSION = _constant("kTableVersion")
DeviceInfo: Any = structure("DeviceInfo")
PointerInfo: Any = structure("PointerInfo")
PoolUsage: Any = structure("PoolUsage")
StridedCopy: Any = structure("StridedCopy")
HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Failed(Exception):
    """A call of the table that did not succeed, with its status and what that means."""

    def __init__(self, name: str, status: int, kind: int, text: str) -> None:
        super().__init__(f"{name}: {text} ({status})")
        self.status, self.kind = status, kind


class Table:
    """The functions by name. Those that return a status raise Failed for any but success."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        get = getattr(self._library, SYMBOL)
        get.restype = ctypes.c_void_p
        self.address: int = get()
        head = ctypes.cast(self.address, ctypes.POINTER(ctypes.c_uint32))
        self.version, self.bytes = int(head[0]), int(head[1])
        self.addresses: dict[str, int] = {}
        pattern = re.compile(r"([\w ]+?\*?)\s*\(\*(\w+)\)\(([^)]*)\) noexcept;")
        slots = pattern.findall(_body("Table", _text()))
        self.expected_bytes = 16 + 8 * len(slots)
        for i, (result, name, arguments) in enumerate(slots):
            at = ctypes.c_void_p.from_address(self.address + 16 + 8 * i).value
            assert at is not None, name
            self.addresses[name] = at
            types = [_type(_spelled(a)) for a in _split(arguments)]
            if result.strip().endswith("*"):
                setattr(self, name, ctypes.CFUNCTYPE(ctypes.c_char_p, *types)(at))
            else:
                raw = ctypes.CFUNCTYPE(ctypes.c_int32, *types)(at)
                plain = result.strip() == "StatusKind"
                setattr(self, name, raw if plain else self._checked(name, raw))
                setattr(self, f"raw_{name}", raw)

    def _checked(self, name: str, raw: Callable[..., int]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            status = raw(*arguments)
            if status != 0:
                text = self.error_text(status).decode()
                raise Failed(name, status, self.status_kind(status), text)

        return call

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{HEADER.name} has no function {name}")

    def made(self, function: str, *arguments: Any) -> int:
        """The object or memory that `function` hands back through its last argument."""
        out = ctypes.c_void_p()
        getattr(self, function)(*arguments, ctypes.byref(out))
        return out.value or 0

    def number(self, function: str, *arguments: Any, kind: Any = ctypes.c_int32) -> Any:
        """The number that `function` hands back through its last argument."""
        out = kind()
        getattr(self, function)(*arguments, ctypes.byref(out))
        return out.value

    def copy(self, to: int, source: int, count: int, kind: int, stream: int | None) -> None:
        self.copy_async(0, to, source, count, kind, stream)

    def strided(
        self,
        to: int,
        source: int,
        element: int,
        shape: Sequence[int],
        to_strides: Sequence[int],
        from_strides: Sequence[int],
        stream: int | None,
    ) -> None:
        """Extents in elements, strides in bytes."""
        extents = ctypes.c_int64 * LARGEST_RANK
        copy = StridedCopy(
            to, source, element, len(shape), extents(*shape), extents(*to_strides),
            extents(*from_strides),
        )  # fmt: skip
        self.copy_strided_async(0, ctypes.byref(copy), stream)


def _spelled(argument: str) -> str:
    """The type of `NativePool** pool`: without the name, stars kept."""
    return " ".join(argument.split()[:-1]) + "*" * argument.count("*")


def _split(arguments: str) -> list[str]:
    return [" ".join(a.split()) for a in arguments.split(",") if a.strip()]


def library_path() -> Path:
    """The file that zerolane opens: the variable's, or the one in the installed package."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)
    import zerolane

    return Path(zerolane.__file__).parent / FILE_NAME


@cache
def open_table() -> Table:
    return Table(library_path())
