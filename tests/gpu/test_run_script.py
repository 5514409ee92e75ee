"""bench/gpu/run.sh and its helpers, which need no GPU to be wrong: crashes, hangs, time limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from bench.gpu import commands, machine, test_runs
from bench.gpu.test_runs import Selection

from tests.fakes.tensorrt import libraries

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "bench" / "gpu" / "run.sh"

HOSTILE = """
import ctypes, os, time
import pytest

def test_first(): pass
def test_fails(): assert 1 == 2, "one is not two"
def test_crashes(): ctypes.string_at(0)
def test_exits(): os._exit(7)
def test_skips(): pytest.skip("no reason at all")
def test_last(record_property): record_property("gb_s", 3.5)
"""


def run_hostile(tmp_path: Path, text: str, seconds: float) -> dict[str, test_runs.Test]:
    path = tmp_path / "test_hostile.py"
    path.write_text(text)
    environment = {"PYTHONPATH": str(ROOT)}
    found = test_runs.run(
        Path(sys.executable), [Selection(path)], tmp_path / "out", seconds, environment
    )
    return {t.name.rpartition("::")[2]: t for t in found}


def test_a_crash_is_counted_and_the_others_go_on(tmp_path: Path) -> None:
    tests = run_hostile(tmp_path, HOSTILE, 240)
    assert {name: t.outcome for name, t in tests.items()} == {
        "test_first": "passed",
        "test_fails": "failed",
        "test_crashes": "crashed",
        "test_exits": "crashed",
        "test_skips": "skipped",
        "test_last": "passed",
    }
    assert "SIGSEGV" in tests["test_crashes"].reason
    assert "one is not two" in tests["test_fails"].reason
    assert tests["test_last"].facts == {"gb_s": 3.5}
    assert len(test_runs.failed(list(tests.values()))) == 3
    suite = ElementTree.parse(tmp_path / "out" / "tests.junit.xml").getroot()
    assert suite.attrib["tests"] == "6"
    assert suite.attrib["failures"] == "1"
    assert suite.attrib["errors"] == "2"


def test_a_hang_is_ended_and_named(tmp_path: Path) -> None:
    text = "import time\ndef test_ok(): pass\ndef test_hangs(): time.sleep(600)\n"
    tests = run_hostile(tmp_path, text, 20)
    assert tests["test_ok"].outcome == "passed"
    assert tests["test_hangs"].outcome == "hung"


def test_a_file_that_cannot_be_imported_is_an_error(tmp_path: Path) -> None:
    tests = run_hostile(tmp_path, "import nothing_of_that_name\n", 120)
    assert [t.outcome for t in tests.values()] == ["error"]


def test_children_end_with_their_command(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
    outcome = commands.run([sys.executable, "-c", code], tmp_path / "log", 3, show=False)
    assert outcome.code is None
    assert not outcome.ok
    assert "time limit" in str(outcome)


def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    if machine.gpu_missing() is None:
        pytest.skip("there is a GPU")
    done = subprocess.run(
        [SCRIPT, "--out", tmp_path], env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert "no NVIDIA driver" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_never_writes_results() -> None:
    done = subprocess.run(
        [SCRIPT, "--dry-run", "--out", ROOT / "bench" / "results" / "x"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert not (ROOT / "bench" / "results" / "x").exists()


@pytest.mark.skipif(libraries.missing() is not None, reason="no compiler for the stand-ins")
def test_a_dry_run_goes_all_the_way(tmp_path: Path) -> None:
    steps = ("doctor", "gpu_copy", "gpu_graph", "report")
    done = subprocess.run(
        [SCRIPT, "--dry-run", "--work", tmp_path / "work", "--out", tmp_path / "out",
         *(word for step in steps for word in ("--only", step))],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "out" / "gpu_run.json").read_text())
    assert told["machine"]["stand_in"] is True
    assert {s: told["steps"][s]["state"] for s in steps} == dict.fromkeys(steps, "ok")
    for name in ("gpu_copy", "gpu_graph"):
        result = json.loads((tmp_path / "out" / f"{name}.json").read_text())
        assert result["settings"]["stand_in"] is True
        assert result["title"].startswith("STAND-IN")
        assert result["series"]
    assert "stand-ins" in (tmp_path / "out" / "gpu_report.md").read_text()
