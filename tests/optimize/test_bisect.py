"""`zl.optimize.bisect`: planted layers are named, and no others."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import task_checks  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.graphs import node, random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.optimize.provenance import steps  # noqa: E402

WIDTH, LAYERS = 16, 24
OVERFLOWS, SENSITIVE = 9, 17


def planted() -> onnx.ModelProto:
    """x [N,16] -> y [N,16]: 24 layers MatMul and Tanh.

    Between two of them values up to 1e5 are made and divided again. The weights of one hold one
    that is 3,000 times the others, on a column of x that is zero: int8 has nothing left for them.
    """
    nodes, weights = [], {}
    value = "x"
    for layer in range(LAYERS):
        weight = np.eye(WIDTH, dtype=np.float32) * 1.2
        weight += random(WIDTH, WIDTH, seed=layer, scale=0.02)
        if layer == OVERFLOWS:
            weight *= 3
        if layer == SENSITIVE:
            weight[0] = 0
            weight[0, 0] = 3000 * np.abs(weight).max()
            nodes.append(node("Mul", [value, "mask"], ["masked"], name="mask"))
            value = "masked"
        weights[f"w{layer}"] = weight
        nodes.append(node("MatMul", [value, f"w{layer}"], [f"m{layer}"], name=f"layer{layer}"))
        value = f"m{layer}"
        if layer == OVERFLOWS:
            nodes.append(node("Mul", [value, "up"], ["huge"], name="up"))
            nodes.append(node("Mul", ["huge", "down"], ["normal"], name="down"))
            value = "normal"
        nodes.append(node("Tanh", [value], [f"t{layer}"], name=f"tanh{layer}"))
        value = f"t{layer}"
    mask = np.ones(WIDTH, np.float32)
    mask[0] = 0
    weights |= {"up": np.float32(6e4), "down": np.float32(1 / 6e4), "mask": mask}
    nodes.append(node("Identity", [value], ["y"], name="end"))
    return graphs.model(nodes, {"x": ["N", WIDTH]}, {"y": ["N", WIDTH]}, weights)


def samples() -> list[dict[str, Any]]:
    return [{"x": 3 * random(5, WIDTH, seed=seed)} for seed in range(3)]


def quantized(keep: tuple[str, ...]) -> onnx.ModelProto:
    """The weights rounded to int8 steps, one scale a tensor, but for the layers to keep."""
    model = planted()
    for one in model.graph.node:
        if one.op_type != "MatMul" or one.name in keep:
            continue
        tensor = next(t for t in model.graph.initializer if t.name == one.input[1])
        array = onnx.numpy_helper.to_array(tensor)
        step = np.abs(array).max() / 127
        rounded = (np.round(array / step) * step).astype(np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(rounded, tensor.name))
    return model


def test_a_planted_overflow_is_named_by_one_run(tmp_path: Path) -> None:
    report = zl.optimize.bisect(planted(), tmp_path / "m.onnx", samples())
    assert [k.node for k in report.overflow] == ["up", "down"]
    assert report.found == ()
    assert "beyond float16's 65504" in report.overflow[0].reason
    assert report.nodes > 40
    assert report.runs == 2, "one that looks for them, one candidate that is good"
    assert report.score >= 0.98
    session = zl.load(tmp_path / "m.onnx")
    for sample in samples():
        got, wanted = session.run(sample)["y"], zl.load(planted().SerializeToString()).run(sample)
        np.testing.assert_allclose(got, wanted["y"], atol=0.02)
    again = zl.optimize.fp16(
        planted(), tmp_path / "again.onnx", keep=report.keep, samples=samples()
    )
    assert again.worst < 0.02


def test_a_planted_sensitive_layer_is_named(tmp_path: Path) -> None:
    report = zl.optimize.bisect(
        planted(), tmp_path / "m.onnx", samples(), build=quantized, tolerance=0.1
    )
    assert [k.node for k in report.found] == [f"layer{SENSITIVE}"]
    assert report.found[0].op == "MatMul"
    assert report.nodes == LAYERS
    assert report.runs <= math.ceil(math.log2(LAYERS)) + 4
    assert report.tried[0][1] < report.least <= report.score
    (step,) = steps(onnx.load(tmp_path / "m.onnx"))
    assert step.options["keep"] == [f"layer{SENSITIVE}"]
    told = json.loads(json.dumps(report.as_dict()))
    assert told["keep"] == [f"node:layer{SENSITIVE}"]
    assert f"MatMul layer{SENSITIVE}" in str(report)


def test_what_breaks_without_leaving_the_range_is_found_by_halving(tmp_path: Path) -> None:
    """1 + x - 1 for small x: no value is out of range, but float16 has no bits for it near 1."""
    nodes = [
        node("Mul", ["x", "small"], ["s"], name="shrink"),
        node("Tanh", ["s"], ["t"], name="t"),
        node("Add", ["t", "one"], ["a"], name="on"),
        node("Sub", ["a", "one"], ["b"], name="off"),
        node("Mul", ["b", "large"], ["c"], name="grow"),
        node("Tanh", ["c"], ["y"], name="end"),
    ]
    model = graphs.model(
        nodes,
        {"x": ["N", 8]},
        {"y": ["N", 8]},
        {"small": np.float32(1e-3), "large": np.float32(1e3), "one": np.float32(1)},
    )
    rows = [{"x": random(3, 8)}]
    report = zl.optimize.bisect(model, tmp_path / "m.onnx", rows)
    assert report.overflow == ()
    assert len(report.found) == 2, "the ends of a part: what lies between two stays with them"
    kept = zl.optimize.fp16(model, tmp_path / "again.onnx", keep=report.keep, samples=rows).kept
    assert {"on", "off"} <= {k.node for k in kept}
    assert "shrink" not in {k.node for k in kept} or "grow" not in {k.node for k in kept}


def test_a_metric_of_the_task(tmp_path: Path) -> None:
    given = task_checks.case_inputs("digits_cnn")
    report = zl.optimize.bisect(
        task_checks.FOLDER / "digits_cnn.onnx", tmp_path / "m.onnx", given, metric="top1"
    )
    assert (report.keep, report.score, report.runs) == ((), 1, 2)
    assert "nothing has to be kept" in str(report)


def test_bad_input(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    for error, options in (
        (zl.InvalidArgument, {"samples": []}),
        (zl.ShapeMismatch, {"samples": {"x": random(1, 3)}}),
        (zl.InvalidArgument, {"dtype": "float8"}),
        (zl.InvalidArgument, {"nodes": ["layer0"]}),
        (zl.InvalidArgument, {"nodes": ["absent"], "build": quantized}),
        (zl.InvalidArgument, {"accuracy": 1.5, "metric": "cosine"}),
        (zl.InvalidArgument, {"build": lambda keep: 3}),
        (
            zl.optimize.AccuracyLost,
            {
                "build": lambda keep: graphs.model(
                    [node("Neg", ["x"], ["y"])], {"x": ["N", WIDTH]}, {"y": ["N", WIDTH]}
                )
            },
        ),
    ):
        given: dict[str, Any] = {"samples": samples(), **options}
        with pytest.raises(error) as caught:
            zl.optimize.bisect(planted(), out, **given)
        assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []
