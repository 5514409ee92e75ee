"""`zl.doctor`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zerolane as zl
from zerolane.runtimes import doctor as module
from zerolane.runtimes import onnxruntime
from zerolane.runtimes.cuda import Cuda, Gpu


def test_report_of_this_machine() -> None:
    report = zl.doctor()
    assert report.zerolane == zl.__version__
    assert report.python.endswith(".".join(map(str, sys.version_info[:3])))
    assert 1 <= report.machine.cpus_usable <= report.machine.cpus
    assert report.machine.memory is not None
    assert report.machine.memory_available is not None
    assert 0 < report.machine.memory_available <= report.machine.memory
    rows = dict(report.rows())
    assert rows["TensorRT"]
    assert rows["TensorRT-RTX"]
    assert report.packages["numpy"]
    engines = [a for a in (*report.tensorrt, *report.tensorrt_rtx) if a.run == "yes"]
    assert report.ok == (report.onnxruntime.found or bool(engines))
    assert json.loads(json.dumps(report.as_dict()))["ok"] is report.ok
    assert report.zerolane in str(report)


def test_library_in_use() -> None:
    report = zl.doctor()
    if not report.onnxruntime.found:
        pytest.skip("no ONNX Runtime here")
    library = report.onnxruntime
    assert library.path is not None
    assert Path(library.path).exists()
    assert library.version is not None
    assert library.version.startswith("1.")
    assert "CPUExecutionProvider" in library.providers
    assert [t.outcome for t in library.tried].count("in use") <= 1


def run_doctor(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


def test_a_wrong_path_is_a_finding_and_no_exception() -> None:
    done = run_doctor(
        "import zerolane as zl, json; print(json.dumps(zl.doctor().as_dict()))",
        ZEROLANE_ONNXRUNTIME="/nowhere/libonnxruntime.so",
    )
    report = json.loads(done.stdout)
    assert not report["ok"]
    assert not report["onnxruntime"]["found"]
    (tried,) = report["onnxruntime"]["tried"]
    assert tried["path"] == "/nowhere/libonnxruntime.so"
    assert tried["source"] == "ZEROLANE_ONNXRUNTIME"
    assert "/nowhere/libonnxruntime.so" in tried["outcome"]
    (finding,) = (f for f in report["findings"] if f["level"] == "error")
    assert "ZEROLANE_ONNXRUNTIME" in finding["do"]


def test_a_library_that_is_no_onnxruntime(tmp_path: Path) -> None:
    (tmp_path / "libonnxruntime.so").write_text("no library")
    done = run_doctor(
        "import zerolane as zl; print(zl.doctor())",
        ZEROLANE_ONNXRUNTIME=str(tmp_path / "libonnxruntime.so"),
    )
    assert "not ok" in done.stdout
    assert str(tmp_path / "libonnxruntime.so") in done.stdout


def test_imports_nothing_heavy() -> None:
    heavy = "numpy torch jax onnx onnxruntime matplotlib ml_dtypes rich click"
    done = run_doctor(
        "import sys, zerolane as zl; zl.doctor(); "
        f"print([m for m in '{heavy}'.split() if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]"


MACHINE = module.Machine("Debian", "glibc 2.36", "a CPU", 4, 4, None, 2**34, 2**33)
LIBRARY = module.OnnxRuntime(
    True, "/x/libonnxruntime.so", "1.31.1", "Python package", ("CPUExecutionProvider",), 4, ()
)
CUDA = module.OnnxRuntime(
    True, "/x/l.so", "1.31.1", "Python package", ("CUDAExecutionProvider",), 4, ()
)
MISSING = module.OnnxRuntime(
    False, None, None, None, (), None, (module.Tried("libonnxruntime.so.1", "system loader", "?"),)
)
NO_GPU = module.Nvidia(None, "cannot open")
GPU = module.Nvidia("580.1", "opens")
PACKAGES = {"numpy": "2.0", "onnxruntime": "1.31.1"}


@pytest.mark.parametrize(
    ("machine", "library", "nvidia", "packages", "level", "words"),
    [
        (MACHINE, MISSING, NO_GPU, PACKAGES, "error", "zerolane[cpu]"),
        (MACHINE, LIBRARY, GPU, PACKAGES, "note", "zerolane[gpu]"),
        (MACHINE, CUDA, NO_GPU, PACKAGES, "note", "no NVIDIA driver"),
        (
            MACHINE,
            LIBRARY,
            NO_GPU,
            PACKAGES | {"onnxruntime-gpu": "1.31.1"},
            "warning",
            "overwrite each other",
        ),
        (MACHINE, LIBRARY, NO_GPU, PACKAGES | {"onnxruntime": "1.30.0"}, "note", "1.30.0"),
        (
            module.Machine("d", "glibc 2.36", "c", 4, 2, "powersave", 1, 1),
            LIBRARY,
            NO_GPU,
            PACKAGES,
            "warning",
            "powersave",
        ),
        (
            module.Machine("d", "glibc 2.36", "c", 4, 2, None, 1, 1),
            LIBRARY,
            NO_GPU,
            PACKAGES,
            "note",
            "2 of 4",
        ),
        (
            module.Machine("d", "unknown C library", "c", 4, 4, None, 1, 1),
            LIBRARY,
            NO_GPU,
            PACKAGES,
            "warning",
            "glibc",
        ),
    ],
)
def test_findings(
    machine: module.Machine,
    library: module.OnnxRuntime,
    nvidia: module.Nvidia,
    packages: dict[str, str | None],
    level: str,
    words: str,
) -> None:
    findings = list(module._findings(machine, library, nvidia, packages))
    assert [f for f in findings if f.level == level and words in f"{f.what}; {f.do}"]
    assert all(f.what and f.do for f in findings)


def test_nothing_to_say_where_all_is_well() -> None:
    assert list(module._findings(MACHINE, LIBRARY, NO_GPU, PACKAGES)) == []


def test_a_machine_for_engines_alone() -> None:
    (finding,) = module._findings(MACHINE, MISSING, GPU, PACKAGES, engines=True)
    assert (finding.level, finding.what.endswith("only engines can be run")) == ("note", True)
    named = module.Tried("/x/libonnxruntime.so", onnxruntime.ENVIRONMENT_VARIABLE, "?")
    wrong = module.OnnxRuntime(False, None, None, None, (), None, (named,))
    (finding,) = module._findings(MACHINE, wrong, GPU, PACKAGES, engines=True)
    assert finding.level == "error", "what the user named is not there"


CARD = Gpu(0, "A GPU", (12, 0), 32 << 30, "0000:01:00.0", 170, 2400, 14001, 1)
LIBRARY_OF_CUDA = "/x/libzerolane_cuda.so"


@pytest.mark.parametrize(
    ("nvidia", "cuda", "no_gpu", "no_run"),
    [
        (GPU, Cuda(LIBRARY_OF_CUDA, "13.1", "13.0", (CARD,), None), None, None),
        (
            NO_GPU,
            Cuda(LIBRARY_OF_CUDA, None, None, (), "?"),
            "no NVIDIA driver",
            "no NVIDIA driver",
        ),
        # In a container without the driver's libraries.
        (module.Nvidia("580.1", "cannot open"), Cuda(None, None, None, (), None), "open", "open"),
        (GPU, Cuda(LIBRARY_OF_CUDA, "13.1", "13.0", (), "none"), "no GPU", "no GPU"),
        (GPU, Cuda(None, None, None, (), None), None, "no CUDA module"),
    ],
)
def test_what_keeps_engines_from_running(
    nvidia: module.Nvidia, cuda: Cuda, no_gpu: str | None, no_run: str | None
) -> None:
    for told, wanted in zip(module._obstacles(nvidia, cuda), (no_gpu, no_run), strict=True):
        assert told is None if wanted is None else wanted in str(told)
