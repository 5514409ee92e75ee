"""A library that is missing, broken, foreign or too old is refused by name, and nothing crashes."""

from __future__ import annotations

import ctypes.util
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import child

CODE = """
import sys
import zerolane as zl
try:
    zl.load("tests/models/digits_cnn.onnx")
except zl.Unavailable as error:
    assert error.code == "unavailable" and isinstance(error, ImportError)
    print(error)
try:
    zl.load("tests/models/digits_cnn.onnx")
except zl.Unavailable:
    print("again")
"""

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc`")


def told(path: object) -> str:
    out = child.run(CODE, env={"ZEROLANE_ONNXRUNTIME": str(path)})
    assert out.endswith("again\n")
    return out


def fake(folder: Path, version: str, api: str = "0") -> Path:
    """A library whose OrtGetApiBase says `version` and hands `api` out as its table."""
    source = f"""
    static const char* version(void) {{ return {version}; }}
    static const void* api(unsigned number) {{ (void)number; return {api}; }}
    static const struct {{ const void* (*get)(unsigned); const char* (*text)(void); }}
        base = {{api, version}};
    const void* OrtGetApiBase(void) {{ return &base; }}
    """
    path = folder / "libonnxruntime.so.1"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)],
        input=source,
        text=True,
        check=True,
    )
    return path


def test_a_missing_file(tmp_path: Path) -> None:
    out = told(tmp_path / "libonnxruntime.so")
    assert str(tmp_path / "libonnxruntime.so") in out


def test_a_folder(tmp_path: Path) -> None:
    assert str(tmp_path) in told(tmp_path)


def test_no_library(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so").write_text("not a library")
    assert "libonnxruntime.so" in told(tmp_path / "libonnxruntime.so")
    (tmp_path / "empty.so").write_bytes(b"")
    assert "empty.so" in told(tmp_path / "empty.so")


def test_another_library() -> None:
    name = ctypes.util.find_library("c")
    assert name is not None
    out = told(name)
    assert "OrtGetApiBase" in out
    assert "no ONNX Runtime" in out


def test_a_library_that_is_cut_off(tmp_path: Path) -> None:
    from zerolane import Unavailable
    from zerolane.runtimes.onnxruntime import open_library

    try:
        whole = Path(open_library()["path"])
    except Unavailable as error:
        pytest.skip(str(error))
    with whole.open("rb") as file:
        (tmp_path / "cut.so").write_bytes(file.read(100_000))
    assert "cut.so" in told(tmp_path / "cut.so")


@needs_compiler
@pytest.mark.parametrize("version", ["1.18.0", "1.9.1", "0.5", "2.0.0"])
def test_another_version(tmp_path: Path, version: str) -> None:
    out = told(fake(tmp_path, f'"{version}"'))
    assert version in out
    assert "1.19" in out
    assert "libonnxruntime.so.1" in out


@needs_compiler
def test_a_version_that_is_no_version(tmp_path: Path) -> None:
    assert "new" in told(fake(tmp_path, '"new"'))


@needs_compiler
def test_a_null_version(tmp_path: Path) -> None:
    assert "libonnxruntime.so.1" in told(fake(tmp_path, "0"))


@needs_compiler
def test_a_library_without_the_interface(tmp_path: Path) -> None:
    assert "interface 18" in told(fake(tmp_path, '"1.19.0"'))


@needs_compiler
def test_a_null_base(tmp_path: Path) -> None:
    path = tmp_path / "libonnxruntime.so.1"
    subprocess.run(
        ["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(path)],
        input="const void* OrtGetApiBase(void) { return 0; }",
        text=True,
        check=True,
    )
    assert "libonnxruntime.so.1" in told(path)


def test_configure(tmp_path: Path) -> None:
    code = """
    import sys
    import zerolane as zl
    def fails(kind, **choices):
        try:
            zl.configure(**choices)
        except kind as error:
            print(type(error).__name__, error.subject, "|", error)
        else:
            print("accepted", choices)
    fails(zl.Unavailable, onnxruntime="/no/such/file.so")
    fails(zl.InvalidArgument, threads=0)
    fails(zl.InvalidArgument, threads=True)
    fails(zl.InvalidArgument, threads=5000)
    zl.configure(threads=2)
    from zerolane import _native
    session = zl.load("tests/models/digits_cnn.onnx")
    print(_native.onnxruntime_info()["threads"])
    fails(zl.InvalidArgument, threads=3)
    fails(zl.InvalidArgument, spin=True)
    fails(zl.InvalidArgument, onnxruntime="/no/such/file.so")
    """
    lines = child.run(code).splitlines()
    assert [line.split()[0] for line in lines] == [
        "Unavailable",
        *["InvalidArgument"] * 3,
        "2",
        *["InvalidArgument"] * 3,
    ]
    assert all("already in use" in line for line in lines[5:])


def test_an_explicit_choice_stands_alone(tmp_path: Path) -> None:
    """A wrong explicit path is an error; the installed package is not taken instead."""
    code = """
    import zerolane as zl, sys
    zl.configure(onnxruntime=sys.argv[1])
    try:
        zl.load("tests/models/digits_cnn.onnx")
    except zl.Unavailable as error:
        print("refused", sys.argv[1] in str(error))
    """
    path = tmp_path / "mine.so"
    path.write_text("no library")
    assert child.run(code, path) == "refused True\n"


def test_a_provider_library_that_is_none(tmp_path: Path) -> None:
    code = """
    import zerolane as zl, sys
    for path in ("/no/such/provider.so", "libc.so.6"):
        try:
            zl.configure(provider_libraries={"Mine": path})
        except zl.Error as error:
            print(path in str(error) or "Mine" in str(error), isinstance(error, zl.InternalError))
    zl.load("tests/models/digits_cnn.onnx")
    """
    assert child.run(code).splitlines() == ["True False"] * 2
