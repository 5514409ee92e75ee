"""The backends that must pass the contract suite, one row each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx

import zerolane as zl


def _onnxruntime_missing() -> str | None:
    try:
        from zerolane.runtimes.onnxruntime import open_library

        open_library()
    except zl.Unavailable as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Backend:
    """How to ask for it, what it cannot do, and why it cannot be used here (None: it can)."""

    name: str
    device: str
    missing: Callable[[], str | None]
    fields: Mapping[str, Any] = field(default_factory=dict)
    # Element types of `small.ELEMENT_TYPES` that no operator of it takes: loading must say so.
    refused: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.name}-{self.device}"

    def load(self, model: onnx.ModelProto | bytes | str | Path, **fields: Any) -> zl.Session:
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        return zl.load(source, backend=self.name, device=self.device, **{**self.fields, **fields})


BACKENDS = (
    Backend(
        "onnxruntime",
        "cpu",
        _onnxruntime_missing,
        {"threads": 1},
        frozenset(
            {"complex64", "complex128"}
            | {"int4", "uint4", "int2", "uint2", "float4e2m1", "float8e8m0"}
        ),
    ),
)
