"""`--ops`: libraries of ops that the command line loads for a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import child
from tests.ops.build import one_node, ops_library

pytest.importorskip("onnx")


def zerolane(*args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "zerolane", *map(str, args)],
        cwd=child.ROOT,
        capture_output=True,
        text=True,
        timeout=child.PATIENCE_S,
        check=False,
    )


def test_a_model_with_ops_of_a_library(tmp_path: Path) -> None:
    model = tmp_path / "scale.onnx"
    model.write_bytes(one_node("test::Scale", {"x": ("float32", ["n"])}, ["y"], factor=3.0))
    np.save(tmp_path / "x.npy", np.float32([1, 2]))
    run = "run", model, "--input", f"x={tmp_path / 'x.npy'}", "--json"
    done = zerolane(*run, "--ops", ops_library())
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["outputs"]["y"]["first"] == [3, 6]
    without = zerolane(*run)
    assert without.returncode == 2
    assert "Scale" in without.stderr


def test_a_library_that_is_not_there() -> None:
    done = zerolane("build", "model.onnx", "--ops", "libnone.so")
    assert done.returncode == 3
    assert "loading op library libnone.so" in done.stderr
