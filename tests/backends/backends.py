"""The backends that must pass the contract suite, one row each.

A process that is started with ZEROLANE_TEST_STAND_IN=<family> (test_stand_ins.py does) has the one
row of that stand-in of TensorRT instead: libraries are opened once a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import zerolane as zl
from tests.fakes.onnxruntime import stand_in as onnxruntime_stand_in
from tests.fakes.tensorrt import libraries, stand_in
from tests.fakes.tensorrt.plan import TYPES, Lacking
from tests.models import small

VARIABLE = "ZEROLANE_TEST_STAND_IN"
# The second is a release that does not tell where inputs and outputs are.
ONNXRUNTIME_CUDA = ("onnxruntime-cuda", "onnxruntime-1.22-cuda")


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
    # Steps of `small.long_loop` that outlast every test, or, where a run cannot be interrupted, the
    # deadlines and waits in them.
    forever: int = 10**9
    family: str | None = None
    # How often a stand-in was used against its rules.
    violations: Callable[[], dict[str, int]] = dict

    def __str__(self) -> str:
        return f"{self.family or self.name}-{self.device}"

    def load(self, model: onnx.ModelProto | bytes | str | Path, **fields: Any) -> zl.Session:
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        try:
            return zl.load(
                source, backend=self.name, device=self.device, **{**self.fields, **fields}
            )
        except Lacking as error:
            pytest.skip(str(error))


_ONNXRUNTIME = Backend(
    "onnxruntime",
    "cpu",
    _onnxruntime_missing,
    {"threads": 1},
    frozenset(
        {"complex64", "complex128"} | {"int4", "uint4", "int2", "uint2", "float4e2m1", "float8e8m0"}
    ),
)


def _onnxruntime_cuda() -> Backend:
    onnxruntime_stand_in.install(tells_places=ONNXRUNTIME_CUDA[0] == _FAMILY)
    return replace(_ONNXRUNTIME, device="cuda:0", violations=onnxruntime_stand_in.violations)


def _stand_in(family: libraries.Family) -> Backend:
    stand_in.install(family.name)
    types = {name for name, element in small.ELEMENT_TYPES.items() if element.code not in TYPES}
    return Backend(
        family.backend,
        "cuda:0",
        libraries.missing,
        refused=frozenset(types - {"string"}),
        forever=100_000,
        family=family.name,
    )


_FAMILY = os.environ.get(VARIABLE)
BACKENDS = (
    (_ONNXRUNTIME,)
    if not _FAMILY
    else (_onnxruntime_cuda(),)
    if _FAMILY in ONNXRUNTIME_CUDA
    else (_stand_in(libraries.FAMILIES[_FAMILY]),)
)
