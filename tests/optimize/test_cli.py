"""`zerolane optimize`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

from click.testing import CliRunner, Result  # noqa: E402

from tests.models.task_checks import FOLDER, case_inputs  # noqa: E402
from tests.optimize import graphs, rewrites  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402

DIGITS = str(FOLDER / "digits_cnn.onnx")
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)

    def call(*args: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["optimize", *map(str, args)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.mark.parametrize(("verb", "dtype"), [("fp16", "float16"), ("bf16", "bfloat16")])
def test_both_verbs(invoke: Invoke, verb: str, dtype: str) -> None:
    text = invoke(verb, DIGITS, "m.onnx").stdout
    assert f"({dtype}): 11 nodes converted" in text
    assert "logits: max abs" in text
    assert onnx.load("m.onnx").graph.input[0].type.tensor_type.elem_type == graphs.FLOAT
    assert dtype in invoke(verb, "--help").stdout


def test_options_reach_the_pass(invoke: Invoke) -> None:
    told = json.loads(
        invoke(
            *("fp16", DIGITS, "m.onnx", "--no-keep-io", "--keep", "op:Gemm", "--by-node", "--json"),
            *("--shapes", "image:3x1x8x8", "--seed", 4),
        ).stdout
    )
    assert [(k["op"], k["reason"]) for k in told["kept"]] == [("Gemm", "asked for")]
    assert told["errors"][0]["elements"] == 30
    assert any(e["op"] == "Conv" for e in told["node_errors"])
    assert onnx.load("m.onnx").graph.input[0].type.tensor_type.elem_type == graphs.FLOAT16
    told = json.loads(invoke("fp16", DIGITS, "m.onnx", "--no-verify", "--json").stdout)
    assert told["errors"] == []


def test_real_inputs(invoke: Invoke) -> None:
    np.savez("case.npz", **case_inputs("digits_cnn"))
    told = json.loads(invoke("bf16", DIGITS, "m.onnx", "--input", "case.npz", "--json").stdout)
    assert told["errors"][0]["elements"] == 320


def test_samples(invoke: Invoke) -> None:
    """A folder; what leaves float16's range on one of the files is kept."""
    model = graphs.model(
        [graphs.node("Mul", ["x", "x"], ["a"], name="square"), graphs.node("Tanh", ["a"], ["y"])],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
    )
    onnx.save(model, "square.onnx")
    Path("samples").mkdir()
    for number, size in enumerate((1, 300)):
        np.save(f"samples/{number}.npy", np.full((2, 4), size, np.float32))
    told = json.loads(
        invoke("fp16", "square.onnx", "m.onnx", "--samples", "samples", "--json").stdout
    )
    assert [k["node"] for k in told["kept"]] == ["square", "y"]
    invoke("fp16", "square.onnx", "n.onnx", "--samples", "absent", code=2)
    invoke(
        *("fp16", "square.onnx", "n.onnx", "--samples", "samples", "--input", "samples/0.npy"),
        code=2,
    )


def test_exit_codes(invoke: Invoke) -> None:
    result = invoke("fp16", DIGITS, "m.onnx", "--tolerance", "1e-9", code=1)
    assert "accuracy_lost" in result.stderr
    assert not Path("m.onnx").exists()
    invoke("fp16", DIGITS, "m.onnx", "--keep", "Nothing", code=2)
    invoke("fp16", "absent.onnx", "m.onnx", code=2)
    invoke("fp16", DIGITS, code=2)
    error = json.loads(invoke("fp16", DIGITS, DIGITS, "--json", code=2).stdout)["error"]
    assert error["code"] == "invalid_argument"


def test_warnings_go_to_stderr(invoke: Invoke) -> None:
    model = graphs.model([graphs.node("Sin", ["x"], ["y"])], {"x": [1, 40]}, {"y": [1, 40]})
    onnx.save(model, "sin.onnx")
    np.savez("x.npz", x=np.linspace(9000, 9100, 40, dtype=np.float32)[None])
    result = invoke("bf16", "sin.onnx", "m.onnx", "--input", "x.npz", "--json")
    assert "warning: converting sin.onnx" in result.stderr
    assert json.loads(result.stdout)["worst"] > 0.1


def test_graph(invoke: Invoke) -> None:
    pytest.importorskip("onnxslim")
    onnx.save(rewrites.image_net(), "in.onnx")
    text = invoke("graph", "in.onnx", "m.onnx", "--batch", "N", "--skip", "dead").stdout
    assert "12 -> 5 nodes" in text
    assert "dead     skipped" in text
    assert "batch 3 -> N" in text
    np.savez("x.npz", x=graphs.random(3, 2, 9, 7))
    told = json.loads(
        invoke(
            *("graph", "in.onnx", "m.onnx", "--pass", "cut", "--outputs", "r,g", "--json"),
            *("--samples", "x.npz"),
        ).stdout
    )
    assert [o.split(":")[0] for o in told["after"]["outputs"]] == ["r", "g"]
    assert [p["status"] for p in told["passes"] if p["name"] == "cut"] == ["applied"]
    invoke("graph", "in.onnx", "m.onnx", "--pass", "fusion", code=2)
    invoke("graph", "in.onnx", "in.onnx", code=2)
    onnx.save(rewrites.mixing_net(), "mix.onnx")
    invoke("graph", "mix.onnx", "m.onnx", "--batch", "N", code=1)


def test_bisect(invoke: Invoke) -> None:
    np.savez("case.npz", **case_inputs("digits_cnn"))
    told = json.loads(
        invoke(
            *("bisect", DIGITS, "m.onnx", "--samples", "case.npz", "--metric", "top1", "--json"),
            *("--keep", "op:Gemm"),
        ).stdout
    )
    assert (told["keep"], told["score"], told["runs"]) == ([], 1, 2)
    assert Path("m.onnx").exists()
    invoke("bisect", DIGITS, "n.onnx", code=2)
    invoke("bisect", DIGITS, "n.onnx", "--samples", "absent", code=2)
    assert not Path("n.onnx").exists()
