"""Ops in engines that a GPU runs: bodies that nvcc compiled, inside of TensorRT's own streams."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.gpu import engines, needs
from tests.ops.build import ROOT, graph, op_node

FLOAT = 1


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    needs.real_gpu()
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("there is no nvcc to compile CUDA bodies with")
    made = tmp_path_factory.mktemp("ops") / "libgpu_plug_ops.so"
    major, minor = engines.capability()
    command = [nvcc, "-std=c++17", "-O1", "-shared", "-Xcompiler", "-fPIC"]
    command += [f"-arch=sm_{major}{minor}", "-o", str(made)]
    command += [f"-I{ROOT / 'cpp' / 'include'}", f"-I{ROOT / 'third_party'}"]
    subprocess.run([*command, str(Path(__file__).with_name("plugin_ops.cu"))], check=True)
    zl.ops.load(made)
    return made


def test_constants_and_scratch_memory(library: Path, backend: str) -> None:
    table = [float(i) for i in range(37)]
    nodes = [
        op_node("Relu", ["x"], ["a"], "relu"),
        op_node("gpu_plug::AddTable", ["a"], ["b"], "first", table=table),
        op_node("gpu_plug::AddTable", ["b"], ["y"], "second", table=table),
    ]
    model = graph(nodes, {"x": (FLOAT, ["N", 37])}, {"y": (FLOAT, ["N", 37])})
    engine = engines.build(model, backend, shapes={"x": ((1, 37), (8, 37), (64, 37))})
    session = engines.load(engine)
    for rows in (64, 1, 13):
        x = np.random.default_rng(rows).standard_normal((rows, 37)).astype(np.float32)
        wanted = np.maximum(x, 0) + 2 * np.float32(table)
        binding = session.bind(x=(rows, 37))
        for _ in range(5):  # captured into a graph on the way
            binding.inputs["x"][...] = x
            np.testing.assert_allclose(binding()["y"], wanted, rtol=1e-6)


def test_a_size_that_the_data_decides(library: Path, backend: str) -> None:
    nodes = [
        op_node("gpu_plug::Positive", ["x"], ["p"], "op"),
        op_node("Neg", ["p"], ["y"], "negate"),
    ]
    outputs: dict[str, Any] = {"y": (FLOAT, None)}
    model = graph(nodes, {"x": (FLOAT, ["N"])}, outputs)
    engine = engines.build(model, backend, shapes={"x": ((1,), (100,), (1000,))})
    session = engines.load(engine)
    for size in (1000, 1, 101):
        x = np.random.default_rng(size).standard_normal(size).astype(np.float32)
        np.testing.assert_array_equal(session(x), -x[x > 0])
    np.testing.assert_array_equal(session(-np.ones(7, np.float32)), np.empty(0, np.float32))
