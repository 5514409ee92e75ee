# SPDX-License-Identifier: Apache-2.0
"""Builds the C floor on demand with `cc`, and finds the ONNX Runtime library it opens."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

from bench.settings import BENCH_FOLDER, BUILD_FOLDER

SOURCES = BENCH_FOLDER / "cpp"
FLAGS = ("-O2", "-Wall", "-Wextra")
SHARED = ("-shared", "-fPIC")


def floor_library() -> Path:
    """The floor as a shared library, for ctypes."""
    return _build("libfloor.so", ("ort_loop.c",), (*SHARED, "-fvisibility=hidden"))


def floor_program() -> Path:
    """The floor as a program, for valgrind."""
    return _build("ort_loop", ("ort_loop.c", "ort_loop_main.c"), ())


def allocation_counter() -> Path:
    """The library to preload that counts malloc and free."""
    return _build("liballocations.so", ("allocations.c",), SHARED)


def hand_op() -> Path:
    """An op made by hand for onnxruntime, and its bare loop for ctypes."""
    return _build("libhand_op.so", ("hand_op.c",), (*SHARED, "-fvisibility=hidden"))


def kit_op() -> Path:
    """The same op written with the kit."""
    root = BENCH_FOLDER.parent
    include = (f"-I{root / 'cpp' / 'include'}", f"-I{root / 'third_party'}")
    return _build("libkit_op.so", ("kit_op.cpp",), (*SHARED, *include, "-std=c++17"), "c++")


def batch_clients() -> Path:
    """Clients in C++ of the native batcher, a program; built with cmake."""
    folder = BUILD_FOLDER / "native"
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None:
        raise RuntimeError(
            "building batch_clients: no `cmake` on PATH, expected one; run `pip install cmake`"
        )
    options = ("-DZEROLANE_BENCH=ON", "-DZEROLANE_CUDA=OFF", "-DCMAKE_BUILD_TYPE=Release")
    root = str(BENCH_FOLDER.parent)
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    subprocess.run([cmake, "-S", root, "-B", str(folder), *options], **quiet)  # type: ignore[call-overload]
    build = [cmake, "--build", str(folder), "--target", "batch_clients", "--parallel", "2"]
    subprocess.run(build, **quiet)  # type: ignore[call-overload]
    return folder / "bench" / "cpp" / "batch_clients"


def onnxruntime_library() -> Path:
    """The C library inside the installed onnxruntime package, found without importing it."""
    spec = importlib.util.find_spec("onnxruntime")
    roots = list(spec.submodule_search_locations or ()) if spec is not None else []
    found = [p for root in roots for p in sorted(Path(root, "capi").glob("libonnxruntime.so*"))]
    if not found:
        raise RuntimeError(
            "finding the floor's library: no capi/libonnxruntime.so* in an installed onnxruntime "
            "package, expected one; run `pip install onnxruntime`"
        )
    return found[0].resolve()


def _build(
    name: str, sources: tuple[str, ...], flags: tuple[str, ...], language: str = "cc"
) -> Path:
    target = BUILD_FOLDER / name
    files = [SOURCES / s for s in sources]
    newest = max(f.stat().st_mtime for f in SOURCES.iterdir())
    if target.exists() and target.stat().st_mtime >= newest:
        return target
    compiler = shutil.which(language)
    if compiler is None:
        raise RuntimeError(
            f"building {name}: no compiler `{language}` on PATH, expected one; install gcc or clang"
        )
    BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
    partial = target.with_suffix(f".{os.getpid()}")
    standard = ["-std=c11"] if language == "cc" else []
    subprocess.run([compiler, *FLAGS, *standard, *flags, "-o", partial, *files, "-ldl"], check=True)
    partial.replace(target)
    return target
