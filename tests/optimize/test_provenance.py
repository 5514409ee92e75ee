"""What a file says of how it came about."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small  # noqa: E402
from zerolane import model_file as files  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.model.steps import KEY  # noqa: E402
from zerolane.optimize.provenance import stamp, steps  # noqa: E402


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_steps_add_up_and_name_their_source(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{n}.onnx" for n in range(3))
    onnx.save(small.control_policy(), first)
    zl.optimize.fp16(first, second, keep=["Gemm"])
    zl.optimize.bf16(second, third)
    narrow, wide = steps(onnx.load(third))
    assert (narrow.step, wide.step) == ("fp16", "bf16")
    assert (narrow.source, wide.source) == (sha256(first), sha256(second))
    assert narrow.options["keep"] == ["Gemm"]
    assert narrow.zerolane == zl.__version__
    assert narrow.tools == {"onnx": onnx.__version__}
    zl.optimize.fp16(third, tmp_path / "again.onnx", verify=False)
    assert len(steps(onnx.load(tmp_path / "again.onnx"))) == 2, "nothing was done, nothing is told"


def test_the_same_pass_writes_the_same_bytes(tmp_path: Path) -> None:
    model = small.control_policy()
    zl.optimize.fp16(model, tmp_path / "a.onnx")
    zl.optimize.fp16(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_external_data_is_told_by_content(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    onnx.save(
        small.control_policy(), path, save_as_external_data=True, location="w.bin", size_threshold=1
    )
    model = onnx.ModelProto()
    stamp(model, "test", {}, files.read(path, "reading"))
    (step,) = steps(model)
    assert step.external == {"w.bin": sha256(tmp_path / "w.bin")}
    assert step.source == sha256(path)


def test_options_are_plain_and_hold_no_folders(tmp_path: Path) -> None:
    model = onnx.ModelProto()
    options = {
        "folder": tmp_path / "calibration",
        "samples": np.zeros(3),
        "metric": len,
        "shape": (1, None),
        "left_out": None,
    }
    stamp(model, "test", options, "ab" * 32)
    (step,) = steps(model)
    assert step.options == {
        "folder": "calibration",
        "samples": "<ndarray>",
        "metric": "<len>",
        "shape": [1, None],
    }
    assert str(tmp_path) not in model.metadata_props[0].value
    assert ", from abababababab" in str(step)


@pytest.mark.parametrize("text", ["", "no json", "[" * 100_000, "{}", "[3]", "null"])
def test_a_damaged_entry_is_no_step_and_is_replaced(text: str) -> None:
    model = onnx.ModelProto()
    model.metadata_props.add(key=KEY, value=text)
    assert steps(model) == ()
    stamp(model, "test", {})
    assert [s.step for s in steps(model)] == ["test"]
    assert len(model.metadata_props) == 1


def test_inspect_shows_the_steps_beside_the_metadata(tmp_path: Path) -> None:
    model = small.control_policy()
    model.metadata_props.add(key="author", value="someone")
    zl.optimize.fp16(model, tmp_path / "m.onnx")
    report = zl.inspect(tmp_path / "m.onnx", backends=False)
    assert dict(report.metadata) == {"author": "someone"}
    assert [s.step for s in report.steps] == ["fp16"]
    assert "step        fp16(keep=[]" in str(report)
    told = json.loads(json.dumps(report.as_dict()))["steps"]
    assert told == [report.steps[0].as_dict()]


def test_the_verb_inspect_shows_them(tmp_path: Path) -> None:
    zl.optimize.fp16(small.control_policy(), tmp_path / "m.onnx", keep_io=False)
    path = str(tmp_path / "m.onnx")
    text = CliRunner().invoke(cli, ["inspect", path, "--no-backends"]).stdout
    assert "step  fp16(keep=[], keep_io=False, keep_defaults=True) by zerolane" in text
    assert "100.0% float16" in text
    told = json.loads(CliRunner().invoke(cli, ["inspect", path, "--no-backends", "--json"]).stdout)
    assert told["steps"][0]["options"]["keep_io"] is False
    assert list(told["macs"]) == ["float16"]
