"""`zl.compare`: several samples, task metrics, noise, layer by layer; and its command."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests.models import task_checks  # noqa: E402
from tests.models.task_checks import FOLDER  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.measure.compare import compare_outputs  # noqa: E402
from zerolane.measure.layers import compare_layers  # noqa: E402

CNN = FOLDER / "digits_cnn.onnx"


def changed(path: Path, weight: str, factor: float) -> Path:
    """digits_cnn with one weight scaled."""
    model = onnx.load(CNN)
    tensor = next(t for t in model.graph.initializer if t.name == weight)
    scaled = (onnx.numpy_helper.to_array(tensor) * factor).astype(np.float32)
    tensor.CopyFrom(onnx.numpy_helper.from_array(scaled, weight))
    onnx.save(model, path)
    return path


def test_metrics_of_an_output() -> None:
    rng = np.random.default_rng(0)
    b = rng.normal(size=(7, 5))
    a = b + rng.normal(0, 0.01, b.shape)
    (row,) = compare_outputs({"y": a}, {"y": b}, atol=0, rtol=0).outputs
    assert row.mean_abs == pytest.approx(np.abs(a - b).mean())
    assert row.mean_rel == pytest.approx(np.abs(a - b).mean() / np.abs(b).mean())
    assert row.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    mse = np.square(a - b).mean()
    assert row.psnr_db == pytest.approx(10 * np.log10((b.max() - b.min()) ** 2 / mse))
    for word in ("mean abs", "cosine", "PSNR"):
        assert word in str(row)
    (same,) = compare_outputs({"y": b}, {"y": b}, atol=0, rtol=0).outputs
    assert (same.mean_abs, same.cosine, same.psnr_db) == (0, pytest.approx(1), np.inf)
    (none,) = compare_outputs({"y": b * np.nan}, {"y": b}, atol=0, rtol=0).outputs
    assert (none.cosine, none.psnr_db) == (None, None)


def test_the_worst_of_several_samples() -> None:
    samples = [{"x": np.full(3, float(k))} for k in range(4)]

    def off(inputs: dict[str, Any]) -> dict[str, Any]:
        return {"y": inputs["x"] + (0.5 if inputs["x"][0] == 2 else 0.125)}

    result = zl.compare(off, lambda i: {"y": i["x"]}, samples, atol=0.25)
    (row,) = result.outputs
    assert result.samples == 4
    assert not result.ok
    assert (row.elements, row.mismatches, row.max_abs, row.sample) == (12, 3, 0.5, 2)
    assert row.mean_abs == pytest.approx((3 * 0.125 + 0.5) / 4)


def test_scores_decide_where_an_accuracy_is_given(tmp_path: Path) -> None:
    samples = task_checks.case_inputs("digits_cnn")
    near = changed(tmp_path / "near.onnx", "6.weight", 1.01)
    result = zl.compare(near, CNN, samples, metrics=["top1", "cosine"], accuracy=0.99)
    assert result.ok
    assert not all(row.ok for row in result.outputs)
    assert result.scores["top1"] == 1
    assert 0.99 < result.scores["cosine"] < 1
    assert "keeps 100.00% of top1" in str(result)
    assert not zl.compare(near, CNN, samples, metrics="top1").ok  # tolerances decide
    far = changed(tmp_path / "far.onnx", "6.weight", -1.0)
    assert not zl.compare(far, CNN, samples, metrics="top1", accuracy=0.99).ok
    json.dumps(result.as_dict())


def test_noise_and_error(tmp_path: Path) -> None:
    samples = task_checks.case_inputs("digits_cnn")
    other_order = zl.load(CNN, graph_level="basic")
    same = zl.compare(other_order, CNN, samples, atol=0, rtol=0, noise=True)
    (row,) = same.outputs
    assert row.noise is not None
    assert 0 < row.noise < 1e-3
    assert row.max_abs <= row.noise
    assert row.verdict in ("noise", "equal")
    assert same.ok
    for factor, verdict in ((1 + 1e-3, "error"), (1.0, "equal")):
        path = changed(tmp_path / "m.onnx", "2.0.weight", factor)
        result = zl.compare(path, CNN, samples, atol=0, rtol=0, noise=True)
        assert result.outputs[0].verdict == verdict
        assert result.ok == (verdict != "error")
    assert (result.outputs[0].of_noise or 0) == 0


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_the_layer_at_which_the_error_begins(layer: int, tmp_path: Path) -> None:
    path = changed(tmp_path / "m.onnx", f"{layer}.0.weight", 1.05)
    result = zl.compare(path, CNN, task_checks.case_inputs("digits_cnn"), layers=True)
    assert result.jump is not None
    assert result.jump.node == f"node_Conv_{34 + layer}"
    assert [row.jump for row in result.layers].count(True) == 1
    assert result.jump.error == pytest.approx(0.05, abs=0.02)
    assert f"the error jumps first at Conv node_Conv_{34 + layer}" in str(result)
    assert len(result.layers) == 11
    same = zl.compare(CNN, CNN, layers=True)
    assert same.jump is None
    assert {row.error for row in same.layers} == {0}


def test_layers_of_a_model_in_float16(tmp_path: Path) -> None:
    zl.optimize.fp16(CNN, tmp_path / "m.onnx", verify=False)
    result = zl.compare(tmp_path / "m.onnx", CNN, layers=True, atol=1)
    assert len(result.layers) > 5
    assert all(row.error < 0.01 for row in result.layers)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"accuracy": 0.9}, "accuracy is 0.9 of 0 metrics"),
        ({"accuracy": 2, "metrics": "top1"}, "accuracy is 2"),
        ({"metrics": ["best"]}, "no metric 'best'"),
        ({"noise": True}, "noise=True and a Session"),
        ({"layers": True}, "layers=True and a Session"),
        ({"inputs": []}, "empty list"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], word: str) -> None:
    with pytest.raises(zl.InvalidArgument, match=word) as caught:
        zl.compare(CNN, zl.load(CNN), **options)
    assert_three_parts(str(caught.value))


def test_models_without_a_value_in_common() -> None:
    other = os.fspath(FOLDER / "wine_forest.onnx")
    with pytest.raises(zl.InvalidArgument, match="no value of the same name") as caught:
        compare_layers(os.fspath(CNN), other, [{}])
    assert_three_parts(str(caught.value))


def test_the_command(tmp_path: Path) -> None:
    near = changed(tmp_path / "near.onnx", "3.0.weight", 1.05)
    case = FOLDER / "digits_cnn.case.npz"
    told = ["compare", os.fspath(near), os.fspath(CNN), "--samples", os.fspath(case)]

    def run(*more: str) -> Any:
        return CliRunner().invoke(cli, [*told, *more])

    done = run("--metric", "top1", "--accuracy", "0.99", "--noise", "--layers", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["jump"]["node"] == "node_Conv_37"
    assert result["outputs"][0]["verdict"] == "error"
    assert result["scores"] == {"top1": 1.0}
    assert run().exit_code == 1
    assert run("--metric", "cosine", "--accuracy", "1").exit_code == 1
    shown = run("--layers", "--noise", "--metric", "top1")
    assert shown.exit_code == 1
    assert "the error jumps first at Conv node_Conv_37" in shown.stdout
    assert "x the noise of the reference: error" in shown.stdout.replace("\n", " ")
    assert run("--metric", "best").exit_code == 2
    assert run("--input", os.fspath(case)).exit_code == 2
    alone = ["compare", os.fspath(CNN), "--vs", "onnxruntime", "--noise"]
    assert CliRunner().invoke(cli, alone).exit_code == 2
