"""The CUDA libraries that ONNX Runtime's providers are linked to: cuBLAS, cuDNN, cudart, ...

Wheels of NVIDIA put them where no loader looks. A library that is open already is found by its
soname, so they are opened by path before the provider is. No package is imported for that.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import BinaryIO

from zerolane.errors import Unavailable

# The file of a provider, which lies beside libonnxruntime.so.
_FILES = {
    "CUDA": "libonnxruntime_providers_cuda.so",
    "Tensorrt": "libonnxruntime_providers_tensorrt.so",
}
# The part of a package's name that brings a library, by how the library's name starts.
_PACKAGES = {
    "libcublas": "cublas",
    "libcudart": "cuda-runtime",
    "libcudnn": "cudnn",
    "libcufft": "cufft",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse",
    "libnvJitLink": "nvjitlink",
    "libnvrtc": "cuda-nvrtc",
    "libnvinfer": "tensorrt",
    "libnvonnxparser": "tensorrt",
}
# What is opened by name while a model runs, so that nothing is linked to it.
_LATER = ("libnvrtc", "libnvJitLink")
_FOLDERS = ("nvidia/*/lib", "tensorrt_libs")


@dataclass(frozen=True, slots=True)
class Library:
    """A library that a provider needs: who needs it, the package of PyPI that brings it, and the
    path or "system loader"; path None: it could not be opened, and why not."""

    soname: str
    provider: str
    package: str
    path: str | None
    problem: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"{self.soname}: {self.path}"
        return f"{self.soname}: {self.problem} (pip install {self.package})"


_lock = threading.Lock()
_done: set[tuple[str, str]] = set()


def preload(onnxruntime: str, provider: str) -> None:
    """Open what a provider of the library at the path `onnxruntime` needs; once, any thread.

    Nothing happens for providers without libraries of NVIDIA, and for those built into the library.
    Raises Unavailable if one is missing, with its name and package.
    """
    with _lock:
        if (onnxruntime, provider) in _done:
            return
        missing = [found for found in _open_all(onnxruntime, provider) if found.path is None]
        if missing:
            packages = " ".join(dict.fromkeys(library.package for library in missing))
            told = ", ".join(f"{library.soname} {library.problem}" for library in missing)
            raise Unavailable(
                f"loading the {provider} provider of ONNX Runtime: {told}, and the provider is "
                f"linked to {'it' if len(missing) == 1 else 'them'}; pip install {packages}",
                missing[0].soname,
            )
        _done.add((onnxruntime, provider))


def look(onnxruntime: str) -> tuple[Library, ...]:
    """What the providers beside the library at this path need, opened as far as it is there."""
    found: dict[str, Library] = {}
    with _lock:
        for provider in _FILES:
            for library in _open_all(onnxruntime, provider):
                found.setdefault(library.soname, library)
    return tuple(found.values())


def _open_all(onnxruntime: str, provider: str) -> Iterator[Library]:
    if provider not in _FILES:
        return
    file = Path(onnxruntime).resolve().parent / _FILES[provider]
    linked = [name for name in needed(file) if _stem(name) is not None]
    major = _cuda_major(linked)
    for soname in linked:
        path, problem = _open(soname)
        yield Library(soname, provider, _package(soname, major), path, problem)
    if linked and major is not None:
        for stem in _LATER:  # a model may never ask for them
            _open(f"{stem}.so.{major}")


def _open(soname: str) -> tuple[str | None, str | None]:
    """Where it was found or None, and the problem then. What it is linked to is opened before."""
    if _is_open(soname):
        return "open already", None
    path = _in_packages(soname)
    if path is not None:
        for name in needed(path):
            if _stem(name) is not None and name != soname:
                _open(name)
    try:
        ctypes.CDLL(str(path or soname), mode=os.RTLD_NOW | os.RTLD_LOCAL)
    except OSError as error:
        if path is not None:
            return None, f"could not be opened ({error})"
        return None, f"was not found in {' or '.join(_FOLDERS)} of sys.path, nor by the system"
    return str(path or "system loader"), None


def _is_open(soname: str) -> bool:
    try:
        ctypes.CDLL(soname, mode=os.RTLD_LAZY | os.RTLD_NOLOAD)
    except OSError:
        return False
    return True


def _in_packages(soname: str) -> Path | None:
    for entry in sys.path:
        for folder in _FOLDERS:
            for path in sorted(Path(entry or ".").glob(f"{folder}/{soname}")):
                return path
    return None


def _stem(soname: str) -> str | None:
    return next((stem for stem in _PACKAGES if soname.startswith(stem)), None)


def _cuda_major(sonames: Iterable[str]) -> int | None:
    """Of CUDA; cuDNN, cuFFT and cuRAND count on their own."""
    for soname in sonames:
        match = re.fullmatch(r"lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)", soname)
        if match:
            return int(match[1])
    return None


def _package(soname: str, cuda: int | None) -> str:
    """From CUDA 13 on the toolkit's packages have no suffix; cuDNN's and TensorRT's have."""
    name = _PACKAGES[_stem(soname) or ""]
    cuda = cuda or 12
    if name == "tensorrt":
        return f"tensorrt-cu{cuda}-libs"
    return f"nvidia-{name}" + (f"-cu{cuda}" if cuda < 13 or name == "cudnn" else "")


@cache
def needed(path: Path) -> tuple[str, ...]:
    """The sonames that a shared library is linked to; none for a file that is no such library."""
    try:
        with open(path, "rb") as file:
            return tuple(_needed(file))
    except (OSError, struct.error, ValueError):
        return ()


def _needed(file: BinaryIO) -> Iterator[str]:
    """From the dynamic section of an ELF file of 64 bits, little endian."""
    head = file.read(64)
    if head[:6] != b"\x7fELF\x02\x01":
        return
    table, size, count = *struct.unpack_from("<Q", head, 32), *struct.unpack_from("<HH", head, 54)
    segments = []
    for index in range(count):
        kind, _, offset, address, _, length = struct.unpack(
            "<IIQQQQ", _read(file, table + index * size, 40)
        )
        segments.append((kind, offset, address, length))
    names: list[int] = []
    strings = 0
    for kind, offset, _, length in segments:
        if kind != 2:  # PT_DYNAMIC
            continue
        for tag, value in struct.iter_unpack("<QQ", _read(file, offset, length // 16 * 16)):
            if tag == 0:
                break
            if tag == 1:  # DT_NEEDED
                names.append(value)
            elif tag == 5:  # DT_STRTAB
                strings = value
    for kind, offset, address, length in segments:
        if kind == 1 and address <= strings < address + length:  # PT_LOAD
            for name in names:
                text = _read(file, offset + strings - address + name, 256, exact=False)
                yield text.split(b"\0", 1)[0].decode()
            return


def _read(file: BinaryIO, offset: int, length: int, *, exact: bool = True) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if exact and len(data) != length:
        raise ValueError("the file is cut off")
    return data
