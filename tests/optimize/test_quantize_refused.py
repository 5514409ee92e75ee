"""What `zl.optimize.quantize` refuses, how, and that nothing is left or overwritten then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are quantized with onnx")
pytest.importorskip("onnxslim", reason="models are prepared with onnxslim")

import zerolane as zl  # noqa: E402
from tests.models.task_checks import FOLDER, case_inputs  # noqa: E402
from tests.optimize import graphs, quantized  # noqa: E402

DIGITS = FOLDER / "digits_cnn.onnx"
GOOD = case_inputs("digits_cnn")
BAD = {"image": np.full((4, 1, 8, 8), np.nan, np.float32)}


def refuse(model: Any, path: Path, kind: type[Exception], match: str, **options: Any) -> zl.Error:
    """Quantizes; the error must have its three parts, and leave an older file as it was."""
    path.write_bytes(b"an older file")
    with pytest.raises(kind, match=match) as told:
        zl.optimize.quantize(model, path, progress=False, **options)
    assert isinstance(told.value, zl.Error)
    assert "expected" in str(told.value) or ";" in str(told.value)
    assert path.read_bytes() == b"an older file"
    assert [p.name for p in path.parent.iterdir() if p.name.startswith(".")] == []
    return told.value


@pytest.mark.parametrize(
    ("options", "kind", "says"),
    [
        ({}, zl.InvalidArgument, "no calibration data was given"),
        ({"mode": "fp8"}, zl.InvalidArgument, "no calibration data was given"),
        ({"calibration": []}, zl.InvalidArgument, "calibrating: no sample was given"),
        ({"calibration": BAD}, zl.InvalidArgument, "256 of 256 values are NaN"),
        ({"calibration": [GOOD, BAD]}, zl.InvalidArgument, "sample 1, input 'image'"),
        ({"calibration": np.ones((4, 8, 8), np.float32)}, zl.ShapeMismatch, r"x\[None\]"),
        ({"calibration": np.ones((4, 1, 8, 8))}, zl.InvalidArgument, "float64, expected float32"),
        ({"calibration": {"picture": 1}}, zl.InvalidArgument, "'picture'"),
        ({"calibration": "nowhere"}, zl.NotFound, "there is nothing at 'nowhere'"),
        ({"mode": "int3"}, zl.InvalidArgument, "expected one of static"),
        ({"target": "gpu", "calibration": GOOD}, zl.InvalidArgument, "one of cpu, tensorrt"),
        ({"method": "mean", "calibration": GOOD}, zl.InvalidArgument, "one of minmax"),
        ({"rest": "bf16", "calibration": GOOD}, zl.InvalidArgument, "one of fp32, fp16"),
        ({"percentile": 0.999, "calibration": GOOD}, zl.InvalidArgument, "99.99 is usual"),
        ({"accuracy": 99, "calibration": GOOD}, zl.InvalidArgument, "0.99 allows one percent"),
        ({"accuracy": 0.9, "mode": "dynamic"}, zl.InvalidArgument, "nothing to score 'cosine' on"),
        (
            {"accuracy": 0.9, "verify": False, "calibration": GOOD},
            zl.InvalidArgument,
            "with verify=False",
        ),
        ({"block": 33, "mode": "int4"}, zl.InvalidArgument, "32 is usual"),
        ({"mode": "dynamic", "target": "tensorrt"}, zl.Unsupported, "no dynamic ranges"),
        (
            {"target": "tensorrt", "symmetric": False, "calibration": GOOD},
            zl.Unsupported,
            "zero points of 0 only",
        ),
        ({"metric": "nonsense", "calibration": GOOD}, zl.InvalidArgument, "no metric 'nonsense'"),
        ({"mode": "int4"}, zl.Unsupported, "nothing is left to quantize"),
        (
            {"calibration": GOOD, "keep": ["op:Conv", "op:Gemm"]},
            zl.Unsupported,
            "named in keep",
        ),
    ],
)
def test_options_and_samples(
    options: dict[str, Any], kind: type[Exception], says: str, tmp_path: Path
) -> None:
    refuse(DIGITS, tmp_path / "m.onnx", kind, says, **options)


def test_a_model_is_quantized_once(tmp_path: Path) -> None:
    zl.optimize.quantize(DIGITS, tmp_path / "q.onnx", calibration=GOOD, progress=False)
    refuse(
        tmp_path / "q.onnx",
        tmp_path / "m.onnx",
        zl.InvalidArgument,
        "it is quantized already",
        calibration=GOOD,
    )
    zl.optimize.quantize(
        quantized.chain([1, 1], 64), tmp_path / "d.onnx", mode="dynamic", progress=False
    )
    refuse(
        tmp_path / "d.onnx",
        tmp_path / "m.onnx",
        zl.InvalidArgument,
        "is a DynamicQuantizeLinear",
        calibration=np.ones((2, 64), np.float32),
    )


def test_an_operator_without_an_integer_form_is_named(tmp_path: Path) -> None:
    told = refuse(
        graphs.model(
            [graphs.node("Einsum", ["x", "x"], ["y"], "e", equation="ij,jk->ik")],
            {"x": [4, 4]},
            {"y": [4, 4]},
        ),
        tmp_path / "m.onnx",
        zl.Unsupported,
        "Einsum e: Einsum has no integer form",
        calibration=np.ones((4, 4), np.float32),
    )
    assert told.code == "unsupported"


def test_an_old_opset_is_raised_and_said(tmp_path: Path) -> None:
    report = zl.optimize.quantize(
        quantized.chain([1, 1], opset=9),
        tmp_path / "m.onnx",
        calibration=np.ones((2, 24), np.float32),
        progress=False,
    )
    assert report.opset == (9, 13)
    assert "opset 9 -> 13" in report.notes


def test_an_opset_that_does_not_convert_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no adapter")

    monkeypatch.setattr(onnx.version_converter, "convert_version", fail)
    refuse(
        quantized.chain([1, 1], opset=9),
        tmp_path / "m.onnx",
        zl.Unsupported,
        r"opset 9, opset 13 is needed.*no adapter.*export the model with opset 13",
        calibration=np.ones((2, 24), np.float32),
    )


def test_the_model_is_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "m.onnx"
    source.write_bytes(DIGITS.read_bytes())
    with pytest.raises(zl.InvalidArgument, match="would overwrite the model itself"):
        zl.optimize.quantize(source, source, calibration=GOOD, progress=False)
    assert source.read_bytes() == DIGITS.read_bytes()


def test_files_that_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    refuse(
        tmp_path / "x.onnx", tmp_path / "m.onnx", zl.InvalidModel, "no ONNX model", calibration=GOOD
    )
    refuse(
        tmp_path / "none.onnx",
        tmp_path / "m.onnx",
        zl.NotFound,
        "there is no file",
        calibration=GOOD,
    )


def test_activations_that_are_not_finite_are_named(tmp_path: Path) -> None:
    model = quantized.chain([1, 1])
    huge = np.full((2, 24), 3e38, np.float32)
    refuse(model, tmp_path / "m.onnx", zl.InvalidArgument, "'r0' reaches from", calibration=huge)


def test_a_metric_that_raises_leaves_nothing(tmp_path: Path) -> None:
    def broken(_: Callable[..., Any]) -> float:
        raise KeyError("labels")

    with pytest.raises(KeyError, match="labels"):
        zl.optimize.quantize(
            DIGITS, tmp_path / "m.onnx", calibration=GOOD, metric=broken, progress=False
        )
    assert list(tmp_path.iterdir()) == []


def test_progress_tells_fractions_that_grow(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    zl.optimize.quantize(
        DIGITS,
        tmp_path / "m.onnx",
        calibration=quantized.calibration("digits_cnn"),
        metric="top1",
        accuracy=0.9,
        progress=lambda done, doing: told.append((done, doing)),
    )
    fractions = [done for done, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert ("calibrating on sample 10 of 10") in [doing for _, doing in told]


def test_layers_in_bodies_of_control_flow_stay_float(tmp_path: Path) -> None:
    weights = {"w": graphs.random(24, 24), "v": graphs.random(24, 24)}
    body = [graphs.node("MatMul", ["h", "v"], ["out"], "inner")]
    other = [graphs.node("Identity", ["h"], ["same"])]
    info = [graphs.value(name, graphs.FLOAT, ["N", 24]) for name in ("out", "same")]
    branches = [
        onnx.helper.make_graph(nodes, f"b{i}", [], [info[i]])
        for i, nodes in enumerate((body, other))
    ]
    flow = graphs.node("If", ["c"], ["y"], "if", then_branch=branches[0], else_branch=branches[1])
    model = graphs.model(
        [graphs.node("MatMul", ["x", "w"], ["h"], "outer"), flow],
        {"x": ["N", 24], "c": []},
        {"y": ["N", 24]},
        weights,
        types={"c": onnx.TensorProto.BOOL},
    )
    rows = [{"x": graphs.random(3, 24), "c": np.array(c)} for c in (True, False)]
    report = zl.optimize.quantize(model, tmp_path / "m.onnx", calibration=rows, progress=False)
    assert [(k.node, k.reason) for k in report.kept] == [
        ("inner", "it lies in the body of a control-flow node")
    ]
    assert report.quantized == 1
    assert report.score is not None
    assert report.score > 0.99
