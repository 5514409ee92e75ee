# SPDX-License-Identifier: Apache-2.0
"""OpenVINO on the CPU: an infer request with its tensors in place, in its default precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bench.environment import package_version
from bench.rivals.contract import Feed, Form


class OpenVinoHandle:
    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        hint = compiled.get_property("INFERENCE_PRECISION_HINT")
        self.precision = str(hint.get_type_name())

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        request = self._compiled.create_infer_request()
        for name, array in inputs.items():
            request.get_tensor(name).data[...] = array

        def outputs() -> Feed:
            request.infer()
            return {name: np.array(request.get_tensor(name).data) for name in wanted}

        return Form("openvino", outputs, request.infer)


class OpenVinoDriver:
    name = "openvino"
    kinds: tuple[str, ...] = ("bound",)

    def version(self) -> str:
        return package_version("openvino") or "unknown"

    def load(self, path: Path, threads: int) -> OpenVinoHandle:
        import openvino

        core = openvino.Core()
        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return OpenVinoHandle(core.compile_model(str(path), "CPU", options))
