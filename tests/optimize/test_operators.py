"""Every ONNX operator: the node tests that onnx generates, held against the original."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

import zerolane as zl  # noqa: E402
from tests.optimize import graphs  # noqa: E402

CASES_OF_ONE_OPERATOR = 2

BEYOND = {
    "LogSoftmax": "inputs of 10000 differ by 1, which 8 to 11 bits do not hold",
    "Softmax": "the same",
    "Tan": "next to a pole",
}
"""Operators whose test values no narrow type can do well on, and why."""


def cases() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, model and inputs of the first cases of each operator that ONNX Runtime can run."""
    try:
        from onnx.backend.test.case.node import collect_testcases
    except ImportError:
        pytest.skip("this release of onnx does not generate its node tests")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = collect_testcases(None)
    seen: Counter[str] = Counter()
    for case in found:
        model = case.model
        if len(model.graph.node) != 1 or model.graph.node[0].domain:
            continue
        kinds = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
        operator = model.graph.node[0].op_type
        values = case.data_sets[0][0]
        if graphs.FLOAT not in kinds or seen[operator] == CASES_OF_ONE_OPERATOR:
            continue
        if not all(isinstance(v, np.ndarray) for v in values):
            continue
        inputs = dict(zip((v.name for v in model.graph.input), values, strict=False))
        try:
            zl.load(model.SerializeToString()).run(inputs)
        except zl.Error:
            continue  # too young for this ONNX Runtime, or without a kernel
        seen[operator] += 1
        yield case.name, model, inputs


@pytest.fixture(scope="module")
def node_tests() -> list[tuple[str, Any, dict[str, Any]]]:
    found = list(cases())
    assert len({model.graph.node[0].op_type for _, model, _ in found}) > 120
    return found


@pytest.mark.parametrize(("dtype", "limit"), [("fp16", 0.01), ("bf16", 0.06)])
def test_every_operator(
    node_tests: list[tuple[str, Any, dict[str, Any]]], dtype: str, limit: float, tmp_path: Path
) -> None:
    """Each is converted or kept with a reason; the result is well typed, runs, and is near."""
    wrong, converted = [], 0
    for name, model, inputs in node_tests:
        operator = model.graph.node[0].op_type
        out = tmp_path / f"{name}.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                report = getattr(zl.optimize, dtype)(model, out, samples=inputs)
                if not any("types are not checked" in note for note in report.notes):
                    graphs.types_of(onnx.load(out))
            except (zl.Error, onnx.shape_inference.InferenceError) as error:
                wrong.append(f"{name}: {error}")
                continue
        converted += bool(report.converted)
        if report.converted and report.kept:
            wrong.append(f"{name}: one node, both converted and kept")
        if not report.converted and report.casts_added > 0:
            wrong.append(f"{name}: casts around nothing")
        if report.worst > limit and operator not in BEYOND:
            wrong.append(f"{name}: off by {report.worst:.3g}")
    assert wrong == []
    assert converted > 0.6 * len(node_tests)
