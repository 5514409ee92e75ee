"""What the tests of the run path use: engines of the stand-in, and its controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

import zerolane as zl
from tests.fakes.tensorrt import libraries, plan

PLANNED = (
    *("fail.enqueue", "fail.capture", "fail.memory", "fail.execution", "fail.deserialize"),
    *("fail.refit", "empty.capture", "not_capturable"),
)


@dataclass(frozen=True)
class Fake:
    family: libraries.Family
    control: libraries.Control
    cuda: libraries.CudaControl

    def heal(self) -> None:
        for name in PLANNED:
            self.control[name] = 0
        self.cuda.heal()

    def engine(self, model: onnx.ModelProto, **build: Any) -> zl.Engine:
        build.setdefault("version", self.family.version)
        return plan.build(model.SerializeToString(), backend=self.family.backend, **build)

    def load(self, model: onnx.ModelProto, *, options: Any = None, **build: Any) -> zl.Session:
        """options: those of zl.load, as a dict."""
        return zl.load(self.engine(model, **build), **(options or {}))


def rows(count: int, width: int = 4) -> np.ndarray[Any, Any]:
    return np.random.default_rng(count).standard_normal((count, width), np.float32)
