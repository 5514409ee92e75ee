"""The tables against real libraries: every answer must make sense. No GPU is needed.

TensorRT-RTX: the package tensorrt-rtx-cu13-libs (or -cu12-), or the path in ZEROLANE_TENSORRT_RTX.
Lean runtimes of TensorRT 10 and 11: the package tensorrt-lean-cu13-libs (or -cu12-), or paths in
ZEROLANE_TEST_LEAN, separated by colons.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from tests.abi import models
from tests.abi.compiler import Compiler, run
from tests.abi.tables import numbers


def find_library() -> Path | None:
    named = os.environ.get("ZEROLANE_TENSORRT_RTX")
    if named:
        return Path(named)
    spec = importlib.util.find_spec("tensorrt_rtx_libs")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        path = Path(folder) / "libtensorrt_rtx.so.1"
        if path.exists():
            return path
    return None


@pytest.fixture(scope="module")
def library() -> Path:
    path = find_library()
    if path is None:
        pytest.skip("no TensorRT-RTX (pip install tensorrt-rtx-cu13-libs)")
    return path


@pytest.fixture(scope="module")
def told(
    compiler: Compiler, library: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[str]]:
    """What vendor.cpp printed: key to the values in order."""
    folder = tmp_path_factory.mktemp("vendor")
    model = folder / "perceptron.onnx"
    model.write_bytes(models.perceptron())
    nonsense = folder / "nonsense.onnx"
    nonsense.write_bytes(b"\xff" * 64)
    found: dict[str, list[str]] = {}
    for line in run(compiler.program("vendor.cpp"), library, model, nonsense).splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


def test_identity(told: dict[str, list[str]], library: Path) -> None:
    assert told["title"][0].startswith("TensorRT-RTX 1.")
    assert told["soname"] == ["libtensorrt_rtx.so.1"]
    assert told["family"] == ["2"]
    assert told["can_build"] == told["can_run"] == told["same"] == told["registry"] == ["1"]
    assert int(told["parser.version"][0]) >= 100
    assert told["plugins"] == ["0"]


WANTED = {
    "builder.logger": "1",
    "builder.threads": "2",
    "builder.recorder": "1",
    "builder.registry": "1",
    "network.flags": "1",
    "network.typed": "1",
    "network.inputs": "1",
    "network.outputs": "1",
    "network.builder": "1",
    "network.name": "renamed",
    "input.name": "x",
    "input.shape": "-1,64",
    "input.type": "0",
    "input.is_input": "1",
    "input.is_output": "0",
    "input.is_shape": "0",
    "input.axis": "N",
    "input.formats": "1",
    "output.is_output": "1",
    "output.shape": "-1,10",
    "output.renamed": "other",
    "layer.renamed": "first",
    "layer.outputs": "1",
    "layer.output_type": "0",
    "layer.metadata": "note",
    "layers.multiply": "2",
    "layers.named": "1",
    "profile.set": "1",
    "profile.max": "16,64",
    "profile.valid": "1",
    "profile.target": "0.500000",
    "config.profile": "1",
    "config.profiles": "1",
    "config.workspace": str(64 << 20),
    "config.level": "2",
    "config.verbosity": "2",
    "config.iterations": "3",
    "config.aux_streams": "2",
    "config.tactics": "7",
    "config.tiling": "1",
    "config.hardware": "0",
    "config.capabilities": "1",
    "config.capability.0": "1",
    "config.capabilities.count": "2",
    "config.capability.0.is": "86",
    "config.capability.1.is": "120",
    "config.monitor": "1",
    "cache.set": "1",
    "supported": "1",
    "plan": "1",
    "plan.data": "1",
    "cache.serialized": "1",
    "stream.built": "1",
    "runtime.logger": "1",
    "runtime.host_code": "1",
    "runtime.temporary": "/tmp",
    "cancelled": "1",
    "report.refused": "1",
    "report.first": "4",
    "report.code": "invalid_argument",
    "refuse.errors": "1",
    "refuse.code": "3",
    "refuse.line": "1",
    "refuse.cleared": "0",
    "refuse.relu": "1",
    "refuse.nonsense": "0",
    "log.quiet": "0",
    "log.talkative": "1",
    "log.source": "tensorrt-rtx",
}


def test_answers(told: dict[str, list[str]]) -> None:
    assert {key: told[key][0] for key in WANTED if key in told} == WANTED


def test_flags_are_the_ones_that_were_meant(told: dict[str, list[str]]) -> None:
    """Set, read back one by one and in the mask, and cleared."""
    tried = {key.removeprefix("config.flag.") for key in told if key.startswith("config.flag.")}
    known = {str(row.number) for row in numbers("rtx") if row.enumeration == "BuilderFlag"}
    assert len(tried) == 5
    assert tried <= known
    assert all(told[f"config.flag.{number}"] == ["1"] for number in tried)


def test_builds_to_memory_and_to_a_stream(told: dict[str, list[str]]) -> None:
    size = int(told["plan.size"][0])
    assert size > 1000
    assert told["plan.after"] == [str(size)], "the plan outlives its builder"
    assert int(told["stream.size"][0]) == size
    assert int(told["stream.calls"][0]) >= 1


def test_progress_is_told(told: dict[str, list[str]]) -> None:
    starts, steps, ends = (int(told[f"monitor.{key}"][0]) for key in ("starts", "steps", "ends"))
    assert starts == ends > 0
    assert steps > starts
    assert told["monitor.nameless"] == ["0"]


def test_an_engine_without_a_driver(told: dict[str, list[str]]) -> None:
    assert told["runtime.header"] == ["64"]
    if told["engine"] == ["1"]:
        pytest.skip("this machine has a driver that runs the engine")
    assert int(told["engine.recorded"][0]) >= 1
    error = told["engine.error"][0]
    assert error.startswith("loading the engine: ")
    if "driver version is insufficient" in error:
        assert told["engine.code"] == ["unavailable"]
        assert told["runtime.validity"] == ["2"]
        assert "NVIDIA driver" in error


def test_what_a_refused_model_says(told: dict[str, list[str]]) -> None:
    assert "parse the ONNX model" in told["refuse.desc"][0]


def test_a_plugin_of_our_own(
    compiler: Compiler, library: Path, told: dict[str, list[str]], tmp_path: Path
) -> None:
    """The interface classes in both directions, and the link name that the parser wants."""
    minor = int(told["title"][0].split(" ")[1].split(".")[1])
    if minor < 7:
        pytest.skip("TensorRT-RTX takes custom ops from 1.7 on")
    model = tmp_path / "widen.onnx"
    model.write_bytes(models.one_node("Widen", 1, "zerolane.test", factor=3.0))
    out = run(compiler.program("plugin.cpp"), library, model)
    told_now = dict(line.split("=", 1) for line in out.splitlines())
    wanted = {
        "registered": "1",
        "found": "1",
        "listed": "1",
        "parsed": "1",
        "output.last": "16",
        "plan": "1",
        "deregistered": "1",
        "factor": "3",
    }
    assert {key: told_now.get(key) for key in wanted} == wanted
    asked = ("create", "types", "shapes", "constant", "formats", "configure", "workspace", "fields")
    assert all(int(told_now.get(key, 0)) > 0 for key in asked)
    assert told_now["made"] == told_now["deleted"], "the library deletes what it was given"


def test_an_op_without_plugin_is_an_error(
    compiler: Compiler, library: Path, tmp_path: Path
) -> None:
    model = tmp_path / "other.onnx"
    model.write_bytes(models.one_node("NobodyKnowsThis", 1, "zerolane.test"))
    out = run(compiler.program("plugin.cpp"), library, model)
    assert "parsed=0" in out
    assert "error=" in out


def test_an_op_that_the_library_makes_of_its_own_plugin(
    compiler: Compiler, library: Path, tmp_path: Path
) -> None:
    """NonZero is a plugin inside; without a driver it is refused, and the process goes on."""
    model = tmp_path / "nonzero.onnx"
    model.write_bytes(models.one_node("NonZero", 7))
    out = run(compiler.program("plugin.cpp"), library, model)
    assert "deregistered=1" in out


def lean_libraries() -> list[Path]:
    named = os.environ.get("ZEROLANE_TEST_LEAN", "")
    found = [Path(path) for path in named.split(":") if path]
    spec = importlib.util.find_spec("tensorrt_lean_libs")
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        found += sorted(Path(folder).glob("libnvinfer_lean.so.*"))
    return found


def test_lean_runtimes(compiler: Compiler) -> None:
    """Logger layout of 10 and 11, and a failed factory that returns a small number."""
    libraries = lean_libraries()
    if not libraries:
        pytest.skip("no lean TensorRT (pip install tensorrt-lean-cu13-libs)")
    for path in libraries:
        out = run(compiler.program("open.cpp"), "runtime", path)
        told_now = dict(line.split("=", 1) for line in out.splitlines())
        major = path.name.rpartition(".")[2]
        assert told_now["title"].startswith(f"TensorRT {major}.")
        assert told_now["title"].endswith("(lean)")
        assert (told_now["can_build"], told_now["can_run"]) == ("0", "1")
        if "code" in told_now:  # no driver here; the reason came through the logger
            assert told_now["code"] == "unavailable"
            assert "CUDA initialization failure" in told_now["error"]
