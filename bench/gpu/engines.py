# SPDX-License-Identifier: Apache-2.0
"""Engines of the models that are timed: built once for each backend, kept in the work folder."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from tests.gpu.probe import probe

from bench.gpu.machine import stand_in
from bench.gpu.models import shapes_of
from bench.rivals.contract import Feed, Unsupported


def engine_file(path: Path, backend: str, inputs: Feed) -> Path:
    """An engine file of `backend` for exactly these shapes. Raises Unsupported, with the reason."""
    import zerolane as zl

    shapes = shapes_of(inputs)
    text = "_".join("x".join(map(str, s)) for s in shapes.values())
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
    target = _folder() / f"{path.stem}_{text}_{digest}.{backend}.engine"
    if target.exists():
        return target
    print(f"building {target.name}", file=sys.stderr, flush=True)
    try:
        if stand_in():
            from bench.gpu import stand_ins

            return stand_ins.engine(path, backend, shapes, target)
        _build(path, backend, {n: shapes[n] for n in _free(path) if n in shapes}).save(target)
    except zl.Error as error:
        raise Unsupported(f"no engine: {str(error)[:300]}") from error
    return target


def _build(path: Path, backend: str, shapes: dict[str, tuple[int, ...]]) -> Any:
    """For the GPU that is here alone where the library knows it, else for those it targets."""
    import zerolane as zl

    if backend == "tensorrt-rtx":
        try:
            return zl.build(
                str(path), backend=backend, shapes=shapes, compute_capabilities=["current"]
            )
        except zl.Error as error:
            print(f"not for this GPU alone: {error}", file=sys.stderr, flush=True)
    return zl.build(str(path), backend=backend, shapes=shapes)


def _free(path: Path) -> list[str]:
    """The inputs with a free dimension."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    return [
        value.name
        for value in graph.input
        if not all(d.HasField("dim_value") for d in value.type.tensor_type.shape.dim)
    ]


def plan_of(path: Path) -> memoryview:
    """The plan inside an engine file, for the vendor's own Python bindings."""
    import zerolane as zl

    return zl.Engine.read(path).plan


def runs(backend: str) -> str | None:
    """Why engines of this backend cannot run here, or None: found out in another process."""
    from zerolane.runtimes import tensorrt

    if not tensorrt.candidates(backend, build=True):
        return f"no library of {backend} that can build"
    found = probe(backend)
    return None if found.ran else found.message


_work: list[Path] = []


def set_folder(folder: Path) -> None:
    _work[:] = [folder]


def _folder() -> Path:
    folder = (_work[0] if _work else Path("bench") / "out") / "engines"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
