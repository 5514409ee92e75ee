"""Size, licence line and hygiene of the files that are kept."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = 800
SOURCES = {".py", ".pyi", ".h", ".cpp", ".cu", ".c", ".inc", ".cmake"}
CPP_SOURCES = {".h", ".cpp", ".cu", ".c"}


def kept() -> list[Path]:
    """What git keeps or would keep."""
    try:
        done = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this is no git checkout: {error}")
    names = done.stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def test_no_file_is_too_long() -> None:
    lines = {p: p.read_text().count("\n") for p in kept() if p.suffix in SOURCES}
    generated = {p for p in lines if p.name == "_native.pyi"}
    long = {str(p.relative_to(ROOT)): n for p, n in lines.items() if n > MOST_LINES}
    assert {name: n for name, n in long.items() if ROOT / name not in generated} == {}


def test_cpp_files_name_their_licence() -> None:
    files = [p for p in kept() if p.suffix in CPP_SOURCES]
    assert len(files) > 50
    wanted = "// SPDX-License-Identifier: Apache-2.0"
    assert [str(p.relative_to(ROOT)) for p in files if wanted not in p.read_text()[:400]] == []


def test_text_is_tidy() -> None:
    wrong = []
    for path in kept():
        if path.suffix not in SOURCES | {".md", ".toml", ".txt", ".yml", ".yaml"}:
            continue
        text = path.read_bytes()
        name = path.relative_to(ROOT)
        if b"\r" in text:
            wrong.append(f"{name}: a carriage return")
        if text and not text.endswith(b"\n"):
            wrong.append(f"{name}: no newline at the end")
        if re.search(rb"^(<<<<<<<|>>>>>>>) ", text, re.MULTILINE):
            wrong.append(f"{name}: a conflict marker")
        if path.suffix != ".md" and re.search(rb"[ \t]+$", text, re.MULTILINE):
            wrong.append(f"{name}: space at the end of a line")
    assert wrong == []


def test_nothing_built_and_nothing_big_is_kept() -> None:
    wrong = [
        str(p.relative_to(ROOT))
        for p in kept()
        if p.suffix in (".so", ".o", ".a", ".pyc", ".whl") or p.stat().st_size > 1_000_000
    ]
    assert wrong == []
