"""What goes back to float: planted layers are named, in few evaluations; ranking and refusals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are quantized with onnx")
pytest.importorskip("onnxslim", reason="models are prepared with onnxslim")

import zerolane as zl  # noqa: E402
from tests.models.task_checks import FOLDER  # noqa: E402
from tests.optimize import quantized  # noqa: E402
from zerolane.optimize.quantization.backoff import fewest  # noqa: E402


def samples() -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal((16, 24)).astype(np.float32) for _ in range(6)]


@pytest.mark.parametrize("target", ["cpu", "tensorrt"])
@pytest.mark.parametrize("planted", [3, 11])
def test_a_planted_layer_is_named_in_few_evaluations(
    planted: int, target: str, tmp_path: Path
) -> None:
    """Its input has one value in 24 that is 3000 times as large as the others."""
    count = 16
    scales = [1.0] * count
    scales[planted] = 3000.0
    report = zl.optimize.quantize(
        quantized.chain(scales),
        tmp_path / "m.onnx",
        target=target,
        calibration=samples(),
        metric="cosine",
        accuracy=0.99,
        progress=False,
    )
    assert report.backed_off == (f"fc{planted}",)
    assert report.evaluations <= math.log2(count) + 4
    assert report.quantized == count - 1
    assert report.score is not None
    assert report.score >= 0.99
    assert f"back to float for accuracy, in {report.evaluations} evaluations: fc{planted}" in str(
        report
    )


def test_sensitivity_ranks_the_planted_layer_first() -> None:
    scales = [1.0] * 6
    scales[4] = 3000.0
    report = zl.optimize.sensitivity(quantized.chain(scales), samples(), progress=False)
    assert report.layers[0].layer == "fc4"
    assert report.layers[0].error > 10 * report.layers[1].error
    assert report.layers[0].scaled > 0.1
    assert len(report.layers) == 6
    assert "by cosine" in str(report)
    assert report.as_dict()["layers"][0]["op"] == "MatMul"


def test_a_floor_that_nothing_keeps_is_refused_and_leaves_no_file(tmp_path: Path) -> None:
    def strict(run: Any) -> float:
        inputs = samples()[0]
        exact = zl.load(quantized.chain([1.0] * 4).SerializeToString()).run({"x": inputs})
        return float(np.abs(run({"x": inputs})["h3"] - exact["h3"]).max() < 1e-7)

    with pytest.raises(zl.optimize.AccuracyLost, match="not one of its 4 layers"):
        zl.optimize.quantize(
            quantized.chain([1.0] * 4),
            tmp_path / "m.onnx",
            calibration=samples(),
            metric=strict,
            accuracy=1.0,
            progress=False,
        )
    assert list(tmp_path.iterdir()) == []


def test_a_function_as_metric_with_its_own_data(tmp_path: Path) -> None:
    digits = quantized.calibration("digits_cnn")
    labels = zl.load(FOLDER / "digits_cnn.onnx").run(digits[0])["logits"].argmax(1)

    def right(run: Any) -> float:
        return float((run(digits[0])["logits"].argmax(1) == labels).mean())

    report = zl.optimize.quantize(
        FOLDER / "digits_cnn.onnx",
        tmp_path / "m.onnx",
        calibration=digits[1:],
        metric=right,
        accuracy=0.97,
        progress=False,
    )
    assert report.metric == "right"
    assert report.score is not None
    assert report.score >= 0.97


@pytest.mark.parametrize("culprits", [[], [0], [30], [2, 3], [0, 17, 30]])
def test_fewest_finds_exactly_those_that_are_needed(culprits: list[int]) -> None:
    ranking = [f"n{i}" for i in range(31)]
    needed = {ranking[i] for i in culprits}
    asked: list[Sequence[str]] = []

    def holds(names: Sequence[str]) -> bool:
        asked.append(names)
        return needed <= set(names)

    assert fewest(ranking, holds) == [ranking[i] for i in culprits]
    assert len(asked) <= 1 + len(culprits) * (math.ceil(math.log2(31)) + 1)


def test_fewest_gives_up_on_precision_but_not_on_the_floor() -> None:
    ranking = [f"n{i}" for i in range(200)]
    needed = set(ranking[::2])
    asked = 0

    def holds(names: Sequence[str]) -> bool:
        nonlocal asked
        asked += 1
        return needed <= set(names)

    found = fewest(ranking, holds)
    assert needed <= set(found)
    assert asked < 60
    assert fewest(ranking, lambda names: len(names) >= len(ranking)) == ranking
