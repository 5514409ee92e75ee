"""Compiles the stand-ins, once for each family and content, and opens their controls."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[3]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Family:
    """One stand-in: the backend it serves, its release, and the soname that says what it is."""

    name: str
    backend: str
    major: int
    minor: int
    patch: int
    soname: str

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


FAMILIES = {
    family.name: family
    for family in (
        Family("trt10", "tensorrt", 10, 16, 1, "libnvinfer_stand_in.so.10"),
        Family("trt10.0", "tensorrt", 10, 0, 1, "libnvinfer_oldest_stand_in.so.10"),
        Family("trt11", "tensorrt", 11, 4, 0, "libnvinfer_stand_in.so.11"),
        Family("rtx", "tensorrt-rtx", 1, 7, 1, "libtensorrt_rtx_stand_in.so.1"),
    )
}


def missing() -> str | None:
    """Why none can be compiled here; None: they can."""
    return None if compiler() else "no C++ compiler to build the stand-in with"


def compiler() -> str | None:
    return os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")


_OF_A_FAMILY = ("execution", "network", "objects", "runtime")
"""Sources that differ between the families."""


def _headers() -> list[Path]:
    found = [*HERE.glob("*.h"), *(ROOT / "third_party").rglob("*.h")]
    found += [*(ROOT / "third_party").rglob("*.inc"), ROOT / "cpp/cuda/table.h"]
    return found + [ROOT / "cpp/core" / name for name in ("onnx_model.h", "error.h", "wire.h")]


@functools.cache
def _common() -> Path:
    """What all families share, as one object file."""
    sources = [path for path in sorted(HERE.glob("*.cpp")) if path.stem not in _OF_A_FAMILY]
    sources += [ROOT / "cpp/core" / name for name in ("onnx_model.cpp", "error.cpp")]
    return _compile("common.o", sources, ["-r", "-nostdlib"], [*sources, *_headers()])


@functools.cache
def library(name: str) -> Path:
    """The stand-in of a family."""
    family = FAMILIES[name]
    sources = [HERE / f"{stem}.cpp" for stem in _OF_A_FAMILY]
    flags = [
        "-shared",
        f"-DFAKE_FAMILY={family.major}",
        f"-DFAKE_MINOR={family.minor}",
        f"-DFAKE_PATCH={family.patch}",
        f"-Wl,-soname,{family.soname}",
    ]
    parts = [*sources, *_headers(), _common()]
    made = _compile(family.soname, [*sources, _common()], flags, parts)
    # The parser is in the same library.
    parser = f"libnvonnxparser.so.{family.major}"
    if family.backend == "tensorrt-rtx":
        parser = "libtensorrt_onnxparser_rtx.so.1"
    with suppress(FileExistsError):
        os.symlink(made.name, made.parent / parser)
    return made


@functools.cache
def cuda_library() -> Path:
    """The stand-in of the CUDA module."""
    folder = ROOT / "tests/fakes/cuda"
    sources = sorted(folder.glob("*.cpp"))
    parts = [*sources, *folder.glob("*.h"), ROOT / "cpp/cuda/table.h"]
    return _compile("libcuda_stand_in.so", sources, ["-shared", "-pthread"], parts)


def _compile(name: str, sources: list[Path], flags: list[str], parts: list[Path]) -> Path:
    found = compiler()
    assert found is not None, missing()
    digest = hashlib.sha256(" ".join([found, *flags]).encode())
    for part in sorted(parts):
        digest.update(part.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(base) / "zerolane-tests" / digest.hexdigest()[:16]
    target = folder / name
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    # One process compiles: the others may have loaded a file that a second one would replace.
    with (
        (folder / f"{name}.lock").open("w") as lock,
        tempfile.TemporaryDirectory(dir=folder) as work,
    ):
        fcntl.flock(lock, fcntl.LOCK_EX)
        if target.exists():
            return target
        made = Path(work) / name
        command = [found, "-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden"]
        command += [f"-I{ROOT / 'cpp'}", f"-I{ROOT / 'third_party'}", *flags]
        subprocess.run([*command, *map(str, sources), "-ldl", "-o", str(made)], check=True)
        os.replace(made, target)
    return target


class Control:
    """Counts and planned failures of one stand-in, by name; see its sources."""

    def __init__(self, path: Path) -> None:
        loaded = ctypes.CDLL(str(path))
        self._get = loaded.zerolane_fake_trt_get
        self._get.restype, self._get.argtypes = ctypes.c_int64, [ctypes.c_char_p]
        self._set = loaded.zerolane_fake_trt_set
        self._set.restype, self._set.argtypes = None, [ctypes.c_char_p, ctypes.c_int64]

    def __getitem__(self, name: str) -> int:
        return int(self._get(name.encode()))

    def __setitem__(self, name: str, value: int) -> None:
        self._set(name.encode(), value)

    @contextmanager
    def counting(self, *names: str) -> Iterator[dict[str, int]]:
        """How much each count grew, filled in at the end."""
        grown: dict[str, int] = {}
        before = {name: self[name] for name in names}
        yield grown
        grown.update({name: self[name] - before[name] for name in names})


class CudaControl:
    """Counts and planned failures of the stand-in for CUDA; see its control.h."""

    class _Functions(ctypes.Structure):
        _fields_ = (
            ("counts", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
            ("clear_counts", ctypes.CFUNCTYPE(None)),
            (
                "fail",
                ctypes.CFUNCTYPE(
                    None, ctypes.c_char_p, ctypes.c_int32, ctypes.c_int64, ctypes.c_int64
                ),
            ),
            ("heal", ctypes.CFUNCTYPE(None)),
            ("set_memory", ctypes.CFUNCTYPE(None, ctypes.c_uint64)),
            ("hold", ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p)),
            ("release", ctypes.CFUNCTYPE(None, ctypes.c_int32, ctypes.c_void_p)),
            ("copies_of", ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.c_void_p)),
        )

    OUT_OF_MEMORY = 2

    def __init__(self, path: Path) -> None:
        get = ctypes.CDLL(str(path)).zerolane_fake_cuda_control
        get.restype = ctypes.POINTER(self._Functions)
        self._functions = get().contents
        text = (ROOT / "tests/fakes/cuda/control.h").read_text()
        body = text[text.index("struct Counts {") :]
        body = body[: body.index("\n};")]
        fields = re.findall(r"^  u?int64_t ([\w, ]+);", body, re.MULTILINE)
        self._names = [name for line in fields for name in line.split(", ")]

    def __getitem__(self, name: str) -> int:
        """One of the counts."""
        counts = (ctypes.c_int64 * len(self._names))()
        self._functions.counts(counts)
        return counts[self._names.index(name)]

    def copies_of(self, host: int) -> int:
        """How many copies have been run from or to this host address."""
        return int(self._functions.copies_of(host))

    def fail(self, function: str, status: int, *, skip: int = 0, times: int = 1) -> None:
        self._functions.fail(function.encode(), status, skip, times)

    def heal(self) -> None:
        self._functions.heal()
        self.set_memory(1 << 30)

    def hold(self, stream: Any) -> None:
        """Work enqueued on this gpu.Stream from now on waits until release()."""
        self._functions.hold(0, stream.handle)

    def release(self, stream: Any) -> None:
        self._functions.release(0, stream.handle)

    def set_memory(self, size: int) -> None:
        self._functions.set_memory(size)


@functools.cache
def cuda() -> CudaControl:
    return CudaControl(cuda_library())


VIOLATIONS = (
    *("scratch", "address", "profile", "capture_before_run", "refit_while_running"),
    *("engine_before_context", "creators_left", "format", "workspace", "run_without_weights"),
)


@functools.cache
def control(name: str) -> Control:
    return Control(library(name))


def violations(name: str) -> dict[str, int]:
    """How often the interface was used against its rules; all must be zero."""
    counted = {rule: control(name)[f"violations.{rule}"] for rule in VIOLATIONS}
    return {rule: count for rule, count in counted.items() if count}
