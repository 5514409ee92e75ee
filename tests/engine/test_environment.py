"""What this machine decides of an engine's key."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zerolane as zl
from tests.engine.engines import manifest, op_library
from zerolane import _native
from zerolane.engine import differences, environment
from zerolane.runtimes import tensorrt

L4 = {"name": "NVIDIA L4", "compute_capability": (8, 9)}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the GPUs and the libraries that are found."""

    def forget() -> None:
        environment.gpu_here.cache_clear()
        environment._library_version.cache_clear()

    def setup(*gpus: dict[str, Any], library: str | None = "1.7.1.116") -> None:
        found = tensorrt.Candidate("tensorrt-rtx", "rtx", "/x/lib.so.1", "zl.configure", library)
        monkeypatch.setattr(_native, "cuda_info", lambda: {"devices": list(gpus)}, raising=False)
        monkeypatch.setattr(tensorrt, "candidates", lambda backend, build: [found])
        forget()

    yield setup
    forget()


def different(**changes: Any) -> list[str]:
    made = manifest(**({"op_libraries": ()} | changes))
    return [d.part for d in differences(made.parts(), environment.parts_here(made))]


def test_the_same_machine(machine: Any) -> None:
    machine(L4)
    assert different(platform=environment.this_platform()) == []
    assert platform.machine() in environment.this_platform()


def test_another_library(machine: Any) -> None:
    here = environment.this_platform()
    machine(library="1.8.0.1")
    assert different(platform=here) == ["library_version"]
    machine(library=None)  # an explicit path that tells no version
    assert different(platform=here) == []


def test_no_library(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine()
    monkeypatch.setattr(tensorrt, "candidates", lambda backend, build: [])
    assert environment.parts_here(manifest())["library_version"] == "of no library found"


def test_gpus(machine: Any) -> None:
    here = environment.this_platform()
    machine({"name": "NVIDIA H100", "compute_capability": (9, 0)})
    assert different(platform=here) == ["gpu", "compute_capabilities"]
    assert different(platform=here, gpu=None, compute_capabilities=()) == []
    assert different(platform=here, gpu=None, compute_capabilities=("9.0",)) == []
    own = {"gpu": "NVIDIA H100", "compute_capabilities": ("current",)}
    assert different(platform=here, **own) == []
    machine()  # the engine is for another machine
    assert different(platform=here) == []


def test_op_libraries(machine: Any, tmp_path: Path) -> None:
    here = environment.this_platform()
    machine(L4)
    file = tmp_path / "libmy_ops.so"
    use = op_library(path=str(file), sha256=hashlib.sha256(b"ops").hexdigest())
    wanted = ["op_libraries.my_ops 1.2"]
    assert different(platform=here, op_libraries=(use,)) == wanted, "there is no such file"
    file.write_bytes(b"ops")
    assert different(platform=here, op_libraries=(use,)) == []
    file.write_bytes(b"other ops")
    assert different(platform=here, op_libraries=(use,)) == wanted


def test_another_release_of_zerolane(machine: Any) -> None:
    machine()
    assert "zerolane" in different(zerolane="0.0.1")


def test_a_driver_that_is_missing(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise zl.Unavailable("looking for GPUs: no driver; install one")

    machine()
    monkeypatch.setattr(_native, "cuda_info", fail)
    assert environment.gpu_here() is None
