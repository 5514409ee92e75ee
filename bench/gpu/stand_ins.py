# SPDX-License-Identifier: Apache-2.0
"""A dry run: the stand-ins of tests/fakes in the place of the GPU and the vendors' libraries.

It proves that the scripts find their way. What it measures says nothing about a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path

from bench.gpu.machine import STAND_IN_VARIABLE

FAMILIES = {"tensorrt-rtx": "rtx", "tensorrt": "trt11"}


def variables(work: Path) -> dict[str, str]:
    """What makes zerolane open the stand-ins. Compiles them at first use."""
    from tests.fakes.tensorrt import libraries

    from zerolane.runtimes.onnxruntime import open_library

    return {
        STAND_IN_VARIABLE: "1",
        "ZEROLANE_FAKE_ONNXRUNTIME": str(open_library()["path"]),  # what computes the models
        "ZEROLANE_CUDA_LIBRARY": str(libraries.cuda_library()),
        "ZEROLANE_TENSORRT_RTX": str(libraries.library(FAMILIES["tensorrt-rtx"])),
        "ZEROLANE_TENSORRT": str(libraries.library(FAMILIES["tensorrt"])),
    }


def build(work: Path) -> str:
    """Compiles them; the reason why not is raised as RuntimeError."""
    from tests.fakes.tensorrt import libraries

    reason = libraries.missing()
    if reason is not None:
        raise RuntimeError(reason)
    names = ", ".join(Path(v).name for k, v in variables(work).items() if os.sep in v)
    work.mkdir(parents=True, exist_ok=True)
    (work / "stand-ins.done").write_text(names)
    return names


def engine(path: Path, backend: str, shapes: dict[str, tuple[int, ...]], target: Path) -> Path:
    """An engine file of the stand-in for these shapes."""
    from tests.fakes.tensorrt import libraries, plan

    version = libraries.FAMILIES[FAMILIES[backend]].version
    profile = {name: (s, s, s) for name, s in shapes.items()}
    plan.build(path, backend=backend, version=version, profiles=[profile]).save(target)
    return target
