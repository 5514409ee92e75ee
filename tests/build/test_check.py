"""What the parser says of a model, without building it."""

from __future__ import annotations

import pytest

import zerolane as zl
from tests.models import small, task_checks

pytestmark = pytest.mark.usefixtures("rtx")


@pytest.mark.parametrize("name", ["digits_cnn", "digit_det", "line_ctc", "stream_vad"])
def test_a_model_that_it_takes(name: str) -> None:
    says = zl.Build.check(task_checks.FOLDER / f"{name}.onnx")
    assert says.startswith("TensorRT-RTX ")
    assert " layers" in says
    assert zl.inspect(task_checks.FOLDER / f"{name}.onnx").backends["tensorrt-rtx"] == says


def test_operators_that_it_does_not_know_are_listed() -> None:
    with pytest.raises(zl.UnsupportedGraph) as caught:
        zl.Build.check(task_checks.FOLDER / "wine_forest.onnx")
    assert [node.op_type for node in caught.value.report.nodes] == ["TreeEnsembleClassifier"]


@pytest.mark.parametrize("ask", [zl.Build.check, zl.build])
def test_an_output_that_is_an_input(ask: object) -> None:
    with pytest.raises(zl.Unsupported, match="output 'x' is an input"):
        ask(small.passed_input().SerializeToString())  # type: ignore[operator]


def test_no_model() -> None:
    with pytest.raises(zl.InvalidModel):
        zl.Build.check(b"no model")
