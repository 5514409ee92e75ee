"""What tells one metric from another: a search must not go on with scores of another function.

A function is told by where it was defined, its bytecode and constants, its defaults and what it
closes over; an object by its class and attributes. Not seen are globals that it reads, and the
functions that it calls: who changes those takes a new folder.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Set
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis))
_DEEPEST = 50


def identity_of(metric: Any) -> str:
    """The name of a named metric; of a callable where it is from, and a digest.

    The same in each process and on each machine with the same release of Python.
    """
    if isinstance(metric, str):
        return metric
    return f"{_origin(metric)} {_Teller().digest(metric)[:16]}"


def _origin(value: Any) -> str:
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', '')}.{named.__qualname__}"


class _Teller:
    """Walks through a value once, whatever holds what."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, Any]] = {}  # holds the values, so that ids stay theirs

    def digest(self, value: Any) -> str:
        digest = hashlib.sha256()
        for part in self._parts(value, 0):
            digest.update(len(part).to_bytes(8, "little") + part)
        return digest.hexdigest()

    def _parts(self, value: Any, depth: int) -> Iterator[bytes]:
        if isinstance(value, _PLAIN):
            yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
            return
        yield _origin(value).encode()
        if id(value) in self._seen:
            yield str(self._seen[id(value)][0]).encode()
            return
        self._seen[id(value)] = len(self._seen), value
        if depth == _DEEPEST:
            return
        if isinstance(value, np.ndarray | np.generic):
            array = np.asarray(value)
            yield f"{array.dtype} {array.shape}".encode()
            held = [array.tolist()] if array.dtype == object else []
            yield b"" if held else array.tobytes()
        elif isinstance(value, Set):  # in no order that another process would repeat
            yield from sorted(_Teller().digest(item).encode() for item in value)
            held = []
        else:
            held = _held(value)
        yield str(len(held)).encode()
        for item in held:
            yield from self._parts(item, depth + 1)


def _held(value: Any) -> list[Any]:
    """What a value is made of."""
    if isinstance(value, Mapping):
        return [part for pair in value.items() for part in pair]
    if isinstance(value, list | tuple):
        return [*value]
    if isinstance(value, CodeType):
        names = (*value.co_names, *value.co_freevars, *value.co_varnames)
        return [value.co_code, *names, *value.co_consts]
    if isinstance(value, FunctionType):
        cells = value.__closure__ or ()
        return [value.__code__, value.__defaults__, value.__kwdefaults__, *map(_content, cells)]
    if isinstance(value, MethodType):
        return [value.__func__, value.__self__]
    if isinstance(value, functools.partial):
        return [value.func, value.args, value.keywords]
    if isinstance(value, type):
        return []
    kinds = type(value).__mro__
    slots = [n for kind in kinds for n in _names(kind.__dict__.get("__slots__", ()))]
    held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    called = next((k.__dict__["__call__"] for k in kinds if "__call__" in k.__dict__), None)
    told = called if isinstance(called, FunctionType) else None
    return [held | getattr(value, "__dict__", {}), told]


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _names(slots: Any) -> list[str]:
    names = [slots] if isinstance(slots, str) else [*slots]
    return [name for name in names if name not in ("__dict__", "__weakref__")]
