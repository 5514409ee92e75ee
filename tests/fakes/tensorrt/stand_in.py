"""Makes this process use one stand-in for TensorRT and that for CUDA: once, and for good."""

from __future__ import annotations

import os
from typing import Any

from tests.fakes.tensorrt import libraries, plan


def install(family: str) -> libraries.Control:
    """`zl.load` then builds plans of the stand-in; the rest of the way is the real one."""
    wanted = libraries.FAMILIES[family]
    os.environ["ZEROLANE_CUDA_LIBRARY"] = str(libraries.cuda_library())
    variable = wanted.backend.replace("-", "_").upper()
    os.environ[f"ZEROLANE_{variable}"] = str(libraries.library(family))
    # First ours: ONNX Runtime has one environment a process, and the stand-in shares it.
    from zerolane.runtimes.onnxruntime import open_library

    os.environ["ZEROLANE_FAKE_ONNXRUNTIME"] = open_library()["path"]
    import zerolane
    import zerolane.builder.build as builder

    def build(model: Any, *, backend: str, options: Any, progress: Any, **asked: Any) -> Any:
        asked.pop("cache", None)
        profiles = asked.pop("profiles", None)
        if (shapes := asked.pop("shapes", None)) is not None:
            profiles = [shapes]
        return plan.build(
            model, backend=backend, version=wanted.version, profiles=profiles, **asked
        )

    builder.build = zerolane.build = build
    return libraries.control(family)
