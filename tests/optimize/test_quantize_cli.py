"""`zerolane quantize`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are quantized with onnx")
pytest.importorskip("onnxslim", reason="models are prepared with onnxslim")

from click.testing import CliRunner, Result  # noqa: E402

from tests.models.task_checks import FOLDER  # noqa: E402
from tests.optimize import quantized  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402

DIGITS = str(FOLDER / "digits_cnn.onnx")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples").mkdir()
    for index, row in enumerate(quantized.calibration("digits_cnn")[:3]):
        np.savez(tmp_path / "samples" / f"{index}.npz", **row)
    return tmp_path


def invoke(*args: object, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, ["quantize", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def test_it_writes_and_tells(folder: Path) -> None:
    told = json.loads(
        invoke(
            *(DIGITS, "m.onnx", "--calibration", "samples", "--metric", "top1", "--keep"),
            *("op:Gemm", "--accuracy", "0.98", "--json"),
        ).stdout
    )
    assert (told["quantized"], told["layers"], told["samples"]) == (4, 5, 3)
    assert told["score"] >= 0.98
    assert (folder / "m.onnx").exists()
    text = invoke(DIGITS, "n.onnx", "--calibration", "samples", "--target", "tensorrt").stdout
    assert "5 of 5 layers quantized" in text
    assert "calibrated on 3 samples" in text


def test_sensitivity_lists_the_layers(folder: Path) -> None:
    told = json.loads(invoke(DIGITS, "--sensitivity", "--calibration", "samples", "--json").stdout)
    assert len(told["layers"]) == 5
    assert told["samples"] == 3
    assert (
        "each quantized alone" in invoke(DIGITS, "--sensitivity", "--calibration", "samples").stdout
    )


@pytest.mark.usefixtures("folder")
def test_wrong_usage() -> None:
    assert "no calibration data" in invoke(DIGITS, "m.onnx", code=2).output
    assert "either OUTPUT or --sensitivity" in invoke(DIGITS, code=2).output
    assert "needs --calibration" in invoke(DIGITS, "--sensitivity", code=2).output
    args = (DIGITS, "--sensitivity", "--calibration", "samples", "--mode", "int4")
    assert "static and fp8" in invoke(*args, code=2).output
    told = invoke(DIGITS, "m.onnx", "--calibration", "nowhere", "--json", code=2)
    assert '"not_found"' in told.stdout


@pytest.mark.usefixtures("folder")
def test_a_floor_that_is_missed_is_exit_code_1() -> None:
    told = invoke(
        *(DIGITS, "m.onnx", "--calibration", "samples", "--metric", "max_error"),
        *("--accuracy", "0.99999", "--json"),
        code=1,
    )
    assert '"accuracy_lost"' in told.stdout
    assert not Path("m.onnx").exists()
