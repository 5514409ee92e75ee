"""The command `zerolane`: verbs, exit codes, JSON, bad input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

from click.testing import CliRunner, Result  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import small, task_checks  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from tests.terminal import terminal  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.cli.verb import exit_code, progress  # noqa: E402

DIGITS = str(task_checks.FOLDER / "digits_cnn.onnx")
Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)

    def call(*args: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(arg) for arg in args])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return result

    return call


@pytest.fixture
def add(tmp_path: Path) -> str:
    onnx.save(small.add((2, 2)), tmp_path / "add.onnx")
    return str(tmp_path / "add.onnx")


def test_help_and_version(invoke: Invoke) -> None:
    text = invoke("--help").stdout
    for verb in ("doctor", "inspect", "run", "bench", "compare", "demo"):
        assert verb in text
        assert "--json" in invoke(verb, "--help").stdout
    assert "demo robot" in invoke("demo", "--help").stdout
    assert zl.__version__ in invoke("--version").stdout


@pytest.mark.parametrize("verb", ["run", "bench", "compare"])
def test_a_verb_writes_its_trace(verb: str, invoke: Invoke, add: str, tmp_path: Path) -> None:
    rest = {
        "run": ("--random", "--json"),
        "bench": ("--calls", 5, "--warmup", 1, "--json"),
        "compare": (add, "--json"),
    }[verb]
    result = invoke(verb, add, *rest, "--trace", "t.json")
    json.loads(result.stdout)
    assert "t.json" in result.stderr
    names = [e["name"] for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"]]
    assert "load" in names
    assert "run" in names


def test_a_trace_that_cannot_be_written(invoke: Invoke, add: str) -> None:
    result = invoke("run", add, "--random", "--json", "--trace", "no/t.json", code=2)
    assert json.loads(result.stdout)["error"]["code"] == "not_found"
    assert_three_parts(result.stderr)


def test_doctor(invoke: Invoke) -> None:
    assert zl.__version__ in invoke("doctor").stdout
    assert json.loads(invoke("doctor", "--json").stdout)["ok"] is True


def test_inspect(invoke: Invoke) -> None:
    text = invoke("inspect", DIGITS).stdout
    for part in ("image", "tensor(float32)", "[N, 1, 8, 8]", "4 x Conv", "65,642", "onnxruntime"):
        assert part in text
    report = json.loads(invoke("inspect", DIGITS, "--json").stdout)
    assert report["operators"]["Conv"] == 4
    assert report["inputs"][0]["shape"] == ["N", 1, 8, 8]
    assert report["backends"]["onnxruntime"].startswith("loads")


def test_run_from_files_of_every_kind(invoke: Invoke, add: str, tmp_path: Path) -> None:
    a = np.arange(4, dtype=np.float32).reshape(2, 2)
    b = np.full((2, 2), 0.5, np.float32)
    np.save("a.npy", a)
    np.save("b.npy", b)
    np.savez("both.npz", a=a, b=b)
    Path("both.json").write_text(json.dumps({"a": a.tolist(), "b": b.tolist()}))
    Path("b.json").write_text(json.dumps(b.tolist()))
    Path("a.pb").write_bytes(onnx.numpy_helper.from_array(a, "a").SerializeToString())
    Path("x.pb").write_bytes(onnx.numpy_helper.from_array(b).SerializeToString())
    for given in (
        ("a=a.npy", "b=b.npy"),
        ("both.npz",),
        ("a=both.npz", "b=both.npz"),
        ("both.json",),
        ("a.pb", "b=b.json"),
        ("a=a.npy", "b=x.pb"),
    ):
        inputs = [part for text in given for part in ("--input", text)]
        invoke("run", add, *inputs, "--save", "out.npz")
        with np.load("out.npz") as file:
            np.testing.assert_array_equal(file["y"], a + b)
    invoke("run", add, "--input", "both.npz", "--save", "out.npy")
    np.testing.assert_array_equal(np.load("out.npy"), a + b)
    invoke("run", add, "--input", "both.npz", "--save", "out.json")
    assert json.loads(Path("out.json").read_text()) == {"y": (a + b).tolist()}


def test_run_of_one_input_needs_no_name(invoke: Invoke) -> None:
    image = task_checks.case_inputs("digits_cnn")["image"][:3]
    np.save("digits.npy", image)
    told = json.loads(invoke("run", DIGITS, "--input", "digits.npy", "--json").stdout)
    assert told["outputs"]["logits"]["shape"] == [3, 10]
    assert told["inputs"]["image"]["dtype"] == "float32"


def test_run_random(invoke: Invoke) -> None:
    args = ("run", DIGITS, "--random", "--shapes", "image:2x1x8x8")
    assert "logits" in invoke(*args).stdout
    first, again, other = (
        json.loads(invoke(*args, "--json", "--seed", seed).stdout)["outputs"] for seed in (1, 1, 2)
    )
    assert first == again != other
    args = ("run", DIGITS, "--random", "--optShapes", "image:2x1x8x8", "--json")
    bounds = ("--minShapes", "image:1x1x8x8", "--maxShapes", "image:4x1x8x8")
    told = json.loads(invoke(*args, *bounds).stdout)
    assert told["outputs"]["logits"]["shape"] == [2, 10]


def test_run_strings_and_chosen_outputs(invoke: Invoke) -> None:
    model = task_checks.FOLDER / "mixed_table.onnx"
    rows = {"colour": [["red"], ["blue"]], "weight": [[1.0], [2.0]], "red_weight": [[1.0], [0.0]]}
    Path("in.json").write_text(json.dumps(rows))
    invoke("run", model, "--input", "in.json", "--output", "label", "--save", "out.npz")
    with np.load("out.npz") as file:
        assert list(file) == ["label"]
        assert file["label"].dtype.kind == "U"
    assert "label" in invoke("run", model, "--random").stdout


def test_run_of_sequences(invoke: Invoke, tmp_path: Path) -> None:
    onnx.save(small.map_output("string"), tmp_path / "m.onnx")
    invoke("run", "m.onnx", "--random", "--save", "out.json")
    (row,) = json.loads(Path("out.json").read_text())["maps"]
    assert list(row) == ["a", "b", "c"]
    result = invoke("run", "m.onnx", "--random", "--save", "out.npz", code=1)
    assert_three_parts(result.stderr)


def test_nan_is_a_string_in_json(invoke: Invoke, add: str) -> None:
    np.savez("in.npz", a=np.full((2, 2), np.nan, np.float32), b=np.full((2, 2), np.inf, "f4"))
    told = json.loads(invoke("run", add, "--input", "in.npz", "--json").stdout)
    assert told["outputs"]["y"]["max"] == "nan"
    assert told["outputs"]["y"]["nans"] == 4


def test_bench(invoke: Invoke) -> None:
    text = invoke("bench", DIGITS, "--calls", 10, "--warmup", 1).stdout
    for part in ("p50", "p99.9", "calls/s", "zerolane b()", "█"):
        assert part in text
    told = json.loads(
        invoke("bench", DIGITS, "--calls", 7, "--mode", "call", "--threads", 2, "--json").stdout
    )
    assert (told["calls"], told["threads"], told["mode"]) == (7, 2, "call")
    assert told["shapes"] == {"image": [1, 1, 8, 8]}


def test_bench_against_the_peer_with_a_picture(invoke: Invoke) -> None:
    pytest.importorskip("onnxruntime", reason="the peer")
    pytest.importorskip("matplotlib", reason="draws the picture")
    args = ("bench", DIGITS, "--calls", 10, "--vs", "onnxruntime", "--plot", "p.png")
    assert "as fast as onnxruntime run" in invoke(*args).stdout
    assert Path("p.png").read_bytes().startswith(b"\x89PNG")
    told = json.loads(invoke(*args, "--json").stdout)
    assert told["peer"]["calls"] == 10
    assert told["agreement"]["ok"] is True
    assert told["plot"] == "p.png"


def test_bench_under_load(invoke: Invoke) -> None:
    pytest.importorskip("matplotlib")
    load = ("bench", DIGITS, "--threads", "1", "--seconds", "0.1", "--json")
    done = invoke(*load, "--clients", "1,3", "--rate", "100", "--lanes", "2", "--plot", "l.png")
    result = json.loads(done.stdout)
    assert [p["clients"] for p in result["points"]] == [1, 3, None]
    assert Path(result["plot"]).stat().st_size > 5000
    done = invoke(*load, "--clients", "4", "--max-batch", "8")
    assert json.loads(done.stdout)["rows_per_run"] >= 1
    invoke(*load, "--clients", "many", code=2)
    invoke(*load, "--lanes", "2", "--vs", "onnxruntime", code=2)
    shown = invoke(*load[:-1], "--clients", "2", "--max-batch", "4")
    assert "2 clients" in shown.stdout


def test_compare(invoke: Invoke, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the peer")
    args = ("compare", DIGITS, "--vs", "onnxruntime", "--shapes", "image:3x1x8x8")
    assert "agree" in invoke(*args).stdout
    assert json.loads(invoke(*args, "--json").stdout)["ok"] is True
    model = onnx.load(DIGITS)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    bias = onnx.numpy_helper.to_array(weights["6.bias"]).copy()
    bias[7] += 0.5
    weights["6.bias"].CopyFrom(onnx.numpy_helper.from_array(bias, "6.bias"))
    onnx.save(model, tmp_path / "changed.onnx")
    assert "differ" in invoke("compare", DIGITS, "changed.onnx", code=1).stdout
    told = json.loads(invoke("compare", DIGITS, "changed.onnx", "--json", code=1).stdout)
    (output,) = told["outputs"]
    assert output["mismatches"] == 1
    assert output["worst"]["index"] == [0, 7]
    assert output["max_abs"] == pytest.approx(0.5, abs=1e-3)
    invoke("compare", DIGITS, "changed.onnx", "--atol", 0.6)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("inspect", "nowhere.onnx"), 2, "no file"),
        (("inspect", "bad.onnx"), 1, "truncated"),
        (("run", "nowhere.onnx", "--random"), 2, "no file"),
        (("run", "bad.onnx", "--random"), 1, ""),
        (("run", DIGITS, "--random", "--shapes", "image:1x2x8x8"), 2, "image"),
        (("run", DIGITS, "--random", "--shapes", "nope:1"), 2, "nope"),
        (("run", DIGITS, "--random", "--shapes", "rubbish"), 2, "rubbish"),
        (("run", DIGITS, "--input", "nowhere.npy"), 2, "nowhere.npy"),
        (("run", DIGITS, "--input", "bad.npy"), 2, "bad.npy"),
        (("run", DIGITS, "--input", "bad.npz"), 2, "bad.npz"),
        (("run", DIGITS, "--input", "bad.json"), 2, "bad.json"),
        (("run", DIGITS, "--input", "bad.pb"), 2, "bad.pb"),
        (("run", DIGITS, "--input", "bad.txt"), 2, ".npy"),
        (("run", DIGITS, "--input", "other=f8.npy"), 2, "other"),
        (("run", DIGITS, "--input", "f8.npy"), 2, "float64"),
        (("run", DIGITS, "--random", "--save", "no/out.npz"), 2, "folder"),
        (("run", DIGITS, "--random", "--save", "out.txt"), 2, ".npz"),
        (("run", DIGITS, "--random", "--backend", "tensorrt"), 3, "tensorrt"),
        (("run", DIGITS, "--random", "--backend", "nope"), 2, "nope"),
        (("run", DIGITS, "--random", "--device", "tpu"), 2, "tpu"),
        (("run", DIGITS, "--random", "--provider", "Nope"), 3, "Nope"),
        (("bench", DIGITS, "--calls", "1", "--plot", "no/p.png"), 2, "folder"),
        (("bench", "nowhere.onnx"), 2, "no file"),
        (("compare", DIGITS, "nowhere.onnx"), 2, "no file"),
    ],
)
def test_bad_input_says_what_and_what_to_do(
    invoke: Invoke, args: tuple[str, ...], code: int, words: str
) -> None:
    for suffix in ("onnx", "npy", "npz", "json", "pb", "txt"):
        Path(f"bad.{suffix}").write_bytes(b"\x9cnot what it says")
    np.save("f8.npy", np.zeros((1, 1, 8, 8)))
    result = invoke(*args, code=code)
    assert result.stdout == ""
    assert result.stderr.startswith("error [")
    assert words in result.stderr
    assert_three_parts(result.stderr)
    told = json.loads(invoke(*args, "--json", code=code).stdout)
    assert told["error"]["message"] in result.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("run",),
        ("run", DIGITS),
        ("run", DIGITS, "--random", "--shapes", "image:1x1x8x8", "--optShapes", "image:1x1x8x8"),
        ("run", DIGITS, "--random", "--minShapes", "image:1x1x8x8"),
        (
            "run",
            DIGITS,
            "--random",
            "--minShapes",
            "image:2x1x8x8",
            "--optShapes",
            "image:1x1x8x8",
        ),
        ("run", DIGITS, "--random", "--seed", "-1"),
        ("bench", DIGITS, "--mode", "fast"),
        ("bench", DIGITS, "--threads", "0"),
        ("bench", DIGITS, "--calls", "0"),
        ("compare", DIGITS),
        ("compare", DIGITS, DIGITS, "--vs", "onnxruntime"),
        ("compare", DIGITS, DIGITS, "--atol", "-1"),
        ("nonsense",),
    ],
)
def test_wrong_usage(invoke: Invoke, args: tuple[str, ...]) -> None:
    result = invoke(*args, code=2)
    assert result.stdout == ""
    assert "Error" in result.stderr


@pytest.mark.parametrize(
    "args", [("run", DIGITS), ("bench", DIGITS, "--calls", "0"), ("nonsense",)]
)
def test_wrong_usage_as_json(invoke: Invoke, args: tuple[str, ...]) -> None:
    result = invoke(*args, "--json", code=2)
    told = json.loads(result.stdout)["error"]
    assert told["code"] == "invalid_argument"
    assert told["message"] in result.stderr


def test_an_input_given_twice(invoke: Invoke, add: str) -> None:
    np.savez("both.npz", a=np.ones((2, 2), np.float32), b=np.ones((2, 2), np.float32))
    np.save("a.npy", np.zeros((2, 2), np.float32))
    told = invoke("run", add, "--input", "both.npz", "--input", "a=a.npy", code=2).stderr
    assert "'a' was given before" in told


@pytest.mark.parametrize(
    ("args", "ending"),
    [
        (("run", DIGITS, "--random", "--save"), ".npz"),
        (("run", DIGITS, "--random", "--save"), ".npy"),
        (("run", DIGITS, "--random", "--save"), ".json"),
        (("bench", DIGITS, "--calls", "1", "--plot"), ".png"),
    ],
)
def test_a_file_that_cannot_be_written(invoke: Invoke, args: tuple[str, ...], ending: str) -> None:
    if ending == ".png":
        pytest.importorskip("matplotlib", reason="draws the picture")
    Path(f"taken{ending}").mkdir()  # root cannot write a file there either
    told = invoke(*args, f"taken{ending}", code=2).stderr
    assert "cannot be written" in told
    assert_three_parts(told.partition("]: ")[2])


def test_outputs_may_be_called_anything(invoke: Invoke) -> None:
    model = small.identity()
    model.graph.output[0].name = model.graph.node[0].output[0] = "file"
    onnx.save(model, "named.onnx")
    np.save("x.npy", np.arange(3, dtype=np.float32))
    invoke("run", "named.onnx", "--input", "x.npy", "--save", "out.npz")
    assert np.load("out.npz")["file"].tolist() == [0, 1, 2]


def test_inspect_names_the_damaged_file(invoke: Invoke) -> None:
    Path("damaged.onnx").write_bytes(Path(DIGITS).read_bytes()[:1000])
    told = json.loads(invoke("inspect", "damaged.onnx", "--json", code=1).stdout)["error"]
    assert (told["code"], told["subject"]) == ("invalid_model", "damaged.onnx")
    assert_three_parts(told["message"])


def test_debug_lets_the_error_through(invoke: Invoke) -> None:
    with pytest.raises(zl.NotFound):
        invoke("inspect", "nowhere.onnx", "--debug", code=1)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (zl.InvalidArgument("m"), 2),
        (zl.ShapeMismatch("m"), 2),
        (zl.NotFound("m", "a/model.onnx"), 2),
        (zl.NotFound("m", "a/libprovider.so.1"), 3),
        (zl.Unavailable("m"), 3),
        (zl.OutOfMemory("m"), 3),
        (zl.InvalidModel("m"), 1),
        (zl.BackendError("m"), 1),
        (zl.DeadlineExceeded("m"), 1),
    ],
)
def test_exit_codes(error: zl.Error, code: int) -> None:
    assert exit_code(error) == code


def test_demo(invoke: Invoke) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    pytest.importorskip("onnxruntime", reason="the peer")
    told = json.loads(invoke("demo", "--json", "--seconds", "0.01", "--out", "d/e").stdout)
    assert (told["digits"], told["right"]) == (397, 392)
    assert told["accuracy"] == pytest.approx(392 / 397)
    networks = {panel["network"]: panel["right"] for panel in told["latency"]}
    assert networks == {"digits_mlp": 392, "digits_cnn": 396}
    for panel in told["latency"]:
        assert set(panel["us"]) == {"zerolane b()", "zerolane s(x)", "onnxruntime run"}
        assert panel["agreement"]["ok"]
        assert set(panel["speedup"]) == {"zerolane b()", "zerolane s(x)"}
    assert Path(told["picture"]).read_bytes().startswith(b"\x89PNG")
    assert told["notes"] == []


def test_demo_text_without_peer_and_matplotlib(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    text = invoke("demo", "--no-peer", "--seconds", "0.01").stdout
    assert text.index("392 of 397") < text.index("396 of 397")
    assert "says 8, is 1" in text
    assert "zerolane[plot]" in text
    assert "onnxruntime run" not in text


def test_demo_says_when_the_peer_is_missing(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    told = json.loads(invoke("demo", "--json", "--seconds", "0.01").stdout)
    (note,) = told["notes"]
    assert "zerolane[cpu]" in note
    assert told["latency"][0]["speedup"] == {}


def test_demo_robot(invoke: Invoke) -> None:
    """Which of the rods stand depends on the machine; that the exit code says so does not."""
    pytest.importorskip("matplotlib", reason="draws the picture")
    pytest.importorskip("onnxruntime", reason="the peer")
    result = CliRunner().invoke(
        cli, ["demo", "robot", "--json", "--seconds", "1", "--plot", "robot.png"]
    )
    told = json.loads(result.stdout)
    ours, peer = told["loops"]
    assert result.exit_code == (0 if ours["standing"] else 1), result.output
    assert (ours["name"], peer["name"]) == ("zerolane Loop", "onnxruntime run")
    for loop in (ours, peer):
        assert loop["standing"] == (loop["fell_s"] is None)
        assert loop["seconds"] >= 1
        assert 0 <= loop["missed"] <= loop["ticks"]
        assert loop["ticks"] >= 500
        assert 0 < loop["call_us"]["p50"] <= loop["call_us"]["max"]
        assert 0 < loop["cart_rms_mm"] <= loop["cart_most_mm"]
        assert loop["lean_most_deg"] > 0.05 * 57  # it begins leaning
        assert loop["age_ms"]["p50"] > 0
    assert Path("robot.png").read_bytes().startswith(b"\x89PNG")
    assert told["notes"] == []


def test_demo_robot_text(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    text = CliRunner().invoke(cli, ["demo", "robot", "--seconds", "0.3"]).stdout
    assert "zerolane Loop" in text
    assert "balanced for" in text or "fell after" in text
    assert "zerolane[cpu]" in text
    text = CliRunner().invoke(cli, ["demo", "robot", "--seconds", "0.3", "--no-peer"]).stdout
    assert "onnxruntime" not in text
    assert "--priority" in invoke("demo", "robot", "--help").stdout
    assert_three_parts(invoke("demo", "robot", "--plot", "no/where.png", code=2).stderr)


def test_demo_into_a_file_is_refused(invoke: Invoke) -> None:
    Path("taken").write_text("")
    assert "taken" in invoke("demo", "--out", "taken", code=2).stderr
    result = invoke("demo", "--out", "taken/below", "--seconds", "0.01", code=2)
    assert_three_parts(result.stderr)


def as_process(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zerolane", *args]
    return subprocess.run(
        command, env=os.environ | env, capture_output=True, text=True, timeout=120, check=False
    )


def test_as_a_process(tmp_path: Path) -> None:
    done = as_process("inspect", DIGITS, "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["format"] == "onnx"
    assert done.stderr == ""
    done = as_process("run", str(tmp_path / "no.onnx"), "--random")
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    done = as_process("run", str(tmp_path / "no.onnx"), "--random", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_without_the_library_the_exit_code_is_3() -> None:
    missing: dict[str, Any] = {"ZEROLANE_ONNXRUNTIME": "/nowhere/libonnxruntime.so"}
    for args in (("doctor",), ("run", DIGITS, "--random"), ("bench", DIGITS), ("demo",)):
        done = as_process(*args, **missing)
        assert done.returncode == 3, done.stderr
        assert "/nowhere/libonnxruntime.so" in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
    done = as_process("inspect", DIGITS, **missing)
    assert done.returncode == 0
    assert "unavailable" in done.stdout


def test_a_terminal_without_unicode() -> None:
    done = as_process("bench", DIGITS, "--calls", "5", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr


def test_the_bar_cuts_its_text_and_never_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    for name in ("COLUMNS", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with terminal(80) as written, progress() as tell:
        assert callable(tell)
        tell(0.07, "building [b]model.onnx: a phase with a long name, 3.6 s of about 50.2 s")
        shown = written("  7%")
    assert "building [b]model.onnx: a phase with a long name, 3…" in shown
    assert "  7%" in shown
