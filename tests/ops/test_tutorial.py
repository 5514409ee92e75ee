"""docs/write-an-op.md as a reader goes through it: in an empty folder, with pip's packages alone.

Of its blocks: console lines are run; a `cpp` block after "Write `FILE`" is that file; two blocks
after "in `FILE` change" are replaced one by the other; a `python` block after "Append to `FILE`" is
put at its end; other `python` blocks are run one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ops.installed import Environment, wheel

pytest.importorskip("scikit_build_core", reason="packages of ops are built with scikit-build-core")
pytest.importorskip("nanobind", reason="their extras are bound with nanobind")
pytest.importorskip("onnx", reason="models of one node are made with onnx")
pytest.importorskip("onnxruntime", reason="the op is run in ONNX Runtime")

PAGE = Path(__file__).parents[2] / "docs" / "write-an-op.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@dataclass
class Reader:
    """What became of a reader: where he worked, and what he saw."""

    environment: Environment
    folder: Path
    told: str = ""
    commands: int = 0
    files: int = 0
    changes: int = 0


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Someone who has gone through the page."""
    outside = tmp_path_factory.mktemp("environment")
    environment = Environment(outside / "venv", zerolane=wheel(outside))
    reader = Reader(environment, tmp_path_factory.mktemp("reader"))
    page = PAGE.read_text()
    program: list[str] = []
    before, path = "", reader.folder
    end = 0
    for match in FENCE.finditer(page):
        words, end = page[end : match.start()].strip(), match.end()
        kind, body = match.groups()
        if kind == "console":
            for line in body.splitlines():
                reader.told += f"$ {line}\n" + environment.run(line, reader.folder)
                reader.commands += 1
        elif write := re.search(r"Write `([^`]+)`:$", words):
            path = reader.folder / write[1]
            assert not path.exists()
            path.write_text(body)
            reader.files += 1
        elif append := re.search(r"Append to `([^`]+)`:$", words):
            with (reader.folder / append[1]).open("a") as file:
                file.write(body)
            reader.files += 1
        elif change := re.search(r"in `([^`]+)` change$", words):
            before, path = body.strip(), reader.folder / change[1]
        elif words == "to":
            text = path.read_text()
            assert text.count(before) == 1
            path.write_text(text.replace(before, body.strip()))
            reader.changes += 1
        else:
            assert kind == "python", f"nothing is said about a block of {kind}: {words[-80:]!r}"
            program.append(body)
            (reader.folder / "page.py").write_text("\n".join(program))
            reader.told += environment.run("python page.py", reader.folder)
    return reader


def test_every_step_works(reader: Reader) -> None:
    assert (reader.commands, reader.files, reader.changes) == (11, 2, 2)
    assert "my::ScaledGelu" in reader.told
    assert "my::RmsNorm" in reader.told
    assert "FAILED" not in reader.told
    passed = re.search(r"(\d+) passed", reader.told)
    assert passed is not None
    assert int(passed[1]) > 100
    assert list((reader.folder / "dist").glob("my_ops-0.1.0-*.whl"))


def test_one_library_serves_the_direct_call_and_onnxruntime(reader: Reader) -> None:
    code = """
import my_ops, numpy as np, zerolane as zl
from zerolane.ops import testing
from zerolane.ops.testing import backends

case = testing.cases("my::ScaledGelu")[0]
(y,) = backends.on_onnxruntime(case)
assert np.allclose(y, zl.ops.call("my::ScaledGelu", *case.inputs), atol=1e-6)
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
assert [name for name in mapped if "libonnxruntime" in name]
print([name for name in mapped if "libmy_ops" in name] == [my_ops.library()])
"""
    (reader.folder / "same.py").write_text(code)
    assert reader.environment.run("python same.py", reader.folder) == "True\n"
