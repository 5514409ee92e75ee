# SPDX-License-Identifier: Apache-2.0
"""zerolane and its peers on a GPU, behind the contract of bench/rivals.

What a timed call includes is the same within a kind:
- "device": inputs and outputs lie in device memory fixed beforehand; the call computes there and
  returns when it is done. Filling the input is not timed, for anyone.
- "graph": the same as a replayed CUDA graph.
- "host": fixed host memory (pinned where the library lets one choose) at both ends; the call copies
  in, computes, copies back and returns when it is done.
- "bound": the same with the memory that zerolane makes for a binding.
- "run", "call": NumPy arrays in, new NumPy arrays out.
TF32 is allowed for everyone, as it is by default in all of them but one (torch, matrix products).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from bench.rivals.contract import Driver, Feed, Handle

Lane = Callable[[], object]


class GpuHandle(Handle, Protocol):
    """A loaded model that can also be run from several threads at once."""

    def lane(self, inputs: Feed, wanted: Feed) -> Lane:
        """A "host" call with memory, stream and state of its own, for one thread."""
        ...


def all_drivers() -> Iterator[Driver]:
    """zerolane's ways first. A library that is not here says so when it loads."""
    from bench.gpu.rivals.onnxruntime_cuda import OnnxRuntimeCudaDriver
    from bench.gpu.rivals.tensorrt_python import TensorRtPythonDriver
    from bench.gpu.rivals.torch_cuda import TorchDriver
    from bench.gpu.rivals.zerolane_gpu import ZerolaneGpuDriver

    for backend in ("tensorrt-rtx", "tensorrt", "onnxruntime"):
        yield ZerolaneGpuDriver(backend)
    yield OnnxRuntimeCudaDriver()
    for backend in ("tensorrt-rtx", "tensorrt"):
        yield TensorRtPythonDriver(backend)
    yield TorchDriver()
