"""Where ONNX Runtime's shared library is, and opening it. Nothing of its Python package is run."""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerolane import _native
from zerolane.errors import InvalidArgument, Unavailable

ENVIRONMENT_VARIABLE = "ZEROLANE_ONNXRUNTIME"
OLDEST = (1, 19)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library that could be opened: its path, and who said so."""

    path: str
    source: str
    version: str | None = None


@dataclass
class _Settings:
    library: str | None = None
    threads: int | None = None
    spin: bool = False


_settings = _Settings()
_lock = threading.Lock()


def configure(
    *,
    onnxruntime: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    spin: bool | None = None,
    provider_libraries: dict[str, str | os.PathLike[str]] | None = None,
) -> None:
    """The part of `zerolane.configure` that is about ONNX Runtime."""
    with _lock:
        wanted = {"onnxruntime": onnxruntime, "threads": threads, "spin": spin}
        late = [name for name, value in wanted.items() if value is not None]
        if late and _native.onnxruntime_info() is not None:
            raise InvalidArgument(
                f"configuring {late[0]}: ONNX Runtime is already in use by this process; "
                "call zl.configure before the first zl.load",
                late[0],
            )
        if onnxruntime is not None:
            path = Path(onnxruntime)
            if not path.is_file():
                raise Unavailable(
                    f"configuring onnxruntime: there is no file {str(path)!r}; "
                    "give the path of libonnxruntime.so",
                    str(path),
                )
            _settings.library = str(path.resolve())
        if threads is not None:
            if type(threads) is not int or not 1 <= threads <= 1024:
                raise InvalidArgument(
                    f"configuring threads: it is {threads!r}, expected an int from 1 to 1024; "
                    "leave it out for the CPUs of this process",
                    "threads",
                )
            _settings.threads = threads
        if spin is not None:
            _settings.spin = bool(spin)
    if provider_libraries:
        open_library()
        for name, library in provider_libraries.items():
            _native.register_provider_library(name, os.fspath(library))


def open_library() -> dict[str, Any]:
    """Open the library once a process and return what is known about it."""
    info = _native.onnxruntime_info()
    if info is not None:
        return info
    with _lock:
        failures: list[str] = []
        for candidate in candidates():
            try:
                _native.open_onnxruntime(candidate.path, _settings.threads or 0, _settings.spin)
            except Unavailable as error:
                if candidate.source in ("zl.configure", ENVIRONMENT_VARIABLE):
                    raise
                failures.append(f"{candidate.path} ({candidate.source}): {error}")
                continue
            opened = _native.onnxruntime_info()
            assert opened is not None
            return opened
    raise Unavailable(
        f"looking for ONNX Runtime >= {OLDEST[0]}.{OLDEST[1]}: no library could be used; tried "
        f"onnxruntime/capi/libonnxruntime.so.* in {', '.join(p for p in sys.path if p)} and the "
        f"system loader: {'; '.join(failures)}; "
        "pip install onnxruntime (or onnxruntime-gpu), or set "
        f"{ENVIRONMENT_VARIABLE} to the path of libonnxruntime.so",
        "onnxruntime",
    )


def candidates() -> list[Candidate]:
    """All libraries in the order in which they are tried. An explicit choice stands alone."""
    if _settings.library is not None:
        return [Candidate(_settings.library, "zl.configure")]
    path = os.environ.get(ENVIRONMENT_VARIABLE)
    if path:
        return [Candidate(path, ENVIRONMENT_VARIABLE)]
    return [*_installed(), Candidate("libonnxruntime.so.1", "system loader")]


def _installed() -> Iterator[Candidate]:
    """The library inside the installed Python package.

    onnxruntime, onnxruntime-gpu and onnxruntime-openvino all unpack into the same folder.
    """
    for entry in sys.path:
        folder = Path(entry or ".") / "onnxruntime" / "capi"
        for library in sorted(folder.glob("libonnxruntime.so*")):
            match = re.fullmatch(r"libonnxruntime\.so\.(\d+\.\d+(?:\.\d+)*)", library.name)
            if match:
                yield Candidate(str(library), "Python package", match[1])
