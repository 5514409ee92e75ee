"""`zerolane build`: trtexec's flags, notes, refusals, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import zerolane as zl
from tests.build import models
from tests.models.task_checks import FOLDER
from zerolane.cli.main import cli

DIGITS = FOLDER / "digits_cnn.onnx"
RANGE = (
    "--minShapes=image:1x1x8x8",
    "--optShapes=image:4x1x8x8",
    "--maxShapes=image:16x1x8x8",
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["build", *map(str, arguments)])


def told(*arguments: object) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_an_engine_file(rtx: str, tmp_path: Path) -> None:
    path = tmp_path / "digits.engine"
    done = run(DIGITS, *RANGE, f"--saveEngine={path}")
    assert done.exit_code == 0, done.stderr
    engine = zl.Engine.read(path)
    assert f"{engine.plan.nbytes:,} bytes" in done.stdout
    assert f"tensorrt-rtx {rtx}" in done.stdout
    assert "15 layers" in done.stdout
    assert "1x1x8x8 .. 4x1x8x8 .. 16x1x8x8" in done.stdout
    again = told(f"--onnx={DIGITS}", *RANGE, f"--saveEngine={path}")
    assert again["from_cache"]
    assert again["plan_bytes"] == engine.plan.nbytes
    assert not told(DIGITS, *RANGE, "-o", path, "--no-cache")["from_cache"]


def test_the_default_name(rtx: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert told(DIGITS, "--shapes=image:4x1x8x8")["engine"] == "digits_cnn.engine"
    assert zl.Engine.read("digits_cnn.engine").manifest.profiles == (
        {"image": ((4, 1, 8, 8),) * 3},
    )


def test_flags_of_trtexec(rtx: str, tmp_path: Path) -> None:
    flags = (
        *("--skipInference", "--buildOnly", "--stronglyTyped", "--noTF32"),
        *("--memPoolSize=workspace:64,tacticSharedMem:48K", "--builderOptimizationLevel=2"),
        *("--profilingVerbosity=detailed", "--hardwareCompatibilityLevel=none"),
        *("--computeCapabilities=8.9,12.0", "--maxAuxStreams=1", "--tilingOptimizationLevel=0"),
        *("--sparsity=enable", "--avgTiming=2", "--directIO"),
    )
    about = told(DIGITS, *RANGE, *flags, "-o", tmp_path / "x.engine")
    manifest = zl.Engine.read(about["engine"]).manifest
    assert manifest.compute_capabilities == ("8.9", "12.0")
    assert manifest.flags == {
        "optimization_level": 2,
        "memory_pools": {"workspace": 64 * 2**20, "tactic_shared_memory": 48 * 2**10},
        "sparse_weights": True,
        "tf32": False,
        "direct_io": True,
        "tiling_level": 0,
        "avg_timing_iterations": 2,
        "max_aux_streams": 1,
        "profiling_verbosity": "detailed",
    }


def test_weights_that_come_later(rtx: str, tmp_path: Path) -> None:
    (tmp_path / "relu.onnx").write_bytes(models.relu())
    arguments = (tmp_path / "relu.onnx", "--stripWeights", "--refit", "-o", tmp_path / "x.engine")
    told(*arguments)
    flags = zl.Engine.read(tmp_path / "x.engine").manifest.flags
    assert flags == {"strip_weights": True, "refit": True}


def test_several_profiles(rtx: str, tmp_path: Path) -> None:
    more = ("--optShapes=image:32x1x8x8", "--minShapes=image:16x1x8x8")
    about = told(DIGITS, *RANGE, *more, "--maxShapes=image:64x1x8x8", "-o", tmp_path / "x.engine")
    assert [profile["image"][2][0] for profile in about["profiles"]] == [16, 64]
    done = run(DIGITS, *RANGE, "--optShapes=image:32x1x8x8")
    assert done.exit_code == 2
    assert "once for every profile" in done.stderr


def test_a_range_needs_no_third_bound(rtx: str, tmp_path: Path) -> None:
    about = told(DIGITS, *RANGE[:2], "-o", tmp_path / "x.engine")
    assert [shape[0] for shape in about["profiles"][0]["image"]] == [1, 4, 4]


@pytest.mark.parametrize("flag", ["--fp16", "--bf16"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_removed_types_become_the_pass(flag: str, rtx: str, tmp_path: Path) -> None:
    done = run(DIGITS, *RANGE, flag, "-o", tmp_path / "x.engine", "--json")
    assert done.exit_code == 0, done.stderr
    assert f"note: engines are strongly typed, so {flag} converts the model first" in done.stderr
    assert json.loads(done.stdout)["precision"] == flag[2:]
    quiet = run(DIGITS, *RANGE, f"--precision={flag[2:]}", "-o", tmp_path / "x.engine", "--json")
    assert "note:" not in quiet.stderr
    assert json.loads(quiet.stdout)["from_cache"]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_best_is_the_narrowest_type_that_needs_no_samples(rtx: str, tmp_path: Path) -> None:
    done = run(DIGITS, *RANGE, "--best", "-o", tmp_path / "x.engine", "--json")
    assert done.exit_code == 0, done.stderr
    assert (
        "--best converts the model first to fp16 (INT8 needs samples: `zerolane quantize`)"
        in done.stderr
    )
    assert json.loads(done.stdout)["precision"] == "fp16"


@pytest.mark.parametrize("flag", ["--int8", "--fp8", "--int4"])
def test_removed_types_that_are_to_come(flag: str) -> None:
    done = run(DIGITS, *RANGE, flag)
    assert done.exit_code == 2
    assert f"{flag}: engines are strongly typed" in done.stderr
    assert "--precision" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "give one model"),
        ([DIGITS, f"--onnx={DIGITS}"], 2, "give one model"),
        (["nope.onnx"], 2, "there is no file"),
        ([DIGITS], 2, "has no range of shapes"),
        ([DIGITS, "--shapes=image:4x1x8x8", RANGE[0]], 2, "leave out the other three"),
        ([DIGITS, "--shapes=x:4"], 2, "the model has no input 'x'"),
        ([DIGITS, "--shapes=image:4x1x9x8"], 2, "does not fit"),
        ([DIGITS, *RANGE, "--memPoolSize=attic:1"], 2, "is no POOL:SIZE"),
        ([DIGITS, *RANGE, "--fp16", "--bf16"], 2, "give one of them"),
        ([DIGITS, *RANGE, "--cache=x", "--no-cache"], 2, "contradict"),
        ([DIGITS, *RANGE, "--computeCapabilities=1.0"], 2, "compute_capabilities"),
        ([DIGITS, *RANGE, "--saveEngine=nowhere/x.engine"], 2, "there is no folder 'nowhere'"),
        ([DIGITS, *RANGE, "--saveEngine=."], 2, "is a folder"),
        ([DIGITS, *RANGE, f"--saveEngine={DIGITS}"], 2, "is the model"),
        ([DIGITS, *RANGE, "--timingCacheFile=x"], 1, "times nothing"),
        ([DIGITS, *RANGE, "--backend=tensorrt"], 3, "pip install 'zerolane[tensorrt]'"),
    ],
    ids=str,
)
def test_refusals(
    arguments: list[object], code: int, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ZEROLANE_TENSORRT", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert text in done.stderr
    assert list(tmp_path.glob("*.engine")) == []


def test_refused_nodes(rtx: str, tmp_path: Path) -> None:
    (tmp_path / "two.onnx").write_bytes(models.two_refused())
    done = run(tmp_path / "two.onnx", "--json")
    assert done.exit_code == 1
    assert "bad_unique" in done.stderr
    assert json.loads(done.stdout)["error"]["subject"] == "bad_det"


def test_verbose(rtx: str, tmp_path: Path) -> None:
    path = models.light_path("light_squeezenet")
    quiet = run(path, "-o", tmp_path / "x.engine", "--no-cache")
    assert "Parsing node" not in quiet.stderr
    done = run(path, "-o", tmp_path / "x.engine", "--no-cache", "--verbose")
    assert done.exit_code == 0
    assert "tensorrt-rtx: Parsing node: " in done.stderr
    assert "Parsing node" not in done.stdout
