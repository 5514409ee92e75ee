"""Puts the backends of a GPU into the contract suite.

    pytest -p tests.gpu.contract_rows tests/backends

A pytest plugin, so that it comes before the suite reads its rows. Without a GPU every row skips.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import pytest

import zerolane as zl
from tests.backends import backends
from tests.backends.backends import Backend
from tests.fakes.tensorrt.plan import TYPES
from tests.gpu import engines, needs
from tests.models import small

# An engine wants a range for every free dimension, and the suite's models have them without end.
# The more there are, the less each may be: scratch memory is for the greatest shape.
MOST = {1: 1 << 16, 2: 1024, 3: 128}


def _reason_of(check: Callable[[], object]) -> str | None:
    try:
        check()
    except pytest.skip.Exception as reason:
        return str(reason)
    return None


def _cuda_missing() -> str | None:
    """Why ONNX Runtime has no CUDA here."""
    if (reason := _reason_of(needs.real_gpu)) is not None:
        return reason
    try:
        zl.load(small.relu().SerializeToString(), backend="onnxruntime", device="cuda:0")
    except zl.Unavailable as error:
        return str(error)
    return None


@dataclass(frozen=True)
class EngineBackend(Backend):
    """Models become engines whose profiles take nearly anything; without TF32, for the values."""

    def load(self, model: onnx.ModelProto | bytes | str | Path, **fields: Any) -> zl.Session:
        given = {**self.fields, **fields}
        if "shapes" not in given and "profiles" not in given:
            ranges = _ranges(model)
            if ranges:
                given["shapes"] = ranges
        given.setdefault("build", zl.BuildOptions(tf32=False))
        try:
            return super().load(model, **given)
        except zl.UnsupportedGraph as error:
            return pytest.skip(f"{self.name} has nothing for it: {error}")


def _ranges(model: onnx.ModelProto | bytes | str | Path) -> dict[str, Any] | None:
    """Least 1, greatest as MOST allows, for each free dimension; None for what is no model."""
    try:
        proto = model if isinstance(model, onnx.ModelProto) else _read(model)
    except Exception:  # a damaged or missing file: the loader has to say so
        return None
    stored = {t.name for t in proto.graph.initializer}
    tensors = {
        i.name: i.type.tensor_type.shape
        for i in proto.graph.input
        if i.name not in stored and i.type.tensor_type.HasField("shape")
    }
    names = {
        d.dim_param or (n, k) for n, s in tensors.items() for k, d in enumerate(s.dim) if _free(d)
    }
    most = MOST.get(len(names), min(MOST.values()))
    found = {}
    for name, shape in tensors.items():
        if any(_free(d) for d in shape.dim):
            found[name] = tuple(
                tuple(value if _free(d) else d.dim_value for d in shape.dim)
                for value in (1, 1, most)
            )
    return found


def _read(model: bytes | str | Path) -> onnx.ModelProto:
    if isinstance(model, bytes):
        return onnx.load_model_from_string(model)
    return onnx.load(os.fspath(model), load_external_data=False)


def _free(dim: Any) -> bool:
    return not dim.HasField("dim_value")


_LACKING = frozenset(
    {name for name, element in small.ELEMENT_TYPES.items() if element.code not in TYPES}
    - {"string"}
)
_REAL = tuple(
    EngineBackend(
        name,
        "cuda:0",
        lambda name=name: _reason_of(lambda: engines.require(name)),  # type: ignore[misc]
        refused=_LACKING,
        forever=10**6,
    )
    for name in engines.BACKENDS
)
_CUDA = Backend(
    "onnxruntime", "cuda:0", _cuda_missing, {"threads": 1}, backends._ONNXRUNTIME.refused
)

backends.BACKENDS = (*_REAL, _CUDA)  # type: ignore[assignment]
