"""`zl.inspect`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small, task_checks  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.engine import Manifest  # noqa: E402


@pytest.mark.parametrize("name", task_checks.TRAINED)
def test_agrees_with_onnx_and_the_session(name: str) -> None:
    path = task_checks.FOLDER / f"{name}.onnx"
    report, model = zl.inspect(path), onnx.load(path)
    session = zl.load(path)
    assert report.inputs == session.inputs
    assert report.outputs == session.outputs
    assert report.path == str(path)
    assert report.file_bytes == path.stat().st_size
    assert report.ir_version == model.ir_version
    assert report.opsets == {o.domain or "ai.onnx": o.version for o in model.opset_import}
    assert report.producer.startswith(model.producer_name)
    assert sum(report.operators.values()) == len(model.graph.node)
    stored = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    stored += [
        onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    ]
    stored = [array for array in stored if array.dtype.kind in "iufb"]
    assert report.parameter_count == sum(array.size for array in stored)
    assert report.parameter_bytes == sum(array.nbytes for array in stored)
    assert report.backends["onnxruntime"].startswith("loads")
    # tests/build/test_check.py asks libraries that are there.
    assert set(report.backends) == {"onnxruntime", "tensorrt", "tensorrt-rtx"}


def test_operators_of_subgraphs_count_and_domains_are_named() -> None:
    report = zl.inspect(small.long_loop().SerializeToString(), backends=False)
    assert report.operators == {"Identity": 1, "Loop": 1, "MatMul": 1}
    assert report.backends == {}
    report = zl.inspect(small.map_output().SerializeToString())
    assert report.operators == {"ai.onnx.ml::ZipMap": 1}
    assert report.opsets == {"ai.onnx": 17, "ai.onnx.ml": 1}
    assert report.outputs[0].type == "sequence(map(int64, tensor(float32)))"


def test_a_model_that_no_backend_loads_is_still_read() -> None:
    report = zl.inspect(small.unknown_operator().SerializeToString())
    assert report.operators == {"example.test::Absent": 1}
    assert "Absent" in report.backends["onnxruntime"]
    assert not report.backends["onnxruntime"].startswith("loads")
    assert [spec.name for spec in report.inputs] == ["x"]


def test_optional_inputs_and_parameters() -> None:
    report = zl.inspect(small.overridable_initializer().SerializeToString())
    assert [spec.name for spec in report.inputs] == ["x"]
    assert [spec.name for spec in report.optional_inputs] == ["scale"]
    (count,) = report.parameters.values()
    assert (count.tensors, count.count, count.bytes) == (1, 1, 4)


@pytest.mark.parametrize("element", small.ELEMENT_TYPES)
def test_element_types_are_named(element: str) -> None:
    model = small.passthrough(element).SerializeToString()
    (spec,) = zl.inspect(model, backends=False).inputs
    assert (
        spec.dtype.replace("_", "").removesuffix("fnu").removesuffix("fn")
        == (element.removesuffix("fnu").removesuffix("fn"))
        or spec.dtype.replace("_", "") == element
    )
    assert spec.type == f"tensor({spec.dtype})"


def test_shapes_and_unknown_rank() -> None:
    (spec,) = zl.inspect(small.dynamic_dims().SerializeToString(), backends=False).inputs
    assert spec.shape == ("N", None, 3)
    (spec,) = zl.inspect(small.unknown_rank().SerializeToString(), backends=False).inputs
    assert spec.shape is None
    report = zl.inspect(small.add(()).SerializeToString(), backends=False)
    assert report.inputs[0].shape == ()


def test_external_data(tmp_path: Path) -> None:
    path = small.external_data(tmp_path, size=8)
    (file,) = zl.inspect(path).external_files
    assert (file.location, file.exists, file.tensors) == ("weights.bin", True, 1)
    assert file.size == (tmp_path / "weights.bin").stat().st_size
    assert zl.inspect(path).parameters["float32"].bytes == 8 * 8 * 4
    (tmp_path / "weights.bin").unlink()
    report = zl.inspect(path)
    assert not report.external_files[0].exists
    assert "missing" in str(report)
    assert not report.backends["onnxruntime"].startswith("loads")
    (file,) = zl.inspect(path.read_bytes(), backends=False).external_files
    assert (file.path, file.exists, file.size) == (None, False, None)


def test_metadata() -> None:
    model = small.relu()
    model.domain, model.model_version, model.doc_string = "test.example", 7, "says hello"
    onnx.helper.set_model_props(model, {"labels": "a,b", "größe": "1"})
    report = zl.inspect(model.SerializeToString())
    assert report.metadata == {"labels": "a,b", "größe": "1"}
    assert (report.domain, report.model_version, report.doc) == ("test.example", 7, "says hello")
    assert json.loads(json.dumps(report.as_dict()))["metadata"]["labels"] == "a,b"


def test_ort_format(tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime", reason="writes the ORT format")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    model = small.control_policy().SerializeToString()
    ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    report = zl.inspect(tmp_path / "m.ort")
    assert report.format == "ort"
    assert [spec.name for spec in report.inputs] == ["obs"]
    assert report.operators == {}
    assert report.backends["onnxruntime"].startswith("loads")
    assert "m.ort" in str(report)


def test_names_that_are_no_utf8_come_through() -> None:
    report = zl.inspect(small.relu().SerializeToString().replace(b"Relu", b"R\xffl\xfe"))
    assert list(report.operators) == ["R\udcffl\udcfe"]
    assert json.loads(json.dumps(report.as_dict()))["operators"] == report.operators


@pytest.mark.parametrize(
    ("model", "error"),
    [
        (b"", zl.InvalidModel),
        (b"no model at all", zl.InvalidModel),
        ("nowhere/m.onnx", zl.NotFound),
        (".", zl.NotFound),
        (np.zeros(3), zl.InvalidArgument),
    ],
)
def test_bad_models(model: object, error: type[zl.Error]) -> None:
    with pytest.raises(error) as caught:
        zl.inspect(model)  # type: ignore[arg-type]
    assert_three_parts(str(caught.value))


def test_text_names_the_essentials() -> None:
    text = str(zl.inspect(task_checks.FOLDER / "digits_cnn.onnx"))
    for part in ("image: tensor(float32) [N, 1, 8, 8]", "4 x Conv", "65646", "opset ai.onnx 18"):
        assert part in text


def test_an_engine(tmp_path: Path) -> None:
    spec = zl.TensorSpec("x", "float32", ("N", 3), "tensor(float32)")
    manifest = Manifest(
        model="m.onnx",
        model_digest="0" * 64,
        backend="tensorrt-rtx",
        library_version="1.7.1",
        platform="linux-x86_64",
        precision="fp16",
        profiles=({"x": ((1, 3), (2, 3), (4, 3))},),
        inputs=(spec,),
        outputs=(spec,),
        extra={"metadata": {"producer": "pytorch", "version": 2}},
    )
    path = tmp_path / "m.engine"
    zl.Engine(manifest, b"plan").save(path)
    report = zl.inspect(path)
    assert (report.format, report.file_bytes) == ("engine", path.stat().st_size)
    assert report.inputs == report.outputs == (spec,)
    assert (report.producer, report.model_version) == ("pytorch", 2)
    assert report.metadata["precision"] == "fp16"
    assert json.loads(report.metadata["profiles"]) == [{"x": [[1, 3], [2, 3], [4, 3]]}]
    assert list(report.backends) == ["tensorrt-rtx"]
    json.dumps(report.as_dict())
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(zl.InvalidModel) as caught:
        zl.inspect(path)
    assert_three_parts(str(caught.value))


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"vtrt" + bytes(100))
    (tmp_path / "notes.onnx").write_text("These are not the bytes you are looking for.")
    for name, found in (("model.plan", "a bare plan of TensorRT"), ("notes.onnx", "damaged")):
        with pytest.raises(zl.InvalidModel, match=found) as caught:
            zl.inspect(tmp_path / name)
        assert_three_parts(str(caught.value))
        assert str(caught.value).startswith(f"inspecting {name}: ")
