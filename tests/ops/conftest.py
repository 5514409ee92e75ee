from __future__ import annotations

import pytest

import zerolane as zl
from tests.ops.build import ops_library


@pytest.fixture(scope="session")
def test_ops() -> zl.ops.OpLibrary:
    return zl.ops.load(ops_library())
