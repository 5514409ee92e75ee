"""The Python code of README.md and docs/*.md runs as it stands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Its code wants a package that the page builds; tests/ops/test_tutorial.py goes through it.
TUTORIALS = {"write-an-op.md"}
# Packages that a page's code wants and that nothing else does.
NEEDS = {"convert.md": ("torch", "onnxscript", "sklearn", "skl2onnx")}
FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line and text of the Python blocks."""
    text = page.read_text()
    return [(text[: m.start()].count("\n") + 2, m.group(1)) for m in FENCE.finditer(text)]


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in TUTORIALS], ids=lambda page: page.name
)
def test_code_runs(page: Path, tmp_path: Path) -> None:
    """The blocks of a page in order, in one namespace, beside the trained test models."""
    if not page.exists():
        pytest.skip(f"{page.name} does not exist")
    for package in NEEDS.get(page.name, ()):
        pytest.importorskip(package)
    found = blocks(page)
    if not found:
        assert page.name != "README.md", "README.md shows no Python"
        return
    for model in (ROOT / "tests" / "models").glob("*"):
        if model.suffix in (".onnx", ".npz"):
            shutil.copy(model, tmp_path)
    # Blank lines before each block keep the page's line numbers in tracebacks.
    program = tmp_path / f"{page.stem}_code.py"
    lines: list[str] = []
    for start, code in found:
        lines += [""] * (start - 1 - len(lines)) + code.splitlines()
    program.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, program.name],
        cwd=tmp_path,
        env={**os.environ, "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{page.name}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_links_lead_somewhere() -> None:
    wrong = []
    for page in PAGES:
        if not page.exists():
            continue
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                wrong.append(f"{page.name}: {target}")
    assert wrong == []
