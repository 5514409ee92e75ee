"""The CUDA module as Python sees it: facts, memory, and plain words where something is missing.

Everything runs in processes of its own, since a process opens one CUDA module for good.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.tensorrt import libraries
from tests.python.messages import assert_three_parts
from zerolane.runtimes import cuda
from zerolane.runtimes.cuda import Cuda, Gpu

HEAD = """
import json, sys
import zerolane as zl
from zerolane import _native
def told(call):
    try:
        return call()
    except zl.Error as error:
        return {"error": type(error).__name__, "code": error.code, "text": str(error),
                "subject": error.subject}
"""


def run(code: str, library: Path | str | None, fake: str = "") -> Any:
    """The JSON that `code` leaves in `out`, in a process with that module as its CUDA."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("ZEROLANE_")}
    if library is not None:
        environment[cuda.ENVIRONMENT_VARIABLE] = str(library)
    environment["ZEROLANE_FAKE_CUDA"] = fake
    done = subprocess.run(
        [sys.executable, "-c", f"{HEAD}{code}\nprint(json.dumps(out, default=repr))"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def stand_in() -> Path:
    return Path(libraries.cuda_library())


def test_facts_of_the_devices(stand_in: Path) -> None:
    info = run("out = _native.cuda_info()", stand_in, "devices=2,memory=1048576")
    assert info["path"] == str(stand_in)
    assert info["problem"] is None
    assert [d["index"] for d in info["devices"]] == [0, 1]
    assert [d["name"] for d in info["devices"]] == ["stand-in 0", "stand-in 1"]
    assert info["devices"][0]["compute_capability"] == [9, 0]
    assert info["devices"][0]["memory_bytes"] == 1 << 20
    assert info["devices"][0]["pci"] != info["devices"][1]["pci"]


def test_memory_of_a_device(stand_in: Path) -> None:
    found = run("out = _native.cuda_memory(0)", stand_in, "memory=1048576")
    assert found["total_bytes"] == 1 << 20
    assert 0 < found["free_bytes"] <= 1 << 20
    assert found["device"]["bytes_in_use"] == 0
    assert found["pinned"]["buffers"] == 0


def test_a_device_that_is_not_there(stand_in: Path) -> None:
    error = run("out = told(lambda: _native.cuda_memory(3))", stand_in, "devices=2")
    assert (error["error"], error["subject"]) == ("Unavailable", "cuda:3")
    assert "use cuda:0 to cuda:1" in error["text"]
    assert_three_parts(error["text"])


def test_no_driver_is_said_plainly(stand_in: Path) -> None:
    code = "out = [_native.cuda_info(), told(lambda: _native.cuda_memory(0))]"
    info, error = run(code, stand_in, "driver=0")
    assert info["driver_version"] == 0
    assert info["devices"] == []
    assert "there is no NVIDIA driver on this machine" in info["problem"]
    assert error["error"] == "Unavailable"
    assert "there is no NVIDIA driver on this machine" in error["text"]
    assert_three_parts(error["text"])


def test_no_device_is_no_error_until_one_is_asked_for(stand_in: Path) -> None:
    code = "out = [_native.cuda_info(), told(lambda: _native.cuda_memory(0))]"
    info, error = run(code, stand_in, "devices=0")
    assert info["devices"] == []
    assert info["problem"] is None
    assert error["code"] == "unavailable"


def test_a_library_that_is_no_cuda_module(tmp_path: Path) -> None:
    for library in (tmp_path / "missing.so", "libm.so.6"):
        error = run("out = told(_native.cuda_info)", library)
        assert error["error"] == "Unavailable"
        assert_three_parts(error["text"])
    assert cuda.ENVIRONMENT_VARIABLE in error["text"]
    assert "zerolane_cuda_table" in error["text"]


def test_the_module_of_this_build_or_that_it_has_none() -> None:
    """On any machine: an answer, or an error that says what to do."""
    path, info = run("out = [_native.cuda_library_path(), told(_native.cuda_info)]", None)
    assert Path(path).name == "libzerolane_cuda.so"
    if Path(path).exists():
        assert info["library"] == "CUDA runtime, linked statically"
        assert info["runtime_version"] // 1000 == 13
        assert bool(info["devices"]) == (info["problem"] is None) or info["driver_version"]
    else:
        assert info["error"] == "Unavailable"
        assert "ZEROLANE_CUDA=ON" in info["text"]
        assert_three_parts(info["text"])


def test_a_forked_child_is_refused(stand_in: Path) -> None:
    code = """
import os
_native.cuda_info()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, json.dumps(told(lambda: _native.cuda_memory(0))).encode())
    os._exit(0)
os.wait()
out = json.loads(os.read(reader, 10000))
"""
    error = run(code, stand_in)
    assert error["error"] == "Unavailable"
    assert "forked" in error["text"]


def test_out_of_memory(stand_in: Path) -> None:
    error = run("out = told(lambda: _native.cuda_memory(0))", stand_in, "fail=pool_create:2:0:1")
    assert (error["error"], error["code"]) == ("OutOfMemory", "out_of_memory")
    assert "free on the device" in error["text"]


def test_doctor_shows_the_gpus(stand_in: Path) -> None:
    code = "report = zl.doctor(); out = [report.as_dict()['cuda'], report.rows()]"
    report, rows = run(code, stand_in, "devices=2")
    assert [gpu["name"] for gpu in report["gpus"]] == ["stand-in 0", "stand-in 1"]
    assert report["driver"] == report["runtime"] == "13.0"
    subjects = {subject.strip(): text for subject, text in rows}
    assert "compute capability 9.0, 1.0 GiB" in subjects["cuda:1"]


def test_doctor_without_a_driver_opens_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> dict[str, Any]:
        raise AssertionError("CUDA was opened")

    monkeypatch.delenv(cuda.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(cuda._native, "cuda_info", never)
    monkeypatch.setattr(cuda._native, "cuda_library_path", lambda: __file__)
    assert cuda.look(None).problem == "there is no NVIDIA driver"
    monkeypatch.setattr(cuda._native, "cuda_library_path", lambda: "/nonexistent/module.so")
    assert cuda.look("580.1") == Cuda(None, None, None, (), None)
    assert cuda.look("580.1").rows() == [("CUDA module", "not in this build of zerolane")]


def test_rows_name_each_gpu() -> None:
    gpu = Gpu(0, "A GPU", (12, 0), 32 << 30, "0000:01:00.0", 170, 2400, 14001, 1)
    rows = Cuda("/x/libzerolane_cuda.so", "13.1", "13.0", (gpu,), None).rows()
    assert rows[0] == ("CUDA module", "/x/libzerolane_cuda.so, CUDA 13.0, driver for 13.1")
    assert rows[1][0].strip() == "cuda:0"
    assert rows[1][1].startswith("A GPU, compute capability 12.0, 32.0 GiB")
