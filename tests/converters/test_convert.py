"""`zl.convert` apart from any framework: a stand-in takes the place of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small  # noqa: E402
from tests.optimize.graphs import model, node, random  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.converters import work  # noqa: E402
from zerolane.converters.origin import Arrays, Wishes  # noqa: E402
from zerolane.optimize.provenance import steps  # noqa: E402

WEIGHT = random(4, 3)


class StandIn:
    """x [N,4], scale [N,1] -> x w * scale, sum of rows, exported with traces of its machine."""

    framework = "StandIn"
    versions = {"standin": "1.2"}  # noqa: RUF012

    def __init__(self, baked: int | None = None, wrong: float = 0.0, free: Any = None) -> None:
        self.baked, self.wrong, self.free = baked, wrong, free
        self.sample: Arrays = {"x": random(1, 4), "scale": np.ones((1, 1), np.float32)}
        self.traced: Wishes | None = None

    def free_axes(self) -> Any:
        return self.free

    def export(self, wishes: Wishes) -> onnx.ModelProto:
        self.traced = wishes
        nodes = [
            node("MatMul", ["x", "w"], ["h"], name="first"),
            node("Mul", ["h", "scale"], ["y0"], name="second"),
        ]
        weights: dict[str, Any] = {"w": WEIGHT + np.float32(self.wrong)}
        if self.baked is not None:
            nodes.append(node("Reshape", ["y0", "shape"], ["y"], name="baked"))
            weights["shape"] = np.array([self.baked, 3])
        else:
            nodes.append(node("Identity", ["y0"], ["y"], name="last"))
        made = model(nodes, {"x": ["s0", 4], "scale": ["s0", 1]}, {"y": ["s1", 3]}, weights)
        made.graph.node[0].doc_string = "File /home/someone/model.py, line 3"
        made.graph.node[1].metadata_props.add(key="stack_trace", value="/home/someone/model.py")
        return made

    def run(self, inputs: Arrays) -> list[Any]:
        return [inputs["x"] @ WEIGHT * inputs["scale"]]


@pytest.fixture
def using(monkeypatch: pytest.MonkeyPatch) -> Any:
    def use(origin: StandIn) -> StandIn:
        monkeypatch.setattr(work, "find", lambda *_: (origin, "thing", "converting thing"))
        return origin

    return use


def test_the_batch_is_free_by_default_and_checked_in_three_sizes(
    using: Any, tmp_path: Path
) -> None:
    origin = using(StandIn())
    report = zl.convert(object(), tmp_path / "m.onnx")
    session = zl.load(tmp_path / "m.onnx")
    assert [spec.shape for spec in session.inputs] == [("N", 4), ("N", 1)]
    assert [spec.shape for spec in session.outputs] == [("N", 3)]
    assert [check.shapes["x"] for check in report.checks] == [(2, 4), (1, 4), (5, 4)]
    assert origin.traced is not None
    assert origin.traced.sample["x"].shape == (2, 4), "tracers take a size of one for a constant"
    assert report.worst < 1e-6
    assert "held against StandIn" in str(report)
    assert report.as_dict()["worst"] == report.worst


def test_what_exporters_note_of_the_machine_is_gone(using: Any, tmp_path: Path) -> None:
    using(StandIn())
    report = zl.convert(object(), tmp_path / "m.onnx")
    assert b"/home/someone" not in (tmp_path / "m.onnx").read_bytes()
    assert any("2 notes of the exporter" in note for note in report.notes)
    (step,) = steps(onnx.load(tmp_path / "m.onnx"))
    assert (step.step, step.tools) == ("convert", {"standin": "1.2"})
    assert step.options["dynamic"] == {"x": {"0": "N"}, "scale": {"0": "N"}}


def test_numbers_that_differ_are_refused(using: Any, tmp_path: Path) -> None:
    using(StandIn(wrong=0.01))
    with pytest.raises(zl.optimize.AccuracyLost, match="max abs") as caught:
        zl.convert(object(), tmp_path / "m.onnx")
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "y"
    assert list(tmp_path.iterdir()) == []
    zl.convert(object(), tmp_path / "m.onnx", tolerance=0.1)
    report = zl.convert(object(), tmp_path / "m.onnx", verify=False)
    assert report.checks == ()
    assert "not held against" in str(report)


def test_a_size_that_is_baked_in_is_found(using: Any, tmp_path: Path) -> None:
    using(StandIn(baked=2))
    with pytest.raises(zl.optimize.AccuracyLost, match="does not run with x \\[1, 4\\]") as caught:
        zl.convert(object(), tmp_path / "m.onnx")
    assert_three_parts(str(caught.value))


def test_names_of_dimensions_and_outputs(using: Any, tmp_path: Path) -> None:
    using(StandIn())
    zl.convert(
        object(),
        tmp_path / "m.onnx",
        dynamic={"x": {0: "rows"}, "scale": {0: "rows"}},
        outputs=["product"],
    )
    session = zl.load(tmp_path / "m.onnx")
    assert [(s.name, s.shape) for s in session.outputs] == [("product", ("rows", 3))]
    using(StandIn(free={"x": {0: "s77"}, "scale": {0: "s77"}}))
    zl.convert(object(), tmp_path / "m.onnx")
    assert [s.shape for s in zl.load(tmp_path / "m.onnx").inputs] == [("N", 4), ("N", 1)]
    for options in (
        {"dynamic": {"z": {0: "N"}}},
        {"dynamic": {"x": {2: "N"}}},
        {"dynamic": {"x": {1: "C"}}},
        {"outputs": ["a", "b"]},
        {"outputs": ["h"]},
        {"check": [{"x": random(2, 4), "other": random(1)}]},
    ):
        with pytest.raises(zl.InvalidArgument) as caught:
            zl.convert(object(), tmp_path / "n.onnx", **options)  # type: ignore[arg-type]
        assert_three_parts(str(caught.value))
    assert not (tmp_path / "n.onnx").exists()


def test_sources_that_are_none(tmp_path: Path) -> None:
    onnx.save(small.control_policy(), tmp_path / "m.onnx")
    (tmp_path / "weights.pth").write_bytes(b"pickle")
    for error, source in (
        (zl.InvalidArgument, 3),
        (zl.InvalidArgument, tmp_path),
        (zl.InvalidArgument, tmp_path / "m.onnx"),
        (zl.InvalidArgument, tmp_path / "weights.pth"),
        (zl.NotFound, tmp_path / "absent.tflite"),
    ):
        with pytest.raises(error) as caught:
            zl.convert(source, tmp_path / "out.onnx")
        assert_three_parts(str(caught.value))
    assert not (tmp_path / "out.onnx").exists()


def test_a_framework_that_is_missing_names_its_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for module, extra, name in (
        ("torch", "torch", "m.pt2"),
        ("tensorflow", "tensorflow", "m.tflite"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        (tmp_path / name).write_bytes(b"something")
        with pytest.raises(zl.Unavailable, match=f"zerolane\\[{extra}\\]"):
            zl.convert(tmp_path / name, tmp_path / "out.onnx")


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def call(*args: str) -> Any:
        return CliRunner().invoke(cli, ["convert", *args])

    assert call("absent.pt2", "m.onnx").exit_code == 2
    assert call("no_module_of_this_name:make", "m.onnx").exit_code == 2
    Path("made_here.py").write_text("def make():\n    return 3\n")
    result = call("made_here:make", "m.onnx")
    assert result.exit_code == 2
    assert "a builtins.int was given" in result.stderr
    for wrong in (("--dynamic", "x=N"), ("--fixed", "--dynamic", "x:0=N"), ("--sample", "no.npz")):
        assert call("made_here:make", "m.onnx", *wrong).exit_code == 2
    assert "MODULE:FUNCTION" in call("--help").stdout
