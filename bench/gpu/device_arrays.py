# SPDX-License-Identifier: Apache-2.0
"""Arrays in device memory: what a user of the GPU would hand in."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.gpu.cuda_table import TO_DEVICE, TO_HOST, open_table

Array = NDArray[Any]


@cache
def _cupy() -> Any:
    try:
        import cupy

        cupy.cuda.runtime.getDeviceCount()
        return cupy
    except Exception:  # not installed, or no GPU for it
        return None


@cache
def _torch() -> Any:
    try:
        import torch

        return torch if torch.cuda.is_available() else None
    except ImportError:
        return None


def on_device(array: Array) -> Any:
    """A copy on GPU 0, complete when this returns: of CuPy, else torch, else zerolane."""
    if _cupy() is not None:
        found = _cupy().asarray(array)
        _cupy().cuda.Device().synchronize()
        return found
    if _torch() is not None:
        found = _torch().from_numpy(np.array(array)).cuda()
        _torch().cuda.synchronize()
        return found
    return _ours(array)


def pinned(array: Array) -> Array:
    """A copy in pinned host memory, kept until the process ends."""
    count = max(array.nbytes, 1)
    address = open_table().made("host_allocate", 0, count)
    memory = (ctypes.c_uint8 * count).from_address(address)
    found: Array = np.frombuffer(memoryview(memory), array.dtype, array.size).reshape(array.shape)
    found[...] = array
    return found


def to_host(array: Any) -> Array:
    """A NumPy copy of an array of CuPy, torch or zerolane, wherever it is."""
    if isinstance(array, np.ndarray):
        return array.copy()
    if hasattr(array, "get"):
        return np.asarray(array.get())
    if hasattr(array, "cpu"):
        return np.array(array.cpu().numpy())
    if _cupy() is not None:
        return np.asarray(_cupy().from_dlpack(array).get())
    if _torch() is not None:
        return np.array(_torch().from_dlpack(array).cpu().numpy())
    return _read(array)


def _ours(array: Array) -> Any:
    """A tensor of zerolane."""
    from zerolane import _native

    made = _native.empty(array.shape, array.dtype.name, "cuda:0")
    dense = np.ascontiguousarray(array)
    table = open_table()
    table.copy(made.address, dense.ctypes.data, dense.nbytes, TO_DEVICE, None)
    table.stream_synchronize(0, None)
    return made


def _read(tensor: Any) -> Array:
    found = np.empty(tensor.shape, tensor.dtype)
    table = open_table()
    table.stream_synchronize(0, None)
    table.copy(found.ctypes.data, tensor.address, found.nbytes, TO_HOST, None)
    table.stream_synchronize(0, None)
    return found
