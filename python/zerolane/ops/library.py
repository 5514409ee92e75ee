"""Libraries of ops: the built-in one, installed ones (entry points), and files."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

from zerolane import _native
from zerolane.errors import Error, NotFound, Unavailable

GROUP = "zerolane.ops"
BUILTIN = "libzerolane_ops.so"
_lock = threading.RLock()
_broken: dict[str, str] = {}  # entry points that could not be loaded, and why
_stamps: dict[str, tuple[int, ...]] = {}  # of loaded files, when they were loaded first


@dataclass(frozen=True)
class OpLibrary:
    """A loaded library of ops. path is "" for ops that were defined in this process."""

    path: str
    name: str
    version: str
    ops: tuple[str, ...]


def load(path: str | os.PathLike[str]) -> OpLibrary:
    """Load a library of ops. They can then be called, and models and engines may use them.

    path: of the shared library. Loading one again does nothing; it stays for the process's life.

    Raises NotFound, Unavailable (no library of ops, or built for a newer zerolane) and
    InvalidArgument (it defines an op that another library has defined).
    """
    file: str = os.path.abspath(os.fspath(path))
    if not os.path.isfile(file):
        raise NotFound(
            f"loading op library {os.path.basename(file)}: there is no file {file!r}; "
            "check the path, or build the library first",
            file,
        )
    stamp = _stamp(file)
    library = _described(_native.load_op_library(file))
    _stamps.setdefault(library.path, stamp)
    return library


def changed(path: str) -> bool:
    """Whether the file of a loaded library was written since it was loaded, or is gone."""
    try:
        return _stamps.get(path, _stamp(path)) != _stamp(path)
    except OSError:
        return True


def _stamp(path: str) -> tuple[int, ...]:
    stat = os.stat(path)
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns


def loaded() -> tuple[OpLibrary, ...]:
    """The libraries of this process, in no order."""
    return tuple(_described(row) for row in _native.op_libraries())


@cache
def load_builtin() -> OpLibrary:
    return load(os.path.join(os.path.dirname(_native.__file__), BUILTIN))


@cache
def load_installed() -> tuple[OpLibrary, ...]:
    """The libraries of installed packages: entry points of the group "zerolane.ops".

    An entry point names a function without arguments, or a string, that gives the path of a
    library. One that fails does not keep the others from loading; `why_missing` tells.
    """
    from importlib.metadata import entry_points

    found = []
    for entry in entry_points(group=GROUP):
        try:
            value = entry.load()
            found.append(load(value() if callable(value) else value))
        except Exception as error:
            package = entry.dist.name if entry.dist is not None else "a package"
            _broken[f"{entry.name} of {package}"] = str(error)
    return tuple(found)


def broken() -> dict[str, str]:
    """Entry points of installed packages that could not be loaded, and why."""
    with _lock:
        load_installed()
        return dict(_broken)


def resolve(domain: str) -> None:
    """Loads what may define ops of a domain. Called by the core when a model names one."""
    with _lock:
        load_builtin()
        if domain != "zerolane":
            load_installed()


def why_missing(name: str) -> Error:
    """The error for an op that no library has defined."""
    resolve("")
    names = sorted(row["name"] for row in _native.ops(""))
    near = [n for n in names if n.lower().split("::")[-1] == name.lower().split("::")[-1]]
    known = f"did you mean {near[0]!r}?" if near else f"{len(names)} ops are known: zl.ops.names()"
    broken = "".join(f"\n  entry point {who} failed: {why}" for who, why in _broken.items())
    return NotFound(
        f"looking for op {name!r}: no library has defined it, {known}; load its library with "
        f"zl.ops.load(path), or install its package{broken}",
        name,
    )


def missing_library(name: str, path: str, sha256: str) -> Error:
    return Unavailable(
        f"loading op library {name!r}: {path!r} is not there or has another content than the one "
        f"that was used (SHA-256 {sha256[:16]}...); install that version, or build the engine "
        "again",
        name,
    )


def _described(row: dict[str, Any]) -> OpLibrary:
    return OpLibrary(row["path"], row["name"], row["version"], tuple(row["ops"]))
