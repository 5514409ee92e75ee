"""What a test needs and this machine may lack: each function returns it, or skips and says why."""

from __future__ import annotations

import importlib
import os
import warnings
from functools import cache
from typing import Any

import pytest

from tests.gpu import cuda_table
from tests.gpu.cuda_table import Failed, Table

STAND_IN = os.environ.get(cuda_table.VARIABLE, "") != ""
"""Whether the CUDA module is a stand-in over host memory (tests/fakes/cuda)."""


@cache
def _table_or_reason() -> Table | str:
    try:
        path = cuda_table.library_path()
    except ImportError as error:
        return f"zerolane is not installed: {error}"
    if not path.exists():
        return f"zerolane was built without CUDA: there is no {path.name}"
    table = cuda_table.open_table()
    try:
        count = table.number("device_count")
    except Failed as error:
        return f"no usable GPU: {error}"
    return table if count > 0 else "no GPU"


def table() -> Table:
    """The CUDA module on a machine with a GPU, or the stand-in."""
    found = _table_or_reason()
    if isinstance(found, str):
        pytest.skip(found)
    return found


def real_gpu() -> None:
    """A GPU, not a stand-in."""
    table()
    if STAND_IN:
        pytest.skip(f"{cuda_table.VARIABLE} names a stand-in, and this needs a GPU")


def torch() -> Any:
    real_gpu()
    module = _imported("torch")
    if not module.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    return module


def cupy() -> Any:
    real_gpu()
    return _imported("cupy")


def _imported(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of when imported is not ours
        try:
            return importlib.import_module(name)
        except ImportError as error:
            return pytest.skip(f"{name} cannot be imported: {error}")
