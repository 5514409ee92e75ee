"""`zerolane op new`: what is written, and which names are refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
from click.testing import CliRunner, Result

import zerolane as zl
from tests.ops.build import compile_ops
from tests.python.messages import assert_three_parts
from zerolane.cli.main import cli
from zerolane.ops import project

Invoke = Callable[..., Result]


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.chdir(tmp_path)

    def call(*args: str, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, ["op", "new", *args])
        assert result.exit_code == code, (result.output, result.exception)
        return result

    return call


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_all_files_are_written(invoke: Invoke, tmp_path: Path) -> None:
    told = invoke("my_ops").stdout
    assert "pip install" in told
    written = files(tmp_path / "my_ops")
    assert set(written) == {
        ".gitignore",
        "CMakeLists.txt",
        "README.md",
        "cpp/extras.cpp",
        "cpp/scaled_gelu.cu",
        "pyproject.toml",
        "src/my_ops/__init__.py",
        "src/my_ops/_extras.pyi",
        "src/my_ops/py.typed",
        "src/my_ops/reference.py",
        "tests/test_extras.py",
        "tests/test_ops.py",
    }
    for name, text in written.items():
        assert "@" not in text.replace("@pytest", ""), name
    assert 'op.name("my", "ScaledGelu")' in written["cpp/scaled_gelu.cu"]


def test_other_names(invoke: Invoke, tmp_path: Path) -> None:
    told = invoke("fast_boxes", "--domain", "com.example", "--op", "NMSFast", "--json").stdout
    assert json.loads(told)["package"] == "fast_boxes"
    written = files(tmp_path / "fast_boxes")
    assert 'op.name("com.example", "NMSFast")' in written["cpp/nms_fast.cu"]
    assert "def nms_fast(" in written["src/fast_boxes/reference.py"]
    assert not any("my_ops" in text or "ScaledGelu" in text for text in written.values())
    for name, text in written.items():
        if name.endswith((".py", ".pyi")):
            compile(text, name, "exec")
    source = tmp_path / "as_plain.cpp"
    source.write_text('#define LIBRARY_VERSION "1"\n#include "fast_boxes/cpp/nms_fast.cu"\n')
    library = zl.ops.load(compile_ops(source, tmp_path))
    assert library.ops == ("com.example::NMSFast",)


def test_the_python_code_is_tidy(invoke: Invoke, tmp_path: Path) -> None:
    ruff = which(
        "ruff", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    )
    if ruff is None:
        pytest.skip("ruff is not installed")
    invoke("my_ops")
    for command in (
        ["check", "--select", "E,F,W,I,UP,B", "--line-length", "100"],
        ["format", "--check"],
    ):
        done = subprocess.run(
            [ruff, *command, "--isolated", "my_ops"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_is_overwritten(invoke: Invoke, tmp_path: Path) -> None:
    invoke("my_ops")
    before = files(tmp_path)
    told = invoke("my_ops", "--op", "Other", code=2).stderr
    assert "cannot be made" in told
    (tmp_path / "a_file").write_text("mine")
    invoke("a_file", code=2)
    (tmp_path / "a_link").symlink_to(tmp_path / "nowhere")
    invoke("a_link", code=2)
    assert not (tmp_path / "nowhere").exists()
    assert files(tmp_path) == before | {"a_file": "mine"}


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "../up", "/tmp/x", "a/b", "a\\b", "My", "my-ops", "my ops", "my.ops"),
        *("1ops", "_ops", "ops_", "my__ops", "ops\n", "ops\0", "o" * 65, "öps", "$(id)", "`id`"),
        *("class", "import", "json", "numpy", "zerolane", "test", "all", "install", "nanobind"),
        *("@PACKAGE@", "a;b", "a'b", 'a"b', "--domain", "-h "),
    ],
)
def test_hostile_packages(name: str, tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        project.new(name, folder=tmp_path / "inner")
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        *("", "zerolane", "zerolane.x", "ai.onnx", "ai.onnx.ml", "com.microsoft", "trt", "a..b"),
        *(".a", "a.", "a b", 'a"', "a::b", "1a", "a\n", "d" * 65, "ä", "@OP@"),
    ],
)
def test_hostile_domains(name: str, tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        project.new("my_ops", domain=name, folder=tmp_path)
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    [
        *("", "gelu", "scaled_gelu", "Scaled_Gelu", "NAN", "EOF", "Each", "Element", "None", "Op"),
        *("Lambda", "A b", 'A"', "A::B", "A<B>", "../A", "A\n", "A" * 65 + "a", "Ärger", "@OP@"),
    ],
)
def test_hostile_ops(name: str, tmp_path: Path) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        project.new("my_ops", op=name, folder=tmp_path)
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("ScaledGelu", "scaled_gelu"),
        ("NMSFast", "nms_fast"),
        ("TopK", "top_k"),
        ("Conv2d", "conv2d"),
        ("Fp8Cast", "fp8_cast"),
        ("CTCGreedyDecode", "ctc_greedy_decode"),
        ("X2y", "x2y"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert project.snake_case(name) == snake
