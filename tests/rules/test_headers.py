"""Every header compiles alone, and needs nothing but cpp/ and third_party/."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CPP = ROOT / "cpp"
HEADERS = sorted(path for path in CPP.rglob("*.h"))
COMPILER = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")


def groups() -> list[tuple[str, list[Path]]]:
    parts = sorted({path.relative_to(CPP).parts[0] for path in HEADERS})
    return [(part, [p for p in HEADERS if p.relative_to(CPP).parts[0] == part]) for part in parts]


def compile_alone(header: Path, flags: list[str]) -> str:
    """The compiler's complaints about a file that includes nothing but `header`, twice.

    Headers of the kit are C++17, the contract is C as well.
    """
    line = f'#include "{header.relative_to(CPP)}"\n'
    assert COMPILER is not None
    standard = "c++17" if header.is_relative_to(CPP / "include") else "c++20"
    command = [COMPILER, f"-std={standard}", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    done = subprocess.run(
        [*command, "-I", str(CPP), "-I", str(CPP / "include"), *flags, "-x", "c++", "-"],
        input=line * 2,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode != 0 else ""


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on PATH")
@pytest.mark.parametrize(
    ("part", "headers"), groups(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_headers_compile_alone(part: str, headers: list[Path]) -> None:
    flags = ["-I", str(ROOT / "third_party")]
    if part == "bindings":
        spec = importlib.util.find_spec("pybind11")
        if spec is None or spec.origin is None:
            pytest.skip("pybind11 is not installed")
        python = sysconfig.get_paths()["include"]
        if not (Path(python) / "Python.h").exists():
            pytest.skip("Python's headers are not installed")
        flags += ["-isystem", str(Path(spec.origin).parent / "include"), "-isystem", python]
        flags.append("-fvisibility=hidden")
    # Those with a source of their own, which includes them first (see test_layering.py), have been
    # compiled alone by the build.
    headers = [h for h in headers if not h.with_suffix(".cpp").exists()]
    complaints = [
        f"{h.relative_to(ROOT)}:\n{text}" for h in headers if (text := compile_alone(h, flags))
    ]
    assert not complaints, "\n".join(complaints)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no C compiler on PATH")
def test_the_contract_is_c() -> None:
    done = subprocess.run(
        [
            *("gcc", "-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pedantic"),
            *("-I", str(CPP / "include"), "-I", str(ROOT / "third_party"), "-x", "c", "-"),
        ],
        input='#include "zerolane/op_abi.h"\nint main(void) { return sizeof(ZlOp) != 168; }\n',
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler on PATH")
def test_the_rule_can_fail() -> None:
    text = compile_alone(CPP / "core" / "no_such_header.h", [])
    assert "No such file" in text or "not found" in text


def test_every_header_is_guarded() -> None:
    open_ones = [h for h in HEADERS if "#pragma once" not in h.read_text()]
    assert [h.name for h in open_ones] == ["op_abi.h"]  # C, with a guard of its own
