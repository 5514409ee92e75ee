"""TensorRT-RTX takes what quantize writes for it: parsed strongly typed, built without a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are quantized with onnx")
pytest.importorskip("onnxslim", reason="models are prepared with onnxslim")
if find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("the package tensorrt-rtx-cu13 is not installed", allow_module_level=True)

import zerolane as zl  # noqa: E402
from tests.models import large  # noqa: E402
from tests.models.task_checks import FOLDER  # noqa: E402
from tests.optimize import quantized  # noqa: E402
from tests.optimize.test_tensorrt_rtx import judge  # noqa: E402

NETWORKS = ("digits_mlp", "digits_cnn", "digit_det", "line_ctc", "stream_vad")


def quantize(model: Any, path: Path, **options: Any) -> zl.optimize.QuantReport:
    return zl.optimize.quantize(model, path, target="tensorrt", progress=False, **options)


def text() -> tuple[Any, dict[str, Any]]:
    ids = np.arange(24, dtype=np.int64).reshape(2, 12) * 7
    return large.text_embed(), {"input_ids": ids, "attention_mask": np.ones((2, 12), np.int64)}


@pytest.mark.parametrize("mode", ["static", "fp8"])
def test_trained_models_build(mode: str, tmp_path: Path) -> None:
    files = {}
    for name in NETWORKS:
        files[name] = tmp_path / f"{name}.onnx"
        rows = quantized.calibration(name)
        quantize(FOLDER / f"{name}.onnx", files[name], mode=mode, calibration=rows)
    for told in judge("build", *files.values()):
        assert told["parsed"], told["error"]
        assert told["bytes"] > 5_000
        assert told["types"].count("INT8" if mode == "static" else "FP8") >= 2


@pytest.mark.parametrize("options", [{}, {"rest": "fp16"}, {"mode": "fp8"}, {"mode": "int4"}])
def test_a_transformer_builds(options: dict[str, Any], tmp_path: Path) -> None:
    model, row = text()
    if options.get("mode") != "int4":
        options = options | {"calibration": row}
    report = quantize(model, tmp_path / "m.onnx", samples=row, **options)
    assert report.quantized == 12
    (told,) = judge("build", tmp_path / "m.onnx")
    assert told["parsed"], told["error"]
    stored = {"fp8": "FP8", "int4": "INT4"}.get(str(options.get("mode")), "INT8")
    assert told["types"].count(stored) >= 12
    assert ("HALF" in told["types"]) == ("rest" in options)


def test_everything_between_layers_builds(tmp_path: Path) -> None:
    model = quantized.convolutions()
    for name, rest in (("a", "fp32"), ("b", "fp16")):
        quantize(model, tmp_path / f"{name}.onnx", calibration=quantized.images(model), rest=rest)
    for told in judge("build", tmp_path / "a.onnx", tmp_path / "b.onnx"):
        assert told["parsed"], told["error"]
        assert told["bytes"] > 5_000


def test_zl_build_takes_it(tmp_path: Path) -> None:
    model = quantized.chain([1, 1, 1])
    quantize(model, tmp_path / "m.onnx", calibration=np.ones((4, 24), np.float32))
    engine = zl.build(
        tmp_path / "m.onnx",
        backend="tensorrt-rtx",
        shapes={"x": ((1, 24), (4, 24), (8, 24))},
        cache=False,
        progress=False,
    )
    engine.save(tmp_path / "m.engine")
    assert (tmp_path / "m.engine").stat().st_size > 1000


def test_a_file_for_the_cpu_is_refused_with_its_reason(tmp_path: Path) -> None:
    """Why there are two targets: TensorRT takes no uint8 and no int32 behind DequantizeLinear."""
    model = quantized.chain([1, 1])
    rows = np.random.default_rng(0).standard_normal((4, 24)).astype(np.float32)
    zl.optimize.quantize(model, tmp_path / "m.onnx", calibration=rows, progress=False)
    (told,) = judge("parse", tmp_path / "m.onnx")
    assert not told["parsed"]
    assert "zero point is not supported" in told["error"]
