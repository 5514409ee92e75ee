"""`zl.optimize.graph`: every pass alone and together, what is refused, what the report says."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxslim", reason="three of the passes are onnxslim's")

import numpy as np  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import task_checks  # noqa: E402
from tests.optimize import rewrites  # noqa: E402
from tests.optimize.graphs import random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.optimize.graph_passes import options as graph_options  # noqa: E402
from zerolane.optimize.graph_passes import run as passes_run  # noqa: E402
from zerolane.optimize.graph_passes import slim  # noqa: E402
from zerolane.optimize.provenance import steps  # noqa: E402


def run(model: Any, **inputs: Any) -> dict[str, Any]:
    source = model if isinstance(model, Path) else model.SerializeToString()
    return zl.load(source).run(inputs)


def status(report: zl.optimize.GraphReport) -> dict[str, str]:
    return {effect.name: effect.status for effect in report.passes}


def test_all_passes_together(tmp_path: Path) -> None:
    model = rewrites.image_net()
    report = zl.optimize.graph(model, tmp_path / "m.onnx")
    operators = dict(report.after.operators)
    assert operators == {
        "Conv": 1,
        "Relu": 1,
        "GlobalAveragePool": 1,
        "Reshape": 1,
        "Gemm": 1,
    }, "Pad and BatchNormalization went into Conv, transposes cancelled, reshapes joined"
    assert report.operators_changed["Transpose"] == (2, 0)
    assert report.before.nodes == 12
    assert report.refused == ()
    assert report.worst <= 1e-5
    assert {t.name for t in onnx.load(tmp_path / "m.onnx").graph.initializer}.isdisjoint(
        {"nobody", "mean", "var", "pads"}
    )
    x = random(3, 2, 9, 7, seed=5)
    np.testing.assert_allclose(
        run(tmp_path / "m.onnx", x=x)["y"], run(model, x=x)["y"], rtol=1e-5, atol=1e-5
    )
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("fold", {"Add"}),
        ("fuse", {"Pad", "BatchNormalization", "Transpose"}),
        ("dead", {"Sigmoid"}),
    ],
)
def test_each_pass_alone(name: str, gone: set[str], tmp_path: Path) -> None:
    """It does its own work; what falls dead on the way goes with it."""
    report = zl.optimize.graph(rewrites.image_net(), tmp_path / "m.onnx", passes=[name])
    assert gone <= set(report.operators_changed)
    assert [n for n, s in status(report).items() if s == "applied"] == [name]
    others = zl.optimize.graph(rewrites.image_net(), tmp_path / "m.onnx", skip=[name])
    assert status(others)[name] == "skipped"
    if name != "dead":  # which the passes of onnxslim take along
        assert gone - {"Transpose"} <= set(others.after.operators) | {"Sigmoid"}


def test_what_is_bit_equal_is_told(tmp_path: Path) -> None:
    report = zl.optimize.graph(rewrites.image_net(), tmp_path / "m.onnx")
    effects = {effect.name: effect for effect in report.passes}
    assert effects["fold"].error == 0
    assert effects["fuse"].error is not None, "a factor in the weights rounds in another way"
    assert "bit-equal" in str(report)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("make", [rewrites.image_net, rewrites.attention_net])
def test_a_fixed_batch_becomes_free(make: Any, rows: int, tmp_path: Path) -> None:
    model = make(rows)
    report = zl.optimize.graph(model, tmp_path / "m.onnx", batch="N")
    (spec,) = zl.load(tmp_path / "m.onnx").inputs
    assert spec.shape is not None
    assert spec.shape[0] == "N"
    (out,) = zl.load(tmp_path / "m.onnx").outputs
    assert out.shape is not None
    assert out.shape[0] == "N"
    why = next(e.why for e in report.passes if e.name == "batch")
    assert "Reshape" in why
    if make is rewrites.attention_net:
        assert ("Expand expand" in why) == (rows == 3), "to one row nothing is expanded"
        assert why.count("Concat join") == (rows == 1), "it gets its rows here instead"
    shape = tuple(d if isinstance(d, int) else 1 for d in spec.shape)[1:]
    x = random(7, *shape, seed=2)
    got = run(tmp_path / "m.onnx", x=x)["y"]
    parts = [x[i : i + 1].repeat(rows, 0) for i in range(7)]
    wanted = np.concatenate([run(model, x=part)["y"][:1] for part in parts])
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5)


def test_the_state_of_a_recurrent_model_has_its_batch_second(tmp_path: Path) -> None:
    """And what makes more nodes than there were is left alone."""
    source, one = task_checks.FOLDER / "stream_vad.onnx", tmp_path / "one.onnx"
    report = zl.optimize.graph(source, one, batch=1)
    assert report.after.nodes == report.before.nodes
    assert "left alone" in next(e.why for e in report.passes if e.name == "fuse")
    zl.optimize.graph(one, tmp_path / "m.onnx", batch="N")
    got, wanted = zl.load(tmp_path / "m.onnx"), zl.load(source)
    assert {s.name: s.shape for s in got.inputs} == {s.name: s.shape for s in wanted.inputs}
    assert {s.name: s.shape for s in got.outputs} == {s.name: s.shape for s in wanted.outputs}
    given = {"audio": random(5, 256), "state": random(1, 5, 64)}
    for name, value in wanted.run(given).items():
        np.testing.assert_allclose(got.run(given)[name], value, rtol=1e-5, atol=1e-6)


def test_a_constant_for_each_row_is_expanded(tmp_path: Path) -> None:
    """A class token whose expansion was folded by the exporter; rows that differ are refused."""
    made = rewrites.attention_net()
    del made.graph.node[0]
    made.graph.node[0].input[0] = "token"
    token = next(t for t in made.graph.initializer if t.name == "token")
    for rows, seed in ((1, 0), (3, 1)):
        tokens = np.repeat(random(rows, 1, 8, seed=seed), 3 // rows, 0)
        token.CopyFrom(onnx.numpy_helper.from_array(tokens, "token"))
        if rows == 3:
            with pytest.raises(zl.Unsupported, match="rows of its constant 'token' differ"):
                zl.optimize.graph(made, tmp_path / "m.onnx", batch="N")
            continue
        zl.optimize.graph(made, tmp_path / "m.onnx", batch="N")
        x = random(3, 6, 8)
        wanted = run(made, x=x)["y"]
        np.testing.assert_allclose(run(tmp_path / "m.onnx", x=x[:2])["y"], wanted[:2], rtol=2e-5)


def test_a_batch_of_another_size(tmp_path: Path) -> None:
    zl.optimize.graph(rewrites.attention_net(), tmp_path / "m.onnx", batch=5)
    assert zl.load(tmp_path / "m.onnx").inputs[0].shape == (5, 6, 8)
    assert run(tmp_path / "m.onnx", x=random(5, 6, 8))["y"].shape == (5, 7, 8)


def test_a_named_batch_becomes_a_number_or_another_name(tmp_path: Path) -> None:
    detector = task_checks.FOLDER / "digit_det.onnx"
    shapes = "image:1x1x16x12"
    zl.optimize.graph(detector, tmp_path / "m.onnx", batch=2, shapes=shapes)
    (spec,) = zl.load(tmp_path / "m.onnx").inputs
    assert spec.shape is not None
    assert spec.shape[0] == 2
    got = run(tmp_path / "m.onnx", image=random(2, 1, 16, 12))
    wanted = run(detector, image=random(2, 1, 16, 12))
    np.testing.assert_array_equal(got["labels"], wanted["labels"])
    zl.optimize.graph(detector, tmp_path / "m.onnx", batch="rows", shapes=shapes)
    assert "rows" in (zl.load(tmp_path / "m.onnx").inputs[0].shape or ())


def test_rows_that_depend_on_each_other_are_found(tmp_path: Path) -> None:
    with pytest.raises(zl.Unsupported, match="'batch' changes") as caught:
        zl.optimize.graph(rewrites.mixing_net(), tmp_path / "m.onnx", batch="N")
    assert_three_parts(str(caught.value))
    assert not (tmp_path / "m.onnx").exists()


def test_a_batch_that_cannot_be_taken_out_names_the_node(tmp_path: Path) -> None:
    with pytest.raises(zl.Unsupported, match="mixed") as caught:
        zl.optimize.graph(rewrites.stuck_net(), tmp_path / "m.onnx", batch="N")
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "mixed"


def test_shapes_are_written_with_free_dimensions_as_formulas(tmp_path: Path) -> None:
    zl.optimize.graph(task_checks.FOLDER / "line_ctc.onnx", tmp_path / "m.onnx", passes=["shapes"])
    graph = onnx.load(tmp_path / "m.onnx").graph
    told = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in graph.value_info
    }
    assert len(told) == len(graph.value_info) == len(graph.node) - 1
    assert ["N", 64, 8, "(W//2)"] in told.values()
    assert zl.load(tmp_path / "m.onnx").outputs[0].shape == ("N", "T", 11)


def test_cutting(tmp_path: Path) -> None:
    model = rewrites.two_heads()
    report = zl.optimize.graph(model, tmp_path / "m.onnx", outputs=["a"])
    assert report.after.operators == {"MatMul": 1, "Relu": 1}
    assert [spec.name for spec in zl.load(tmp_path / "m.onnx").inputs] == ["x"]
    zl.optimize.graph(model, tmp_path / "m.onnx", inputs=["s"], outputs=["b"])
    got = run(tmp_path / "m.onnx", s=np.full((2, 4), 0.5, np.float32))["b"]
    np.testing.assert_allclose(got, np.tanh(np.full((2, 4), 0.5, np.float32)), rtol=1e-6)
    with pytest.raises(zl.InvalidArgument, match="depends on the input 'z'") as caught:
        zl.optimize.graph(model, tmp_path / "n.onnx", inputs=["h"], outputs=["b"])
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument, match="no value 'heads'") as caught:
        zl.optimize.graph(model, tmp_path / "n.onnx", outputs=["heads"])
    assert_three_parts(str(caught.value))


def test_the_opset_is_raised_and_checked(tmp_path: Path) -> None:
    report = zl.optimize.graph(rewrites.old_opset(), tmp_path / "m.onnx", opset=18)
    assert (report.before.opset, report.after.opset) == (11, 18)
    assert status(report)["opset"] == "applied"
    for wrong in (10, 99):
        with pytest.raises(zl.InvalidArgument, match="opset=") as caught:
            zl.optimize.graph(rewrites.old_opset(), tmp_path / "n.onnx", opset=wrong)
        assert_three_parts(str(caught.value))


@pytest.mark.parametrize("damage", ["wrong", "broken", "raises"])
def test_a_pass_that_does_harm_is_left_out_by_name(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its result is thrown away, the others still run."""

    def harmful(model: Any, *args: Any, **options: Any) -> Any:
        made = type(model)()
        made.CopyFrom(model)
        if damage == "raises":
            raise RuntimeError("a bug in it")
        conv = next(n for n in made.graph.node if n.op_type == "Relu")
        conv.op_type = "Tanh" if damage == "wrong" else "NoSuchOperator"
        return made

    monkeypatch.setattr(passes_run, "slim", harmful)
    monkeypatch.setattr(passes_run._Run, "_slim", lambda self, model, *names: (harmful(model), ""))
    with pytest.warns(UserWarning, match="the pass 'fuse' was left out"):
        report = zl.optimize.graph(
            rewrites.image_net(), tmp_path / "m.onnx", passes=["fuse", "dead"]
        )
    assert report.refused == ("fuse",)
    assert status(report)["dead"] == "applied"
    assert "Relu" in report.after.operators
    x = random(3, 2, 9, 7, seed=5)
    np.testing.assert_array_equal(
        run(tmp_path / "m.onnx", x=x)["y"], run(rewrites.image_net(), x=x)["y"]
    )


@pytest.mark.parametrize("name", ["digits_cnn", "digit_det", "line_ctc", "stream_vad"])
def test_trained_models_keep_their_task(name: str, tmp_path: Path) -> None:
    given = task_checks.case_inputs(name)
    report = zl.optimize.graph(
        task_checks.FOLDER / f"{name}.onnx", tmp_path / "m.onnx", samples=given
    )
    assert report.refused == ()
    assert report.after.nodes <= report.before.nodes
    session = zl.load(tmp_path / "m.onnx")
    task_checks.check(name, lambda inputs: session.run(inputs)).require()


def test_a_model_beyond_two_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered: large weights are hidden from onnxslim and come back unchanged."""
    monkeypatch.setattr(slim, "MOST_PROTO_BYTES", 1000)
    monkeypatch.setattr(slim, "_HIDDEN_BYTES", 200)
    path = tmp_path / "big.onnx"
    onnx.save(
        rewrites.attention_net(),
        path,
        save_as_external_data=True,
        location="big.data",
        size_threshold=100,
    )
    before = {f.name: hashlib.sha256(f.read_bytes()).digest() for f in tmp_path.iterdir()}
    report = zl.optimize.graph(path, tmp_path / "small.onnx")
    assert report.refused == ()
    assert (tmp_path / "small.onnx.data").exists()
    x = random(3, 6, 8, seed=5)
    np.testing.assert_array_equal(run(tmp_path / "small.onnx", x=x)["y"], run(path, x=x)["y"])
    assert {n: hashlib.sha256((tmp_path / n).read_bytes()).digest() for n in before} == before
    assert steps(onnx.load(tmp_path / "small.onnx"))[0].external.keys() == {"big.data"}


def test_onnxruntimes_own_model(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    report = zl.optimize.graph(
        rewrites.image_net(), tmp_path / "m.onnx", onnxruntime_offline=tmp_path / "ort.onnx"
    )
    (note,) = report.notes
    assert "bound to onnxruntime" in note
    told = zl.inspect(tmp_path / "ort.onnx", backends=False)
    assert told.metadata["zerolane.bound_to"].startswith("onnxruntime ")
    x = random(3, 2, 9, 7, seed=5)
    session = zl.load(tmp_path / "ort.onnx", graph_level="none")
    np.testing.assert_allclose(
        session.run({"x": x})["y"], run(rewrites.image_net(), x=x)["y"], rtol=1e-5, atol=1e-5
    )


def test_the_report_and_the_step(tmp_path: Path) -> None:
    report = zl.optimize.graph(rewrites.image_net(), tmp_path / "m.onnx", batch="N")
    told = json.loads(json.dumps(report.as_dict()))
    assert told["refused"] == []
    assert told["before"]["operators"]["Transpose"] == 2
    assert told["after"]["weights"]["float"] < told["before"]["weights"]["float"]
    conv = 3 * 4 * 9 * 7 * 2 * 9
    assert report.before.macs == {"float32": conv + 3 * 4 * 5}
    assert report.after.macs == {"float32": conv // 3 + 4 * 5}
    assert "inputs  x: FLOAT, 3x2x9x7 -> x: FLOAT, Nx2x9x7" in str(report)
    assert report.before.bytes == len(rewrites.image_net().SerializeToString())
    assert report.after.bytes == (tmp_path / "m.onnx").stat().st_size
    (step,) = steps(onnx.load(tmp_path / "m.onnx"))
    assert step.step == "graph"
    assert step.options["batch"] == "N"
    assert "fuse" in step.options["passes"]
    assert set(step.tools) == {"onnx", "onnxslim"}


def test_bad_input(tmp_path: Path) -> None:
    model, out = rewrites.image_net(), tmp_path / "m.onnx"
    onnx.save(model, tmp_path / "in.onnx")
    x = random(3, 2, 9, 7)
    for error, given, options in (
        (zl.InvalidArgument, tmp_path / "in.onnx", {"output": tmp_path / "in.onnx"}),
        (zl.InvalidArgument, model, {"passes": ["fusion"]}),
        (zl.InvalidArgument, model, {"skip": "fusion"}),
        (zl.InvalidArgument, model, {"passes": ["batch"]}),
        (zl.InvalidArgument, model, {"batch": 0}),
        (zl.ShapeMismatch, model, {"samples": {"x": x[:1]}}),
        (zl.InvalidArgument, model, {"samples": []}),
        (zl.NotFound, tmp_path / "absent.onnx", {}),
        (zl.InvalidModel, b"no model", {}),
    ):
        with pytest.raises(error) as caught:
            zl.optimize.graph(given, options.pop("output", out), **options)  # type: ignore[arg-type]
        assert_three_parts(str(caught.value))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["in.onnx"], "nothing is left behind"


def test_without_onnxslim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its passes say which extra brings it; the others do without."""
    monkeypatch.setitem(sys.modules, "onnxslim", None)
    with pytest.raises(zl.Unavailable, match="zerolane\\[optimize\\]"):
        zl.optimize.graph(rewrites.image_net(), tmp_path / "m.onnx")
    others = [name for name in graph_options.PASSES if name not in graph_options.SLIMMED]
    report = zl.optimize.graph(
        rewrites.image_net(), tmp_path / "m.onnx", passes=others[-2:], batch="N"
    )
    assert status(report)["dead"] == status(report)["batch"] == "applied"


def test_progress(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    zl.optimize.graph(
        rewrites.two_heads(), tmp_path / "m.onnx", progress=lambda *row: told.append(row)
    )
    assert next(t for _, t in told).endswith("inline")
    assert told[-1][0] == 1
    assert [f for f, _ in told] == sorted(f for f, _ in told)
