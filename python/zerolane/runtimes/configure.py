"""`zl.configure`: choices for the whole process."""

from __future__ import annotations

import os

from zerolane.runtimes import onnxruntime as _onnxruntime
from zerolane.runtimes import tensorrt as _tensorrt


def configure(
    *,
    onnxruntime: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    spin: bool | None = None,
    provider_libraries: dict[str, str | os.PathLike[str]] | None = None,
    tensorrt: str | os.PathLike[str] | None = None,
    tensorrt_rtx: str | os.PathLike[str] | None = None,
) -> None:
    """Set process-wide choices. The first three only before the first model is loaded.

    onnxruntime: path of libonnxruntime.so, instead of looking for it.
    threads: size of the pool that all sessions share (default: the CPUs this process may use).
    spin: whether its idle threads spin (default: no).
    provider_libraries: plugin execution providers, name to library path (ONNX Runtime >= 1.22).
    tensorrt, tensorrt_rtx: path of the library (libnvinfer.so.11, libtensorrt_rtx.so.1), or of
        the folder that holds it, for the builds and loads that follow.
    """
    _tensorrt.configure(tensorrt=tensorrt, tensorrt_rtx=tensorrt_rtx)
    _onnxruntime.configure(
        onnxruntime=onnxruntime,
        threads=threads,
        spin=spin,
        provider_libraries=provider_libraries,
    )
