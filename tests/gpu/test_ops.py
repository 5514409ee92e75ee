"""The built-in ops on a GPU: every case of `zerolane op test`, by CUDA body and in an engine."""

from __future__ import annotations

import pytest

import zerolane as zl
from tests.gpu import needs
from zerolane.ops import testing

OPS = [name for name in zl.ops.names() if name.startswith("zerolane::")]


@pytest.mark.parametrize("check", ["cuda", "capture", "tensorrt"])
@pytest.mark.parametrize("name", OPS)
def test_built_in(name: str, check: str) -> None:
    needs.real_gpu()
    for case in testing.cases(name):
        testing.check(case, check)
