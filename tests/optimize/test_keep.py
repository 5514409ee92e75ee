"""Which nodes stay in float32, by whose wish, and what a keep list means."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

from onnx import TensorProto, defs  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.graphs import FLOAT, FLOAT16, node, random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.optimize.precision import keep as rules  # noqa: E402
from zerolane.optimize.provenance import steps  # noqa: E402

X = {"x": random(3, 4)}


def layers() -> onnx.ModelProto:
    """Four layers: named ones, one that is known by its output only."""
    return graphs.model(
        [
            node("MatMul", ["x", "w"], ["a"], name="block/0/product"),
            node("Softmax", ["a"], ["b"], name="block/0/softmax"),
            node("MatMul", ["b", "w"], ["c"], name="block/1/product"),
            node("Softmax", ["c"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4)},
    )


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        (["block/0/softmax"], ["block/0/softmax"]),
        (["node:block/0/softmax"], ["block/0/softmax"]),
        (["y"], ["y"]),
        (["c"], ["block/1/product"]),
        (["Softmax"], ["block/0/softmax", "y"]),
        ("op:Softmax", ["block/0/softmax", "y"]),
        (["block/1/*", "y"], ["block/1/product", "y"]),
        (["op:Mat*"], ["block/0/product", "block/1/product"]),
        ([], []),
    ],
)
def test_a_keep_list(keep: Any, kept: list[str], tmp_path: Path) -> None:
    report = zl.optimize.fp16(layers(), tmp_path / "m.onnx", keep=keep, samples=X)
    assert [k.node for k in report.kept] == kept
    assert {k.reason for k in report.kept} <= {"asked for"}
    assert report.converted == 4 - len(kept)
    result = onnx.load(tmp_path / "m.onnx")
    graphs.assert_tidy(result)
    types = graphs.types_of(result)
    for one in result.graph.node:
        if (one.name or one.output[0]) in kept:
            assert types[one.output[0]] == FLOAT


@pytest.mark.parametrize("entry", ["Sofmax", "op:block/0/softmax", "node:Softmax", "block/7/*"])
def test_an_entry_that_fits_nothing_is_refused(entry: str, tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument, match="fits no node") as caught:
        zl.optimize.fp16(layers(), tmp_path / "m.onnx", keep=["Softmax", entry])
    assert caught.value.subject == entry
    assert_three_parts(str(caught.value))
    assert not (tmp_path / "m.onnx").exists()
    if entry == "Sofmax":
        assert "did you mean Softmax" in str(caught.value)


def test_weights_of_both_worlds_lie_in_both_types(tmp_path: Path) -> None:
    zl.optimize.fp16(layers(), tmp_path / "m.onnx", keep=["block/1/product"], samples=X)
    result = onnx.load(tmp_path / "m.onnx")
    assert {t.name: t.data_type for t in result.graph.initializer} == {
        "w": FLOAT,
        "w_fp16": FLOAT16,
    }


def test_constants_too_large_keep_what_they_touch(tmp_path: Path) -> None:
    """-3.4e38 in a mask: what carries it on stays float32 as well, up to the softmax."""
    lowest = np.float32(np.finfo(np.float32).min)
    model = graphs.model(
        [
            node("MatMul", ["x", "w"], ["scores"]),
            node("Mul", ["mask", "lowest"], ["bias"], name="masking"),
            node("Add", ["scores", "bias"], ["masked"], name="adding"),
            node("Softmax", ["masked"], ["weights"], name="softmax"),
            node("MatMul", ["weights", "w"], ["y"]),
        ],
        {"x": ["N", 4], "mask": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4), "lowest": lowest},
    )
    mask = np.array([[0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]], np.float32)
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples={**X, "mask": mask})
    assert [k.node for k in report.kept] == ["masking", "adding", "softmax"]
    assert all("'lowest' reaches 3.4e+38" in k.reason for k in report.kept)
    assert report.too_large == 1
    assert report.worst < 0.003
    graphs.assert_tidy(onnx.load(tmp_path / "m.onnx"))
    # bfloat16 has the range: nothing is kept, and the constant stays finite.
    report = zl.optimize.bf16(model, tmp_path / "b.onnx", samples={**X, "mask": mask})
    assert not report.kept
    assert report.worst < 0.02


def test_bounds_too_large_become_the_largest_number(tmp_path: Path) -> None:
    """Clip(x, 0, 3.4e38) means no upper bound: there is no reason to keep it."""
    model = graphs.model(
        [node("MatMul", ["x", "w"], ["a"]), node("Clip", ["a", "zero", "most"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4), "zero": np.float32(0), "most": np.finfo(np.float32).max},
    )
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X)
    assert not report.kept
    assert onnx.numpy_helper.to_array(
        next(t for t in onnx.load(tmp_path / "m.onnx").graph.initializer if t.name == "most")
    ) == np.float16(65504)


def test_a_guard_that_would_vanish_stays(tmp_path: Path) -> None:
    """x / (|x| + 1e-12): in float16 the guard is 0 and zeros become NaN."""
    model = graphs.model(
        [
            node("Abs", ["x"], ["size"]),
            node("Add", ["size", "tiny"], ["safe"], name="guard"),
            node("Div", ["x", "safe"], ["y"], name="divide"),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"tiny": np.float32(1e-12)},
    )
    zeros = {"x": np.zeros((2, 4), np.float32)}
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=zeros)
    assert [k.node for k in report.kept] == ["guard", "divide"]
    assert "rounds to zero" in report.kept[0].reason
    assert zl.load(tmp_path / "m.onnx").run(zeros)["y"].tolist() == [[0] * 4] * 2


def test_an_overflow_on_random_values_is_found(tmp_path: Path) -> None:
    """x * 60000 passes in ONNX Runtime, which drops roundings; a GPU would give infinity."""
    model = graphs.model(
        [node("Mul", ["x", "more"], ["a"], name="up"), node("Mul", ["a", "less"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"more": np.float32(60000), "less": np.float32(0.001)},
    )
    with pytest.raises(zl.optimize.AccuracyLost, match="NaN or infinite") as caught:
        zl.optimize.fp16(model, tmp_path / "m.onnx", shapes="x:64x4")
    assert caught.value.code == "accuracy_lost"
    assert isinstance(caught.value, ArithmeticError)
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        report = zl.optimize.fp16(model, tmp_path / "m.onnx", shapes="x:64x4", by_node=True)
    first = next(e for e in report.node_errors if e.error.lost)
    assert (first.node, first.op, first.dtype) == ("up", "Mul", "float16")
    assert first.largest > 65504
    assert "up" in str(report)
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", shapes="x:64x4", keep=["op:Mul"])
    assert report.worst == 0


def test_what_overflows_on_samples_stays(tmp_path: Path) -> None:
    """300 * 300: what makes the number and what reads it; the next layer is converted."""
    model = graphs.model(
        [
            node("Mul", ["x", "x"], ["a"], name="square"),
            node("Mul", ["a", "less"], ["b"], name="smaller"),
            node("MatMul", ["b", "w"], ["y"], name="layer"),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"less": np.float32(0.001), "w": random(4, 4)},
    )
    rows = [{"x": np.full((1, 4), size, np.float32)} for size in (1, 300, 2)]
    for samples in (rows, iter(rows)):
        report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=samples)
        assert [k.node for k in report.kept] == ["square", "smaller"]
        assert "a reaches 9e+04 on the samples, beyond float16's 65504" in report.kept[0].reason
        assert report.errors[0].lost == 0
        assert report.macs == {"float16": 1}
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=rows[:1])
    assert report.kept == ()
    report = zl.optimize.bf16(model, tmp_path / "m.onnx", samples=rows)
    assert report.kept == (), "bfloat16 has the range"


def test_errors_by_node(tmp_path: Path) -> None:
    for dtype in ("fp16", "bf16"):
        function = getattr(zl.optimize, dtype)
        report = function(layers(), tmp_path / "m.onnx", samples=X, by_node=True, keep=["c"])
        found = {e.node: e for e in report.node_errors}
        assert list(found) == ["block/0/product", "block/0/softmax", "block/1/product", "y"]
        assert found["block/1/product"].dtype == "float"
        assert 0 < found["block/0/product"].error.scaled < 0.02
        again = function(layers(), tmp_path / "m.onnx", samples=X, keep=["c"])
        assert again.node_errors == ()
        assert again.errors == report.errors


def test_whole_numbers_stay_exact(tmp_path: Path) -> None:
    """Positions in float32 turn into sine waves; in float16 4095 would be 4096."""
    model = graphs.model(
        [
            node("Cast", ["position"], ["p"], to=FLOAT),
            node("Mul", ["p", "frequency"], ["angle"]),
            node("Sin", ["angle"], ["wave"]),
            node("MatMul", ["wave", "w"], ["y"]),
        ],
        {"position": ["N", 1]},
        {"y": ["N", 4]},
        {"frequency": random(1, 4), "w": random(4, 4)},
        types={"position": TensorProto.INT64},
    )
    sample = {"position": np.arange(4090, 4100)[:, None]}
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=sample)
    assert [k.op for k in report.kept] == ["Mul", "Sin"]
    assert report.worst < 0.003
    with pytest.raises(zl.optimize.AccuracyLost, match="off by"):
        zl.optimize.fp16(
            model, tmp_path / "m.onnx", samples=sample, keep_defaults=False, tolerance=0.1
        )


def test_sizes_stay_exact(tmp_path: Path) -> None:
    """Half of a length, through float32 and back to an integer, decides a shape."""
    model = graphs.model(
        [
            node("Shape", ["x"], ["shape"], start=0, end=1),
            node("Cast", ["shape"], ["length"], to=FLOAT),
            node("Mul", ["length", "half"], ["middle"]),
            node("Floor", ["middle"], ["floor"]),
            node("Cast", ["floor"], ["end"], to=TensorProto.INT64),
            node("Slice", ["x", "zero", "end", "zero"], ["part"]),
            node("MatMul", ["part", "w"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["M", 4]},
        {"half": np.array([0.5], np.float32), "zero": np.array([0]), "w": random(4, 4)},
    )
    for dtype in ("fp16", "bf16"):
        function = getattr(zl.optimize, dtype)
        report = function(model, tmp_path / "m.onnx", samples={"x": random(5002, 4)})
        assert {k.op for k in report.kept} == {"Mul", "Floor"}
        assert [e.differing for e in report.errors] == [0]
        graphs.assert_tidy(onnx.load(tmp_path / "m.onnx"))


def test_fragile_operators_stay_unless_told(tmp_path: Path) -> None:
    model = graphs.model(
        [node("MatMul", ["x", "w"], ["a"]), node("CumSum", ["a", "one"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4), "one": np.int64(1)},
    )
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X)
    assert [(k.op, "2048" in k.reason) for k in report.kept] == [("CumSum", True)]
    report = zl.optimize.bf16(model, tmp_path / "m.onnx", samples=X)
    assert [(k.op, "256" in k.reason) for k in report.kept] == [("CumSum", True)]
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X, keep_defaults=False)
    assert not report.kept


def test_the_tables_name_operators_that_exist() -> None:
    names = {s.name for s in defs.get_all_schemas() if s.domain == ""}
    tables = (*rules.FRAGILE, *rules.FRAGILE_IN_FLOAT16, *rules.FRAGILE_IN_BFLOAT16, *rules.MOVES)
    assert set(tables) - names <= {"CumProd"}  # younger than some releases of onnx
    for op, port in rules.KEPT_INPUTS:
        assert port in {p.name for p in defs.get_schema(op).inputs}


def test_moves_change_no_number() -> None:
    """Every operator of the table gives back the type it takes."""
    for op in rules.MOVES:
        schema = defs.get_schema(op)
        assert schema.inputs[0].type_str == schema.outputs[0].type_str, op


def test_resize_keeps_its_scales(tmp_path: Path) -> None:
    model = graphs.model(
        [node("Conv", ["x", "w"], ["a"]), node("Resize", ["a", "", "scales"], ["y"])],
        {"x": [1, 2, 6, 6]},
        {"y": [1, 2, 8, 8]},
        {"w": random(2, 2, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)},
    )
    sample = {"x": random(1, 2, 6, 6)}
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=sample)
    assert (report.converted, report.kept) == (2, ())
    result = onnx.load(tmp_path / "m.onnx")
    graphs.assert_tidy(result)
    assert graphs.types_of(result)["scales"] == FLOAT
    assert report.worst < 0.002


def test_work_between_kept_nodes_stays_with_them(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["a"], name="first"),
        node("Transpose", ["a"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("MatMul", ["w", "c"], ["d"], name="second"),
        node("MatMul", ["d", "x"], ["y"], name="third"),
    ]
    model = graphs.model(nodes, {"x": [4, 4]}, {"y": [4, 4]}, {"w": random(4, 4)})
    sample = {"x": random(4, 4)}
    report = zl.optimize.fp16(
        model, tmp_path / "m.onnx", keep=["first", "second"], samples=sample, tolerance=0.003
    )
    reasons = {k.op: k.reason for k in report.kept}
    assert reasons["Transpose"] == reasons["Relu"] == "its neighbours are float32"
    assert (report.converted, report.casts[1]) == (1, 3)


def test_comparisons_follow_their_inputs(tmp_path: Path) -> None:
    """What is float32 anyway is compared in float32: nothing is rounded for it."""
    model = graphs.model(
        [node("Greater", ["x", "limit"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"limit": np.float32(0.3)},
        types={"y": TensorProto.BOOL},
    )
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X)
    assert (report.converted, report.casts) == (0, (0, 0))
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X, keep_io=False)
    assert (report.converted, report.casts) == (1, (0, 0))


def test_tolerance(tmp_path: Path) -> None:
    report = zl.optimize.fp16(small.control_policy(), tmp_path / "m.onnx")
    assert 0 < report.worst < 0.005
    before = (tmp_path / "m.onnx").read_bytes()
    with pytest.raises(zl.optimize.AccuracyLost, match="off by") as caught:
        zl.optimize.bf16(small.control_policy(), tmp_path / "m.onnx", tolerance=report.worst)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "action"
    assert (tmp_path / "m.onnx").read_bytes() == before
    with pytest.warns(UserWarning, match="off by"):
        zl.optimize.bf16(
            graphs.model(
                [node("Sin", ["x"], ["y"])],
                {"x": ["N", 4]},
                {"y": ["N", 4]},
            ),
            tmp_path / "n.onnx",
            samples={"x": np.linspace(9000, 9100, 40, dtype=np.float32).reshape(10, 4)},
        )


def test_the_report(tmp_path: Path) -> None:
    report = zl.optimize.fp16(layers(), tmp_path / "m.onnx", keep=["Softmax"], samples=[X, X])
    text = str(report)
    for part in (
        "2 nodes converted, 2 kept",
        "2 x Softmax: asked for",
        "casts 0 -> 4",
        "2 samples",
    ):
        assert part in text
    told = json.loads(json.dumps(report.as_dict()))
    assert told["casts_added"] == report.casts_added == 4
    assert told["worst"] == report.worst == max(e.scaled for e in report.errors)
    assert told["kept"][0] == {"node": "block/0/softmax", "op": "Softmax", "reason": "asked for"}
    with pytest.raises(AttributeError):
        report.dtype = "float32"  # type: ignore[misc]
    (step,) = steps(onnx.load(tmp_path / "m.onnx"))
    assert (step.step, step.options["keep"]) == ("fp16", ["Softmax"])


def test_random_inputs_that_do_not_fit_are_no_failure(tmp_path: Path) -> None:
    """The original itself fails on them: the report says that nothing was measured."""
    model = graphs.model(
        [node("MatMul", ["x", "w"], ["a"]), node("Reshape", ["a", "shape"], ["y"])],
        {"x": ["N", 4]},
        {"y": [3, 4]},
        {"w": random(4, 4), "shape": np.array([3, 4])},
    )
    report = zl.optimize.fp16(model, tmp_path / "m.onnx")
    assert report.verified.startswith("not verified: the original does not run")
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", shapes="x:3x4")
    assert report.errors
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", verify=False)
    assert report.verified == "not verified: it was not asked for"
    with pytest.raises(zl.Error):
        zl.optimize.fp16(model, tmp_path / "m.onnx", samples={"x": random(2, 4)})
    for wrong in ([], [3]):
        with pytest.raises(zl.InvalidArgument) as caught:
            zl.optimize.fp16(model, tmp_path / "m.onnx", samples=wrong)  # type: ignore[arg-type]
        assert_three_parts(str(caught.value))


def test_types_that_are_told_twice(tmp_path: Path) -> None:
    """As onnxslim writes them; both were taken over, one of them with the old type."""
    model = onnx.shape_inference.infer_shapes(layers())
    model.graph.value_info.extend([*model.graph.value_info])
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples=X)
    assert report.converted > 0
    names = [v.name for v in onnx.load(tmp_path / "m.onnx").graph.value_info]
    assert len(names) == len(set(names))
