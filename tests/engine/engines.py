"""Engines to test with: manifests of every kind of field, and plans of no particular meaning."""

from __future__ import annotations

import random
from typing import Any

from zerolane.engine import Engine, Manifest, OpLibraryUse
from zerolane.types import TensorSpec


def op_library(**changes: Any) -> OpLibraryUse:
    """A library whose ops an engine has as plugins, with `changes`."""
    fields = {
        "name": "my_ops",
        "version": "1.2",
        "path": "/opt/libmy_ops.so",
        "sha256": "c" * 64,
        "ops": {"my::Scale": 1, "my::Crop": 3},
    }
    return OpLibraryUse(**(fields | changes))


def manifest(**changes: Any) -> Manifest:
    """A manifest that uses every field, with `changes`."""
    fields: dict[str, Any] = {
        "model": "resnet.onnx",
        "model_digest": "a" * 64,
        "external_data": {"weights/big.bin": "b" * 64},
        "backend": "tensorrt-rtx",
        "library_version": "1.7.1",
        "platform": "linux-x86_64",
        "profiles": ({"x": ((1, 3), (4, 3), (8, 3))}, {"x": ((16, 3), (16, 3), (16, 3))}),
        "precision": "fp16",
        "flags": {"optimization_level": 3, "refit": True, "pools": {"workspace": 2**33}},
        "op_libraries": (op_library(),),
        "compute_capabilities": ("8.9", "12.0"),
        "gpu": "NVIDIA L4",
        "driver": "580.65.06",
        "inputs": (TensorSpec("x", "float32", ("N", 3), "tensor(float32)"),),
        "outputs": (
            TensorSpec("y", "int64", (None, 10), "tensor(int64)"),
            TensorSpec("s", "float16", None, "sequence(tensor(float16))"),
        ),
        "build_seconds": 12.5,
        "extra": {"note": "über"},
    }
    return Manifest(**(fields | changes))


def plan(size: int = 5000, seed: int = 1) -> bytes:
    """Bytes that stand for a vendor library's plan."""
    return random.Random(seed).randbytes(size)


def engine(size: int = 5000, seed: int = 1, **changes: Any) -> Engine:
    """An engine with such a manifest and plan."""
    return Engine(manifest(**changes), plan(size, seed))
