"""Which backend, device and provider serve a model, what says so, and sessions as values."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.models import small

Load = Callable[..., zl.Session]
X = np.array([[-1, 0, 1, 2]], np.float32)
MODEL = small.relu().SerializeToString()


@pytest.fixture
def onnxruntime(backend: Backend) -> Backend:
    if backend.name != "onnxruntime":
        pytest.skip("execution providers belong to ONNX Runtime")
    if backend.device != "cpu":
        pytest.skip("this ONNX Runtime has the provider that is to be missing")
    return backend


def test_why_tells_what_was_chosen(backend: Backend) -> None:
    session = backend.load(MODEL)
    assert session.backend == backend.name
    assert session.device == backend.device
    assert session.why[backend.name].startswith("chosen")
    for other in {"onnxruntime", "tensorrt", "tensorrt-rtx"} - {backend.name}:
        assert session.why[other].startswith("passed over")
    with pytest.raises(TypeError):
        session.why["x"] = "y"  # type: ignore[index]


def test_auto(onnxruntime: Backend) -> None:
    session = zl.load(MODEL)
    assert (session.backend, session.device) == ("onnxruntime", "cpu")
    assert "no other execution provider was asked for" in session.why["provider CPU"]
    assert zl.load(MODEL, device="cpu").why["provider CPU"].endswith("was asked for")


def test_a_missing_provider_is_an_error(onnxruntime: Backend) -> None:
    for name in ("CUDA", "CUDAExecutionProvider", "cuda"):
        with pytest.raises(zl.Unavailable, match="CPUExecutionProvider") as caught:
            zl.load(MODEL, providers=[name])
        assert "CUDA" in str(caught.value)
        assert "fallback=True" in str(caught.value)
        assert caught.value.subject == "CUDA"
        assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    "providers", [["Tensorrt"], ["OpenVINO"], ["Nowhere"], [("CUDA", {"device_id": 1})]]
)
def test_other_missing_providers(onnxruntime: Backend, providers: list[Any]) -> None:
    with pytest.raises(zl.Unavailable, match="CPUExecutionProvider"):
        zl.load(MODEL, providers=providers)


def test_fallback_says_what_was_passed_over(onnxruntime: Backend) -> None:
    session = zl.load(MODEL, providers=["CUDA", "Nowhere"], fallback=True)
    assert session.device == "cpu"
    for name in ("CUDA", "Nowhere"):
        assert session.why[f"provider {name}"].startswith("passed over: not in this build")
        assert "CPUExecutionProvider" in session.why[f"provider {name}"]
    assert session.why["provider CPU"] == "chosen: fallback"
    np.testing.assert_array_equal(session(X), [[0, 0, 1, 2]])


def test_cpu_provider_by_name(onnxruntime: Backend) -> None:
    for name in ("CPU", "CPUExecutionProvider", "cpu"):
        session = zl.load(MODEL, providers=[name])
        np.testing.assert_array_equal(session(X), [[0, 0, 1, 2]])
        assert session.device == "cpu"


def test_the_cpu_provider_has_no_options(onnxruntime: Backend) -> None:
    with pytest.raises(zl.InvalidArgument, match="use_arena"):
        zl.load(MODEL, providers=[("CPU", {"use_arena": True})])


def test_cuda_device_without_cuda(onnxruntime: Backend) -> None:
    for device in ("cuda", "cuda:0", "cuda:3"):
        with pytest.raises(zl.Unavailable, match="CUDA"):
            zl.load(MODEL, device=device)
        session = zl.load(MODEL, device=device, fallback=True)
        assert session.device == "cpu"
        assert "passed over" in session.why["provider CUDA"]


@pytest.mark.parametrize("device", ["gpu", "cuda:x", "cuda:-1", "", "CPU", 0, None])
def test_bad_devices(device: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match="choosing a device") as caught:
        zl.load(MODEL, device=device)
    assert caught.value.subject == "device"


def test_device_and_providers_that_contradict(onnxruntime: Backend) -> None:
    with pytest.raises(zl.InvalidArgument, match="contradict"):
        zl.load(MODEL, device="cpu", providers=["CUDA"])


def test_bad_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(zl.InvalidArgument, match="expected one of auto"):
        zl.load(MODEL, backend="tflite")
    for backend in ("tensorrt", "tensorrt-rtx"):
        monkeypatch.setenv(f"ZEROLANE_{backend.upper().replace('-', '_')}", "/nowhere/lib.so.1")
        with pytest.raises(zl.Unavailable, match=f"{backend}|/nowhere/"):
            zl.load(MODEL, backend=backend)


def test_repr(load: Load, tmp_path: Path) -> None:
    onnx.save(small.dynamic_dims(), tmp_path / "dims.onnx")
    text = repr(load(tmp_path / "dims.onnx"))
    assert "dims.onnx" in text
    assert "x: tensor(float32) [N, ?, 3]" in text
    assert "y: tensor(float32) [N, ?, 3]" in text
    assert "sequence(tensor(float32))" in repr(load(small.sequence_output()))


def test_a_session_pickles_as_its_recipe(load: Load, tmp_path: Path) -> None:
    onnx.save(small.relu(), tmp_path / "relu.onnx")
    for model in (MODEL, tmp_path / "relu.onnx"):
        session = load(model, graph_level="basic")
        again = pickle.loads(pickle.dumps(session))
        assert again is not session
        assert again.options == session.options
        assert (again.backend, again.device) == (session.backend, session.device)
        np.testing.assert_array_equal(again(X), session(X))
        np.testing.assert_array_equal(copy.copy(session)(X), session(X))


def test_a_relative_path_pickles_as_absolute(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx.save(small.relu(), tmp_path / "relu.onnx")
    monkeypatch.chdir(tmp_path)
    recipe = pickle.dumps(load("relu.onnx"))
    monkeypatch.chdir("/")
    np.testing.assert_array_equal(pickle.loads(recipe)(X), [[0, 0, 1, 2]])


def test_pickle_without_the_file(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    onnx.save(small.relu(), path)
    recipe = pickle.dumps(load(path))
    path.unlink()
    with pytest.raises(zl.NotFound, match=r"relu\.onnx"):
        pickle.loads(recipe)


def test_bindings_and_futures_do_not_pickle(load: Load) -> None:
    session = load(MODEL)
    for thing in (session.bind(), session.submit(X)):
        with pytest.raises(TypeError):
            pickle.dumps(thing)


def test_a_session_is_not_made_by_hand() -> None:
    with pytest.raises(TypeError, match=r"zl\.load"):
        zl.Session()
