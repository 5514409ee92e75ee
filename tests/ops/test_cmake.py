"""The CMake package: libraries of ops without scikit-build-core, with nvcc and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from shutil import which

import numpy as np
import pytest

import zerolane as zl

SOURCE = """
#include "zerolane/op.h"
namespace zl = zerolane::op;
namespace {
struct Each {
  const float* x;
  float* y;
  ZL_HOST_DEVICE void operator()(int64_t i) const { y[i] = x[i] + EXTRA; }
};
struct Plus {
  static void define(zl::Definition<Plus>& op) {
    op.name(DOMAIN, "Plus").doc("y = x + EXTRA");
    const auto T = op.type<float>("T");
    op.input("x", T);
    op.output("y", T);
    op.cpu();
#if defined(__CUDACC__)
    op.cuda();
#endif
  }
  void shape(zl::Shapes& s) const { s.output(0, s.dims(0)); }
  Each each(const zl::Call& call) const {
    return {call.input<float>(0).data(), call.output<float>(0).data()};
  }
  void cpu(const zl::Call& call) const {
    for (int64_t i = 0; i < call.input<float>(0).size(); ++i) each(call)(i);
  }
#if defined(__CUDACC__)
  int cuda(const zl::Call& call) const {
    return zerolane::for_each_on(call.stream(), call.input<float>(0).size(), each(call));
  }
#endif
};
}  // namespace
ZEROLANE_OPS("plus", "1", Plus)
"""
# Said after zerolane_add_ops, so it must reach nvcc too.
PROJECT = """
cmake_minimum_required(VERSION 3.20)
project(plus LANGUAGES CXX)
find_package(zerolane {version} CONFIG REQUIRED)
zerolane_add_ops(plus ops/plus.cu)
target_compile_definitions(plus PRIVATE EXTRA=3 DOMAIN="{domain}")
target_include_directories(plus PRIVATE "include folder")
"""


def tool(name: str) -> str:
    """A program from a wheel, else from PATH."""
    folders = [str(Path(sys.executable).parent), os.environ["PATH"]]
    try:
        module = __import__(name)
        folders.insert(0, module.CMAKE_BIN_DIR if name == "cmake" else module.BIN_DIR)
    except ImportError:
        pass
    found = which(name, path=os.pathsep.join(folders))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def configure(folder: Path, *options: str, domain: str, version: str = "", **env: str) -> str:
    (folder / "ops").mkdir(parents=True)
    (folder / "include folder").mkdir()
    (folder / "ops" / "plus.cu").write_text(SOURCE)
    (folder / "CMakeLists.txt").write_text(PROJECT.format(domain=domain, version=version))
    asked = [sys.executable, "-m", "zerolane.cmake"]
    where = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    done = subprocess.run(
        [tool("cmake"), "-S", ".", "-B", "build", f"-Dzerolane_DIR={where}", *options],
        cwd=folder,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(done.stdout + done.stderr)
    return done.stdout


def build(folder: Path) -> Path:
    done = subprocess.run(
        [tool("cmake"), "--build", "build"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "libplus.so"


def exported(library: Path) -> list[str]:
    done = subprocess.run(
        ["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True
    )
    return sorted(line.split()[-1] for line in done.stdout.splitlines())


def test_include_folder_has_the_kit() -> None:
    include = Path(zl.get_include())
    assert (include / "zerolane" / "op.h").is_file()
    assert (include / "dlpack" / "dlpack.h").is_file()


@pytest.mark.parametrize("generator", ["Ninja", "Unix Makefiles"])
def test_without_nvcc(generator: str, tmp_path: Path) -> None:
    options = ["-G", generator, "-DZEROLANE_CUDA=OFF"]
    if generator == "Ninja":
        options.append(f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}")
    elif which("make") is None:
        pytest.skip("make is not installed")
    domain = f"plain_{generator.split()[-1].lower()}"
    told = configure(tmp_path / "a folder", *options, domain=domain)
    assert "no code for GPUs (ZEROLANE_CUDA=OFF)" in told
    library = build(tmp_path / "a folder")
    assert exported(library) == ["zerolane_op_library"]
    zl.ops.load(library)
    definition = zl.ops.definition(f"{domain}::Plus")
    assert (definition.cpu, definition.cuda) == (True, False)
    assert zl.ops.call(definition.name, np.float32([1, 2])).tolist() == [4, 5]


def test_with_nvcc(tmp_path: Path) -> None:
    options = (
        "-G",
        "Ninja",
        f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        f"-DPython_EXECUTABLE={sys.executable}",
    )
    told = configure(tmp_path / "gpu", *options, "-DCMAKE_CUDA_ARCHITECTURES=75;90", domain="gpu")
    if "no code for GPUs" in told:
        pytest.skip(told[told.index("no code for GPUs") :].splitlines()[0])
    library = build(tmp_path / "gpu")
    # The CUDA runtime is in there, and nobody else can see it.
    assert exported(library) == ["zerolane_op_library"]
    assert b".nv_fatbin" in library.read_bytes()
    zl.ops.load(library)
    definition = zl.ops.definition("gpu::Plus")
    assert (definition.cpu, definition.cuda) == (True, True)
    assert zl.ops.call("gpu::Plus", np.float32([1, 2])).tolist() == [4, 5]


def test_a_compiler_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"ZEROLANE_CUDA=ON: .*does not\s+run"):
        configure(tmp_path / "on", "-DZEROLANE_CUDA=ON", domain="x", CUDACXX="/bin/false")
    told = configure(tmp_path / "auto", domain="x", CUDACXX="/bin/false")
    assert "no code for GPUs ('/bin/false' does not run" in told


def test_version(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="compatible with requested"):
        configure(tmp_path / "future", "-DZEROLANE_CUDA=OFF", domain="x", version="99")
    configure(tmp_path / "past", "-DZEROLANE_CUDA=OFF", domain="x", version="0.1")
