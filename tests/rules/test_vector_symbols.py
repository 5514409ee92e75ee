"""Vector sources leave no function behind that other code could be linked to.

They are compiled with AVX2 and AVX-512. A copy of an inline function in them would be one of
several that the linker may choose from, for callers on every CPU.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KERNELS = ROOT / "cpp" / "kernels"
COMPILER = shutil.which("g++") or shutil.which("c++")
FLAGS = "-O3 -std=c++20 -fno-exceptions -fno-rtti -mavx2 -mfma -mf16c -mbmi -mbmi2 -DZL_ISA=avx2"


def weak_symbols(source: Path, folder: Path) -> list[str]:
    assert COMPILER is not None
    made = folder / f"{source.stem}.o"
    include = [f"-I{ROOT / 'cpp'}", f"-I{ROOT / 'cpp' / 'include'}", f"-I{ROOT / 'third_party'}"]
    command = [
        COMPILER,
        *FLAGS.split(),
        *include,
        "-fPIC",
        "-w",
        "-c",
        str(source),
        "-o",
        str(made),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = subprocess.run(["nm", "-C", str(made)], capture_output=True, text=True, check=True)
    return re.findall(r"^[0-9a-f]+ [WVu] (.+)$", listed.stdout, re.MULTILINE)


@pytest.mark.skipif(COMPILER is None or shutil.which("nm") is None, reason="no compiler or nm")
@pytest.mark.parametrize(
    "source", sorted(KERNELS.glob("*_vector.cpp")), ids=lambda path: str(path.stem)
)
def test_no_weak_symbols(source: Path, tmp_path: Path) -> None:
    assert weak_symbols(source, tmp_path) == []


@pytest.mark.skipif(COMPILER is None or shutil.which("nm") is None, reason="no compiler or nm")
def test_the_rule_can_fail(tmp_path: Path) -> None:
    source = tmp_path / "bad.cpp"
    source.write_text(
        "#include <algorithm>\nnamespace ZL_ISA { inline int helper(int a) { return a + 1; }\n"
        "int (*address())(int) { return helper; } }\n"
    )
    assert weak_symbols(source, tmp_path) != []
