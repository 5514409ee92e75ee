"""`zl.ops.testing` finds each fault planted in faults.cpp, and none where there is none."""

from __future__ import annotations

import json
import shutil
import sys
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="models of one node are made with onnx")

from click.testing import CliRunner

import zerolane as zl
from tests.ops.build import compile_ops
from zerolane.cli.main import cli
from zerolane.ops import testing
from zerolane.ops.testing import child, references

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An installed package of the faulty ops, with their reference."""
    site = tmp_path_factory.mktemp("site")
    package, about = site / "faulty", site / "faulty-1.0.dist-info"
    package.mkdir()
    about.mkdir()
    library = compile_ops(HERE / "faults.cpp", package)
    (package / "__init__.py").write_text(f"LIBRARY = {str(library)!r}\n")
    shutil.copy(HERE / "faulty_reference.py", package / "reference.py")
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[zerolane.ops]\nfaulty = faulty:LIBRARY\n")
    sys.path.insert(0, str(site))
    references.reference_of.cache_clear()
    zl.ops.load(library)
    yield library
    child.end()
    sys.path.remove(str(site))


def failures(op: str) -> dict[str, str]:
    """The first problem of each check that fails."""
    report = testing.run(testing.cases(f"faulty::{op}"))
    found: dict[str, str] = {}
    for failure in report.failures:
        found.setdefault(failure.check, f"{failure.case}: {failure.text}")
    assert report.ok == (not found)
    return found


@pytest.mark.parametrize("op", ["Sound", "Positive", "Picks", "Rich"])
def test_no_false_alarm(op: str) -> None:
    report = testing.run(testing.cases(f"faulty::{op}"))
    assert [(str(r.case), r.check, r.text) for r in report.failures] == []
    checked = {r.check for r in report.results if r.status == "ok"}
    assert checked >= {"bounds", "reference", "unwritten", "repeat", "threads", "layouts"}
    assert {r.text for r in report.results if r.check == "cuda"} == {
        "the op has no CUDA body (built without nvcc?)"
    }


@pytest.mark.parametrize(
    ("op", "check", "told"),
    [
        ("WritesBehind", "bounds", "output 'y', element 67: written to, expected elements 0 to 66"),
        ("WritesInFront", "bounds", "output 'y', element -1: written to"),
        ("ReadsBehind", "bounds", "SIGSEGV); it reads or writes behind the last element of input"),
        ("ReadsInFront", "bounds", "it reads or writes in front of element 0 of input 'x'"),
        ("WritesInput", "bounds", "written to: input 'x', element [2]: got 7.0, expected "),
        ("RewritesInput", "bounds", "it writes to input 'x'"),
        ("SkipsTail", "unwritten", "output 'y', element [64]: got what was in the memory before"),
        ("Accumulates", "repeat", "run over other garbage: output 'y', element [0]"),
        ("Remembers", "repeat", "output 'y', element [0]"),
        ("Counts", "repeat", "output 'y', element [0]"),
        ("Races", "threads", "4 threads calling one object: output 'y', element"),
        ("WrongAtNan", "reference", "NaN and infinities: output 'y', element [0]: got -1e+30"),
        ("WrongValue", "reference", "output 'y', element [4]: got "),
        ("Crashes", "bounds", "a run between known bytes: the process ended (SIGSEGV)"),
        ("Throws", "reference", "67 elements were given, expected any other number"),
        ("PositiveTooFar", "bounds", "output 'y': written beyond the ["),
    ],
)
def test_finds(op: str, check: str, told: str) -> None:
    found = failures(op)
    assert check in found, found
    assert told in found[check]
    assert f"faulty::{op} float32[" in found[check]


def test_a_hang_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "_PATIENCE_S", 3.0)
    assert "it did not return within 3 s" in failures("Hangs")["bounds"]


def test_what_goes_astray_is_not_run_in_this_process() -> None:
    (case,) = [c for c in testing.cases("faulty::WritesBehind") if str(c).endswith("[67]")]
    with pytest.raises(AssertionError, match="element 67"):
        testing.check(case, "bounds")
    for name in ("reference", "onnxruntime", "threads"):
        with pytest.raises(unittest.SkipTest, match="bounds failed"):
            testing.check(case, name)


def test_an_op_without_free_inputs_needs_cases(
    faulty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = sys.modules["faulty.reference"]
    monkeypatch.delattr(module, "cases")
    references.reference_of.cache_clear()
    with pytest.raises(zl.Unsupported, match=r"has rank 2, expected 5; .*write cases\(\)"):
        testing.cases("faulty::Picks")
    monkeypatch.undo()
    references.reference_of.cache_clear()


def test_without_a_reference_the_direct_call_is_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(references, "installed", dict)
    references.reference_of.cache_clear()
    report = testing.run(testing.cases("faulty::WrongValue"))
    assert report.ok
    assert {r.status for r in report.results if r.check == "reference"} == {"skipped"}
    references.reference_of.cache_clear()


def test_generated_cases_cover_what_the_table_says() -> None:
    cases = testing.cases("faulty::Rich")
    assert {c.inputs[0].dtype.name for c in cases if c.inputs[0] is not None} == {
        *("float16", "float32", "float64")
    }
    shapes = [c.inputs[0].shape for c in cases if c.inputs[0] is not None]
    sizes = {int(np.prod(shape)) for shape in shapes}
    assert {0, 1, 67, 1031} <= sizes
    assert {len(shape) for shape in shapes} == {1, 2, 3, 4}
    assert {len(c.inputs) for c in cases} == {1, 2}
    assert {c.attributes.get("mode") for c in cases} == {None, "negative"}
    assert {len(c.attributes.get("offsets", [])) for c in cases} == {0, 1, 3}
    assert all("factor" in c.attributes for c in cases)
    assert any("NaN" in str(c) for c in cases)


def test_targets(faulty: Path) -> None:
    by_package = {c.op for c in testing.cases("faulty")}
    assert by_package == {c.op for c in testing.cases(str(faulty))}
    assert {c.op for c in testing.cases("Sound")} == {"faulty::Sound"}
    with pytest.raises(zl.NotFound, match="no installed package with ops, and no op"):
        testing.cases("nothing_of_that_name")


def invoke(*args: str, code: int) -> Any:
    result = CliRunner().invoke(cli, ["op", "test", *args])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def test_the_command() -> None:
    text = invoke("faulty::SkipsTail", code=1).stdout
    assert "FAILED faulty::SkipsTail float32[67]" in text
    assert "unwritten: output 'y', element [64]" in text
    assert "skipped cuda, capture, tensorrt in 16 cases of faulty::SkipsTail: the op has" in text
    invoke("faulty::Sound", code=0)
    invoke("nothing_of_that_name", code=2)


def test_the_command_in_json() -> None:
    told = json.loads(invoke("faulty::WrongValue", "--json", code=1).stdout)
    assert told["ok"] is False
    assert told["ops"]["faulty::WrongValue"]["bounds"].keys() == {"ok"}
    first = told["failures"][0]
    assert first["check"] == "reference"
    assert first["op"] == "faulty::WrongValue"
    assert "element [4]" in first["problem"]
