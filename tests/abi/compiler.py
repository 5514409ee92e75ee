"""Compiles the programs and libraries of these tests, and keeps them while nothing changes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cached_property
from pathlib import Path

import pytest

from tests.abi.tables import ROOT

PROGRAMS = Path(__file__).parent / "programs"
INCLUDE = ["-I", str(ROOT / "cpp"), "-I", str(ROOT / "third_party"), "-I", str(PROGRAMS)]
# The part under test and what it needs of the core.
SOURCES = [
    "core/dynlib.cpp",
    "core/error.cpp",
    "core/log.cpp",
    "trt/library.cpp",
    "trt/link_name.cpp",
    "trt/logger.cpp",
    "trt/table.cpp",
]


def find_compiler() -> str | None:
    return next((path for name in ("g++", "c++", "clang++") if (path := shutil.which(name))), None)


class Compiler:
    def __init__(self, command: str, folder: Path) -> None:
        self.command = command
        self.folder = folder

    @cached_property
    def headers(self) -> bytes:
        """A digest of everything that a source may include."""
        found = [
            *(ROOT / "cpp" / "core").glob("*.h"),
            *(ROOT / "cpp" / "trt").glob("*.h"),
            *(ROOT / "third_party" / "tensorrt").iterdir(),
            *PROGRAMS.glob("*.h"),
        ]
        digest = hashlib.sha256(self.command.encode())
        for path in sorted(found):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.digest()

    def try_compile(
        self, text: str, flags: list[str], name: str, beside: dict[str, str] | None = None
    ) -> tuple[Path | None, str]:
        """The file made from one source, or None and the compiler's complaints.

        `beside`: further files (name to text) in the folder of the source.
        """
        key = hashlib.sha256(self.headers + repr((text, flags, name, beside)).encode())
        folder = self.folder / key.hexdigest()[:24]
        made = folder / name
        if made.exists():
            return made, ""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for other, content in (beside or {}).items():
                (Path(scratch) / other).write_text(content)
            source = Path(scratch) / "source.cpp"
            source.write_text(text)
            out = Path(scratch) / name
            command = [self.command, "-std=c++20", "-Wall", "-Wextra", *INCLUDE, "-I", scratch]
            done = subprocess.run(
                [*command, str(source), "-o", str(out), *flags],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                return None, done.stderr
            os.replace(out, made)  # whole or not at all, whoever else compiles it now
        return made, ""

    def compile(
        self, text: str, flags: list[str], name: str, beside: dict[str, str] | None = None
    ) -> Path:
        made, complaints = self.try_compile(text, flags, name, beside)
        if made is None:
            pytest.fail(complaints[:4000], pytrace=False)
        return made

    @cached_property
    def objects(self) -> list[str]:
        made = []
        for source in SOURCES:
            text = (ROOT / "cpp" / source).read_text()
            name = source.replace("/", "_").replace(".cpp", ".o")
            made.append(str(self.compile(text, ["-c", "-fPIC", "-O1"], name)))
        return made

    def program(self, source: str) -> Path:
        """A program of the folder `programs`, linked with the part under test."""
        text = (PROGRAMS / source).read_text()
        flags = ["-O1", *self.objects, "-ldl", "-pthread"]
        return self.compile(text, flags, source.removesuffix(".cpp"))

    def shared(self, text: str, soname: str, flags: list[str] | None = None) -> Path:
        return self.compile(
            text, ["-shared", "-fPIC", f"-Wl,-soname,{soname}", *(flags or [])], soname
        )


def run(program: Path, *arguments: object, env: dict[str, str] | None = None) -> str:
    """What the program printed. It fails the test where the program failed or was killed."""
    done = subprocess.run(
        [str(program), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=None if env is None else os.environ | env,
    )
    if done.returncode != 0:
        pytest.fail(
            f"{program.name} ended with {done.returncode}:\n{done.stdout[-3000:]}\n"
            f"{done.stderr[-3000:]}",
            pytrace=False,
        )
    return done.stdout
