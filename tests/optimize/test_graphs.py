"""Models of every build: control flow, functions, sequences, quantized, mixed, old."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.graphs import BFLOAT16, FLOAT, FLOAT16, node, random  # noqa: E402

both = pytest.mark.parametrize("dtype", ["fp16", "bf16"])
LIMIT = {"fp16": 0.003, "bf16": 0.02}


def convert(
    model: onnx.ModelProto, dtype: str, folder: Path, **options: Any
) -> tuple[zl.optimize.PrecisionReport, onnx.ModelProto]:
    """Convert, hold it against the original, check the file; report and result."""
    before = model.SerializeToString()
    options.setdefault("tolerance", LIMIT[dtype])
    report = getattr(zl.optimize, dtype)(model, folder / "out.onnx", **options)
    assert model.SerializeToString() == before
    result = onnx.load(folder / "out.onnx")
    graphs.assert_tidy(result)
    return report, result


@both
@pytest.mark.parametrize("keep_io", [True, False])
def test_branches(dtype: str, keep_io: bool, tmp_path: Path) -> None:
    x = random(3, 4)
    samples = [{"x": x, "go": np.array(go)} for go in (True, False)]
    report, result = convert(graphs.if_model(), dtype, tmp_path, samples=samples, keep_io=keep_io)
    assert report.converted == 3
    types = graphs.types_of(result)
    assert types["h"] == graphs.CODES[dtype]
    assert types["branch_y"] == FLOAT
    # The captured constant is narrowed where it lies; a captured value is not cast inside.
    assert types["one"] == graphs.CODES[dtype]
    bodies = [g for g in graphs.graphs_of(result.graph) if g is not result.graph]
    assert all(sum(n.op_type == "Cast" for n in g.node) == 1 for g in bodies)


@both
@pytest.mark.parametrize("keep_io", [True, False])
def test_loops(dtype: str, keep_io: bool, tmp_path: Path) -> None:
    samples = [{"x": random(4, 4), "steps": np.array(n)} for n in (0, 1, 5)]
    report, result = convert(graphs.loop_model(), dtype, tmp_path, samples=samples, keep_io=keep_io)
    assert report.converted == 3
    types = graphs.types_of(result)
    assert types["w"] == graphs.CODES[dtype]
    assert types["before"] == types["after"] == FLOAT  # what a loop adds up stays float32


@both
def test_scans(dtype: str, tmp_path: Path) -> None:
    report, _ = convert(graphs.scan_model(), dtype, tmp_path, samples={"x": random(6, 4)})
    assert report.converted == 3


@both
def test_a_kept_control_flow_node_keeps_its_bodies(dtype: str, tmp_path: Path) -> None:
    samples = {"x": random(4, 4), "steps": np.array(3)}
    report, _ = convert(graphs.loop_model(), dtype, tmp_path, samples=samples, keep=["loop"])
    assert report.converted == 0
    assert report.casts == (0, 0)
    assert [e.max_abs for e in report.errors] == [0, 0]
    assert {k.reason for k in report.kept} == {"asked for"}


@both
def test_a_body_of_a_body(dtype: str, tmp_path: Path) -> None:
    """An If inside a Loop reaches two scopes out for its weights."""
    inner = [
        helper.make_graph(
            [node(op, ["product", name], [f"{op}_y"])],
            op,
            [],
            [helper.make_tensor_value_info(f"{op}_y", FLOAT, [4, 4])],
        )
        for op, name in (("Add", "outer"), ("MatMul", "w"))
    ]
    outer = graphs.loop_model()
    body = outer.graph.node[0].attribute[0].g
    body.node[2].input[0] = "chosen"
    chosen = node("If", ["go"], ["chosen"], then_branch=inner[0], else_branch=inner[1])
    nodes = [*body.node[:2], chosen, *body.node[2:]]
    del body.node[:]
    body.node.extend(nodes)
    outer.graph.initializer.append(numpy_helper.from_array(random(4, 4, seed=3), "outer"))
    report, result = convert(outer, dtype, tmp_path, samples={"x": random(4, 4), "steps": 4})
    assert report.converted == 5
    types = graphs.types_of(result)
    assert types["outer"] == types["w"] == graphs.CODES[dtype]


@both
def test_local_functions_are_inlined(dtype: str, tmp_path: Path) -> None:
    report, result = convert(graphs.function_model(), dtype, tmp_path, samples={"x": random(5, 4)})
    assert not result.functions
    assert report.converted == 4
    assert report.casts == (0, 2)
    assert "1 local functions inlined" in report.notes


@both
def test_quantized_models_take_the_narrow_type_between(dtype: str, tmp_path: Path) -> None:
    """From opset 19 on: no cast stands between DequantizeLinear and what it feeds."""
    report, result = convert(graphs.quantized_model(), dtype, tmp_path, samples={"x": random(5, 8)})
    assert report.opset == (17, 19)
    types = graphs.types_of(result)
    assert types["xd"] == types["wd"] == graphs.CODES[dtype]
    assert graphs.operators(result)["Cast"] == 1


def test_without_an_upgrade_quantized_models_keep_float32_there(tmp_path: Path) -> None:
    sample = {"x": random(5, 8)}
    report, result = convert(
        graphs.quantized_model(), "fp16", tmp_path, samples=sample, upgrade=False
    )
    assert report.opset == (17, 17)
    assert graphs.types_of(result)["xd"] == FLOAT
    reasons = {k.op: k.reason for k in report.kept}
    assert "takes or gives no float16" in reasons["DequantizeLinear"]


def test_a_scale_too_small_for_float16_stays(tmp_path: Path) -> None:
    model = graphs.quantized_model(19)
    tensors = {t.name: t for t in model.graph.initializer}
    tensors["sw"].CopyFrom(numpy_helper.from_array(np.float32(3.3e-7), "sw"))
    report, result = convert(model, "fp16", tmp_path, samples={"x": random(5, 8)}, tolerance=0.01)
    assert graphs.types_of(result)["sw"] == FLOAT
    assert any("too coarse in float16" in k.reason for k in report.kept)


@both
def test_sequences_keep_their_type(dtype: str, tmp_path: Path) -> None:
    model = graphs.model(
        [
            node("Relu", ["x"], ["h"]),
            node("SplitToSequence", ["h"], ["rows"], axis=0),
            node("ConcatFromSequence", ["rows"], ["again"], axis=0),
            node("MatMul", ["again", "w"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4)},
    )
    report, _ = convert(model, dtype, tmp_path, samples={"x": random(3, 4)})
    assert {k.op for k in report.kept} == {"SplitToSequence", "ConcatFromSequence"}
    assert report.converted == 2


@both
def test_optional_values_keep_their_type(dtype: str, tmp_path: Path) -> None:
    report = getattr(zl.optimize, dtype)(small.optional_input(), tmp_path / "m.onnx", verify=False)
    assert {k.op for k in report.kept} == {"OptionalGetElement", "Identity"}
    x = np.array([1, 2], np.float32)
    if dtype == "fp16":
        assert zl.load(tmp_path / "m.onnx").run({"x": x})["y"].tolist() == [1, 2]


def test_operators_of_another_domain_stay(tmp_path: Path) -> None:
    """onnx knows no schema and no types for them, ONNX Runtime does."""
    model = graphs.model(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("FastGelu", ["h"], ["g"], domain="com.microsoft"),
            node("Relu", ["g"], ["r"]),
            node("MatMul", ["x", "w"], ["other"]),
            node("Add", ["r", "other"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4)},
        domains=["com.microsoft"],
    )
    report = zl.optimize.fp16(model, tmp_path / "m.onnx", samples={"x": random(3, 4)})
    reasons = {k.op: k.reason for k in report.kept}
    assert reasons["com.microsoft.FastGelu"] == "onnx has no schema of com.microsoft.FastGelu"
    assert reasons["Relu"] == "the element type of 'g' is not known"
    assert report.converted == 2
    assert report.worst < 0.003


@both
def test_mixed_models_keep_what_they_widen_themselves(dtype: str, tmp_path: Path) -> None:
    """A float32 softmax between casts is its author's choice; the rest of float32 is not."""
    narrow = graphs.CODES[dtype]
    bits = onnx.helper.make_tensor("w", FLOAT, [4, 4], random(4, 4).reshape(-1))
    model = graphs.model(
        [
            node("Cast", ["x"], ["a"], to=narrow),
            node("Relu", ["a"], ["b"]),
            node("Cast", ["b"], ["c"], to=FLOAT),
            node("Softmax", ["c"], ["d"], name="careful"),
            node("Cast", ["d"], ["e"], to=narrow),
            node("Neg", ["e"], ["f"]),
            node("Cast", ["f"], ["g"], to=FLOAT),
            node("MatMul", ["x", "w"], ["h"], name="plain"),
            node("Identity", ["g"], ["y"]),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4], "h": ["N", 4]},
    )
    model.graph.initializer.append(bits)
    report, result = convert(model, dtype, tmp_path, verify=False)
    assert {k.node: k.reason for k in report.kept}["careful"].startswith("the model widens")
    assert graphs.types_of(result)["c"] == FLOAT
    assert report.converted == 1
    assert {"a": narrow, "w": narrow} == {k: graphs.types_of(result)[k] for k in ("a", "w")}


def test_a_model_in_float16_is_left_alone(tmp_path: Path) -> None:
    model = graphs.model(
        [node("MatMul", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4).astype(np.float16)},
        types={"x": FLOAT16, "y": FLOAT16},
    )
    report, result = convert(model, "fp16", tmp_path)
    assert report.converted == 0
    assert result.graph == model.graph


def test_weights_stored_in_float16_are_used_as_they_are(tmp_path: Path) -> None:
    model = graphs.model(
        [node("Cast", ["w"], ["wide"], to=FLOAT), node("MatMul", ["x", "wide"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4).astype(np.float16)},
    )
    report, result = convert(model, "fp16", tmp_path, samples={"x": random(3, 4)})
    assert report.casts == (1, 2)
    assert "w" in next(n for n in result.graph.node if n.op_type == "MatMul").input


def test_float16_casts_become_part_of_a_bfloat16_model(tmp_path: Path) -> None:
    model = graphs.model(
        [
            node("MatMul", ["x", "w"], ["h"]),
            node("Cast", ["h"], ["n"], to=FLOAT16),
            node("Cast", ["n"], ["i"], to=TensorProto.INT32),
        ],
        {"x": ["N", 4]},
        {"i": ["N", 4]},
        {"w": random(4, 4)},
        types={"i": TensorProto.INT32},
    )
    _, result = convert(model, "bf16", tmp_path, verify=False)
    assert graphs.types_of(result)["h"] == BFLOAT16
    assert graphs.types_of(result)["n"] == FLOAT16


@both
def test_old_models_lose_their_weights_as_inputs(dtype: str, tmp_path: Path) -> None:
    model = graphs.model(
        [node("Conv", ["x", "w"], ["h"]), node("Relu", ["h"], ["y"])],
        {"x": [1, 2, 5, 5], "w": [3, 2, 3, 3]},
        {"y": [1, 3, 3, 3]},
        {"w": random(3, 2, 3, 3)},
        opset=9,
        ir=3,
    )
    sample = {"x": random(1, 2, 5, 5)}
    report, result = convert(model, dtype, tmp_path, samples=sample)
    assert [v.name for v in result.graph.input] == ["x"]
    assert result.ir_version >= 4
    assert report.converted == 2
    assert report.opset == ((9, 9) if dtype == "fp16" else (9, 22))


def test_where_the_opset_cannot_be_raised_it_says_so(tmp_path: Path) -> None:
    """Upsample was dropped from ONNX: the converter cannot take it past opset 9."""
    model = graphs.model(
        [node("Upsample", ["x", "scales"], ["h"]), node("Conv", ["h", "w"], ["y"])],
        {"x": [1, 2, 4, 4]},
        {"y": [1, 3, 6, 6]},
        {"w": random(3, 2, 3, 3), "scales": np.array([1, 1, 2, 2], np.float32)},
        opset=9,
    )
    report, _ = convert(model, "bf16", tmp_path, samples={"x": random(1, 2, 4, 4)})
    if report.opset == (9, 9):
        assert any("opset 9 kept" in note for note in report.notes)
        assert report.converted == 0
    else:  # a younger onnx may know how
        assert report.converted


def test_an_overridable_weight_stays_overridable(tmp_path: Path) -> None:
    model = small.overridable_initializer()
    report, _ = convert(model, "fp16", tmp_path, samples={"x": random(4)})
    assert report.converted == 1
    session = zl.load(tmp_path / "out.onnx")
    assert [s.dtype for s in session.optional_inputs] == ["float32"]
    x, scale = np.ones(4, np.float32), np.array([3], np.float32)
    assert session.run({"x": x, "scale": scale})["y"].tolist() == [3] * 4
    convert(model, "fp16", tmp_path, verify=False, keep_io=False)
    session = zl.load(tmp_path / "out.onnx")
    assert [s.dtype for s in session.optional_inputs] == ["float16"]
    assert session.run({"x": x.astype(np.float16)})["y"].tolist() == [2] * 4


@both
def test_node_names_may_repeat_or_be_missing(dtype: str, tmp_path: Path) -> None:
    model = graphs.model(
        [
            node("MatMul", ["x", "w"], ["a"], name="same"),
            node("Relu", ["a"], ["x_fp16"], name="other"),
            node("MatMul", ["x_fp16", "w"], ["x_bf16"]),
            node("Neg", ["x_bf16"], ["y"], name="x_fp16_cast"),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w": random(4, 4)},
    )
    report, _ = convert(model, dtype, tmp_path, samples={"x": random(3, 4)})
    assert report.converted == 4
    # ONNX Runtime takes no model in which a name repeats, onnx does.
    model.graph.node[1].name = "same"
    report, _ = convert(model, dtype, tmp_path, verify=False, keep=["same"])
    assert [k.node for k in report.kept] == ["same", "same"]


@both
def test_an_input_or_a_weight_as_output(dtype: str, tmp_path: Path) -> None:
    model = graphs.model(
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4], "x": ["N", 4], "w": [4, 4]},
        {"w": random(4, 4)},
    )
    x = random(3, 4)
    for keep_io in (True, False):
        getattr(zl.optimize, dtype)(model, tmp_path / "m.onnx", verify=False, keep_io=keep_io)
        result = onnx.load(tmp_path / "m.onnx")
        onnx.checker.check_model(result, full_check=True)
        kinds = {v.type.tensor_type.elem_type for v in (*result.graph.input, *result.graph.output)}
        assert kinds == {FLOAT if keep_io else graphs.CODES[dtype]}
        if keep_io and dtype == "fp16":
            outputs = ReferenceEvaluator(result).run(None, {"x": x})
            wanted = x @ random(4, 4), x, random(4, 4)
            for got, want in zip(outputs, wanted, strict=True):
                assert np.abs(got - want).max() < 0.01


@both
def test_type_information_follows(dtype: str, tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(small.control_policy("N"))
    named = {v.name for v in model.graph.value_info}
    assert named
    _, result = convert(model, dtype, tmp_path)
    told = {v.name: v.type.tensor_type for v in result.graph.value_info}
    assert named <= told.keys()
    assert {told[name].elem_type for name in named} == {graphs.CODES[dtype]}
    assert told["h0"].shape.dim[0].dim_param == "N"


def test_constants_of_every_form(tmp_path: Path) -> None:
    model = graphs.model(
        [
            node("Constant", [], ["a"], value=numpy_helper.from_array(random(4), "")),
            node("Constant", [], ["b"], value_float=0.5),
            node("Constant", [], ["c"], value_floats=[1.0, 2.0, 3.0, 4.0]),
            node("ConstantOfShape", ["four"], ["d"]),
            node("ConstantOfShape", ["four"], ["e"], value=helper.make_tensor("", 1, [1], [2.5])),
            *[
                node("Add", [before, name], [after])
                for before, name, after in zip("xpqrs", "abcde", "pqrsy", strict=True)
            ],
        ],
        {"x": [4]},
        {"y": [4]},
        {"four": np.array([4], np.int64)},
    )
    report, result = convert(model, "fp16", tmp_path)
    assert {graphs.types_of(result)[name] for name in "abcde"} == {FLOAT16}
    assert report.casts == (0, 2)
