"""The committed stub of the native module says what the module says."""

from __future__ import annotations

import pytest

from tests.rules import stubs


def test_stub_is_current() -> None:
    pytest.importorskip("pybind11_stubgen", reason="stubs are compared where pybind11-stubgen is")
    assert stubs.STUB.read_text() == stubs.generate(), "run: make stubs"
