# SPDX-License-Identifier: Apache-2.0
"""zerolane itself: bound `b()`, free `s(x)`, and the dict form `s.run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from bench.environment import package_version
from bench.rivals.contract import Feed, Form, Unsupported

GilMode = Literal["auto", "hold", "release"]


class ZerolaneHandle:
    def __init__(self, session: Any, gil: GilMode = "auto") -> None:
        self.session = session
        self._gil = gil

    def run(self, inputs: Feed) -> Feed:
        return {name: np.asarray(a) for name, a in self.session.run(inputs).items()}

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        if kind == "bound":
            return self._bound(inputs)
        if kind == "run":
            return Form("zerolane.run", lambda: self.run(inputs), self.session.run, (inputs,))
        arrays = tuple(inputs[spec.name] for spec in self.session.inputs)
        names = [spec.name for spec in self.session.outputs]

        def outputs() -> Feed:
            result = self.session(*arrays)
            values = result if len(names) > 1 else (result,)
            return {n: np.asarray(v) for n, v in zip(names, values, strict=True)}

        return Form("zerolane.call", outputs, self.session, arrays)

    def _bound(self, inputs: Feed) -> Form:
        if any(a.dtype.kind in "OUS" for a in inputs.values()):
            raise Unsupported("strings cannot be bound to fixed memory")
        shapes = {name: a.shape for name, a in inputs.items()}
        binding = self.session.bind(gil=self._gil, **shapes)
        for name, a in inputs.items():
            binding.inputs[name][...] = a

        def outputs() -> Feed:
            binding()
            return {s.name: np.array(binding.outputs[s.name]) for s in self.session.outputs}

        return Form("zerolane.bound", outputs, binding)


class ZerolaneDriver:
    """`gil` other than "auto" is for counting under valgrind, whose slowness misleads it."""

    name = "zerolane"
    kinds: tuple[str, ...] = ("bound", "call", "run")

    def __init__(self, gil: GilMode = "auto") -> None:
        self._gil = gil

    def version(self) -> str:
        return package_version("zerolane") or "unknown"

    def load(self, path: Path, threads: int) -> ZerolaneHandle:
        import zerolane as zl

        session = zl.load(
            str(path), backend="onnxruntime", device="cpu", threads=threads, gil=self._gil
        )
        return ZerolaneHandle(session, self._gil)
