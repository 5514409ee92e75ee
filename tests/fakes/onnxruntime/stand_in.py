"""ONNX Runtime with a CUDA provider that works on the stand-in for CUDA; see cuda_provider.cpp."""

from __future__ import annotations

import ctypes
import functools
import os
from pathlib import Path

from tests.fakes.tensorrt import libraries

HERE = Path(__file__).parent
VIOLATIONS = ("memory", "graph", "graph_memory", "concurrent", "option")


@functools.cache
def library() -> Path:
    parts = [HERE / "cuda_provider.cpp", libraries.ROOT / "cpp/cuda/table.h"]
    parts += sorted((libraries.ROOT / "third_party/onnxruntime").iterdir())
    return libraries._compile(
        "libonnxruntime_stand_in.so", [parts[0]], ["-shared", "-pthread"], parts
    )


@functools.cache
def _counts() -> ctypes._NamedFuncPointer:
    get = ctypes.CDLL(str(library())).zerolane_fake_ort_get
    get.restype, get.argtypes = ctypes.c_int64, [ctypes.c_char_p]
    return get


def count(name: str) -> int:
    """How often: runs, graphs, replays, violations.memory, ..."""
    return int(_counts()(name.encode()))


def violations() -> dict[str, int]:
    """How often the provider was used against its rules; all must be zero."""
    counted = {rule: count(f"violations.{rule}") for rule in VIOLATIONS}
    return {rule: times for rule, times in counted.items() if times}


def install(*, tells_places: bool = True) -> None:
    """Make this process use it, once and for good; as a release before 1.23 unless tells_places."""
    from zerolane.runtimes import onnxruntime

    os.environ["ZEROLANE_CUDA_LIBRARY"] = str(libraries.cuda_library())
    os.environ["ZEROLANE_FAKE_ONNXRUNTIME"] = onnxruntime.candidates()[0].path
    if not tells_places:
        os.environ["ZEROLANE_FAKE_NO_PLACES"] = "1"
    onnxruntime.configure(onnxruntime=str(library()))
