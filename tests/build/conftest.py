from __future__ import annotations

from pathlib import Path

import pytest

from tests.build import library

pytest.importorskip("onnx", reason="models are made with onnx")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees the user's own cache."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ZEROLANE_CACHE", str(folder))
    return folder


@pytest.fixture
def rtx() -> str:
    return library.require_rtx()


@pytest.fixture(scope="session")
def bad_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library.bad_library(tmp_path_factory.mktemp("bad"))
