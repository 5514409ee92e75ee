"""Where models come from: memory, disk, external data, ORT format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.models import large, small, task_checks

Load = Callable[..., zl.Session]
X = np.array([[-1, 0, 1, 2]], np.float32)


def test_memory_and_disk(load: Load, tmp_path: Path) -> None:
    content = small.relu().SerializeToString()
    path = tmp_path / "naïve name é.onnx"
    path.write_bytes(content)
    for model in (content, bytearray(content), memoryview(content), path, str(path)):
        np.testing.assert_array_equal(load(model)(X), [[0, 0, 1, 2]])
    assert load(path).name == path.name
    assert "memory" in load(content).name


def test_a_relative_path(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx.save(small.relu(), tmp_path / "m.onnx")
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load("m.onnx")(X), [[0, 0, 1, 2]])
    assert load("m.onnx").name == "m.onnx"


def test_bytes_may_be_dropped_after_loading(load: Load) -> None:
    content = bytearray(small.matmul_chain(2, 64).SerializeToString())
    session = load(content)
    content[:] = bytes(len(content))
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)
    np.testing.assert_array_equal(session(x), np.roll(x, 2, -1))


def test_file_may_be_removed_after_loading(load: Load, tmp_path: Path) -> None:
    path = small.external_data(tmp_path)
    session = load(path)
    for file in tmp_path.iterdir():
        file.unlink()
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)
    np.testing.assert_array_equal(session(x), np.roll(x, 1, -1))


def test_external_data(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    small.external_data(folder)
    x = np.random.default_rng(0).standard_normal((3, 64), np.float32)
    np.testing.assert_array_equal(load(folder / "model.onnx")(x), np.roll(x, 1, -1))
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load("model/model.onnx")(x), np.roll(x, 1, -1))
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(load("model.onnx")(x), np.roll(x, 1, -1))


def test_external_data_of_a_guarded_model(load: Load, tmp_path: Path) -> None:
    """A model that is rewritten when it is loaded still finds its weights beside its file."""
    model = onnx.load(task_checks.FOLDER / "stream_vad.onnx")
    assert any(node.op_type in ("GRU", "LSTM") for node in model.graph.node)
    path = tmp_path / "vad.onnx"
    onnx.save(model, path, save_as_external_data=True, location="vad.bin", size_threshold=0)
    inputs = task_checks.case_inputs("stream_vad")
    want = task_checks.case_outputs("stream_vad")["prob"]
    np.testing.assert_allclose(load(path).run(inputs)["prob"], want, rtol=1e-4, atol=1e-5)


def test_missing_or_short_external_data(load: Load, tmp_path: Path) -> None:
    path = small.external_data(tmp_path)
    weights = tmp_path / "weights.bin"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(zl.InvalidModel, match=r"model\.onnx"):
        load(path)
    weights.unlink()
    with pytest.raises(zl.NotFound, match=r"weights\.bin"):
        load(path)


def test_external_data_outside_of_the_folder_is_refused(load: Load, tmp_path: Path) -> None:
    path = small.external_data(tmp_path)
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "weights.bin").rename(tmp_path / "secret.bin")
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../secret.bin"
    (inner / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(zl.Error):
        load(inner / "model.onnx")


def test_external_data_of_a_model_in_memory_is_refused(load: Load, tmp_path: Path) -> None:
    path = small.external_data(tmp_path)
    with pytest.raises(zl.Error):
        load(path.read_bytes())


def ort_file(source: Path, target: Path) -> Path:
    """`source` in ORT format, written by the onnxruntime package."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="it writes ORT-format files")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return target


@pytest.mark.parametrize("name", task_checks.TRAINED)
def test_ort_format(backend: Backend, tmp_path: Path, name: str) -> None:
    if backend.name != "onnxruntime":
        pytest.skip("ORT format belongs to ONNX Runtime")
    path = ort_file(task_checks.FOLDER / f"{name}.onnx", tmp_path / f"{name}.ort")
    inputs = task_checks.case_inputs(name)
    for model in (path, path.read_bytes()):
        outputs = backend.load(model).run(inputs)
        for key, want in task_checks.case_outputs(name).items():
            if want.dtype.kind == "f":
                np.testing.assert_allclose(outputs[key], want, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(outputs[key], want)


def test_ort_format_whatever_its_name(backend: Backend, tmp_path: Path) -> None:
    if backend.name != "onnxruntime":
        pytest.skip("ORT format belongs to ONNX Runtime")
    onnx.save(small.relu(), tmp_path / "m.onnx")
    path = ort_file(tmp_path / "m.onnx", tmp_path / "other.bin")
    np.testing.assert_array_equal(backend.load(path)(X), [[0, 0, 1, 2]])


def test_large_model(load: Load) -> None:
    session = load(large.text_embed())
    ids = np.random.default_rng(0).integers(2, large.VOCABULARY, (3, 16))
    y = session(ids, np.ones_like(ids))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, atol=1e-4)
