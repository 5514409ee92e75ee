"""Engines for the tests: built by the vendor's library, or a stand-in's where there is no GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest

import zerolane as zl
from tests.gpu import needs
from tests.gpu.probe import probe

BACKENDS = ("tensorrt-rtx", "tensorrt")
DEVICE = "cuda:0"

Model = onnx.ModelProto | bytes | str | Path
Shapes = Mapping[str, Any]
Arrays = dict[str, Any]


def capability() -> tuple[int, int]:
    from zerolane import _native

    major, minor = _native.cuda_info()["devices"][0]["compute_capability"]
    return int(major), int(minor)


def build(
    model: Model,
    backend: str,
    *,
    shapes: Shapes | None = None,
    profiles: Sequence[Shapes] | None = None,
    **fields: Any,
) -> zl.Engine:
    """`zl.build` without TF32, whose rounding would hide mistakes; cached between tests."""
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    source = os.fspath(source) if isinstance(source, Path) else source
    if not needs.STAND_IN:
        given: dict[str, Any] = {"tf32": False, **fields}
        return zl.build(source, backend=backend, shapes=shapes, profiles=profiles, **given)
    return _stand_in(source, backend, profiles or ([] if shapes is None else [shapes]), fields)


def _stand_in(
    source: str | bytes, backend: str, profiles: Sequence[Shapes], fields: dict[str, Any]
) -> zl.Engine:
    from tests.fakes.tensorrt import libraries, plan

    family = "rtx" if backend == "tensorrt-rtx" else "trt11"
    known = {"refit", "host_code", "version_compatible"}
    ranges = [{n: _range(r) for n, r in p.items()} for p in profiles]
    return plan.build(
        source,
        backend=backend,
        version=libraries.FAMILIES[family].version,
        profiles=ranges or None,
        refit=bool(fields.get("refit", False)),
        stripped=bool(fields.get("strip_weights", False)),
        host_code=bool(fields.get("version_compatible", False)),
        flags={k: v for k, v in fields.items() if k in known},
    )


def _range(given: Any) -> Any:
    return given if isinstance(given[0], Sequence) else (given, given, given)


def load(engine: zl.Engine, **options: Any) -> zl.Session:
    return zl.load(engine, device=DEVICE, **options)


@cache
def reason_against(backend: str) -> str | None:
    """Why engines of this backend are not tested here; None: they are.

    Where the library is missing, or refuses or breaks on a GPU that it is not made for
    (test_probe.py fails if it breaks). Where it is made for the GPU, the tests say what is wrong.
    """
    from zerolane.runtimes import tensorrt

    if not tensorrt.candidates(backend, build=True):
        return f"no library of {backend} that can build"
    found = probe(backend)
    if found.ran or (found.meant and found.error != "Unavailable"):
        return None
    return f"{backend} does not run on compute capability {capability()}: {found.message}"


def require(backend: str) -> None:
    """Skips, with the reason, where engines of this backend cannot run here."""
    needs.table()
    reason = reason_against(backend)
    if reason is not None:
        pytest.skip(reason)


def unsupported_is_a_skip(make: Callable[[], zl.Engine]) -> zl.Engine:
    """The engine, or a skip that names the nodes which the library has nothing for."""
    try:
        return make()
    except zl.Unsupported as error:
        return pytest.skip(f"the library does not build it: {error}")


def on_cpu(model: Model) -> Callable[[Arrays], Arrays]:
    """The same model in ONNX Runtime on the CPU: what the right answer is."""
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    session = zl.load(source, backend="onnxruntime", device="cpu", threads=2)
    return session.run
