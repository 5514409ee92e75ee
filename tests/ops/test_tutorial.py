"""docs/write-an-op.md as a reader goes through it: in an empty folder, with pip's packages alone.

Of its blocks: console lines are run; a `cpp` block after "Write `FILE`" is that file; two blocks
after "in `FILE` change" are replaced one by the other; a `python` block after "Append to `FILE`" is
put at its end; other `python` blocks are run one after the other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.ops.installed import Environment, wheel

pytest.importorskip("scikit_build_core", reason="packages of ops are built with scikit-build-core")
pytest.importorskip("nanobind", reason="their extras are bound with nanobind")
pytest.importorskip("onnx", reason="models of one node are made with onnx")
pytest.importorskip("onnxruntime", reason="the op is run in ONNX Runtime")

PAGE = Path(__file__).parents[2] / "docs" / "write-an-op.md"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    return Environment(folder / "venv", zerolane=wheel(folder))


def test_tutorial(environment: Environment, tmp_path: Path) -> None:
    page = PAGE.read_text()
    program: list[str] = []
    before, told = "", ""
    ran = written = changed = 0
    end = 0
    for match in FENCE.finditer(page):
        # Between two blocks of one change stands only "to".
        between = page[end : match.start()]
        words, end = between.strip(), match.end()
        kind, body = match.groups()
        if kind == "console":
            for line in body.splitlines():
                told += f"$ {line}\n" + environment.run(line, tmp_path)
                ran += 1
        elif write := re.search(r"Write `([^`]+)`:$", words):
            path = tmp_path / write[1]
            assert not path.exists()
            path.write_text(body)
            written += 1
        elif append := re.search(r"Append to `([^`]+)`:$", words):
            with (tmp_path / append[1]).open("a") as file:
                file.write(body)
            written += 1
        elif change := re.search(r"in `([^`]+)` change$", words):
            before, path = body, tmp_path / change[1]
        elif words == "to":
            text = path.read_text()
            assert text.count(before.strip()) == 1
            path.write_text(text.replace(before.strip(), body.strip()))
            changed += 1
        else:
            assert kind == "python", (
                f"a block of {kind} that nothing is said about: {words[-80:]!r}"
            )
            program.append(body)
            (tmp_path / "page.py").write_text("\n".join(program))
            environment.run("python page.py", tmp_path)
    assert (ran, written, changed) == (11, 2, 2), told
    assert "my::RmsNorm" in told
    assert "FAILED" not in told
    assert re.search(r"\d+ passed", told)
    assert list((tmp_path / "dist").glob("my_ops-0.1.0-*.whl"))


def test_the_generated_tests_pass_with_other_names(
    environment: Environment, tmp_path: Path
) -> None:
    """And the same library file is what ONNX Runtime runs."""
    environment.run("zerolane op new fast_boxes --domain com.example --op NMSFast", tmp_path)
    install = "pip install --no-build-isolation --no-index ./fast_boxes"
    environment.run(f"ZEROLANE_CUDA=OFF {install}", tmp_path)
    told = environment.run("python -m pytest -q fast_boxes/tests", tmp_path)
    assert re.search(r"\d+ passed", told)
    assert "failed" not in told
    code = """
import numpy as np, zerolane as zl, fast_boxes
from zerolane.ops import testing
from zerolane.ops.testing import backends
case = testing.cases("com.example::NMSFast")[0]
(y,) = backends.on_onnxruntime(case)
assert np.allclose(y, zl.ops.call("com.example::NMSFast", *case.inputs), atol=1e-6)
maps = open("/proc/self/maps").read()
assert fast_boxes.library() in maps and maps.count("libonnxruntime") > 0
print([l.path for l in zl.ops.loaded() if l.name == "fast_boxes"] == [fast_boxes.library()])
"""
    (tmp_path / "same.py").write_text(code)
    assert environment.run("python same.py", tmp_path).strip() == "True"
