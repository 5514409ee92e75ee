# SPDX-License-Identifier: Apache-2.0
"""The environment in which the GPU is tested: a scratch venv over this Python's packages."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path

from bench.gpu import machine, stand_ins
from bench.gpu.commands import Outcome, run

SOURCES = ("cpp", "python", "third_party", "CMakeLists.txt", "pyproject.toml")
NEEDED = ("numpy", "pytest", "onnx", "click", "rich", "pybind11", "scikit_build_core")
CUDA_MODULE = "libzerolane_cuda.so"


class Failed(Exception):
    """A step did not succeed; the text says why, and where to read more."""


@dataclass(frozen=True)
class Place:
    """Where things are. `root`: the checkout; `work`: scratch, kept from run to run."""

    root: Path
    work: Path
    out: Path
    wheels: Path | None
    dry_run: bool

    @property
    def venv(self) -> Path:
        return self.work / "venv"

    @property
    def python(self) -> Path:
        return Path(sys.executable) if self.dry_run else self.venv / "bin" / "python"

    def environment(self) -> dict[str, str]:
        """Variables for everything that uses what was installed. Engines are built once."""
        found = {
            "PATH": machine.toolkit_path(),
            "PYTHONUNBUFFERED": "1",
            "ZEROLANE_CACHE": str(self.work / ("cache-stand-in" if self.dry_run else "cache")),
        }
        if self.dry_run:
            return {**found, **stand_ins.variables(self.work)}
        return {**found, "LD_LIBRARY_PATH": library_path()}


def library_path() -> str:
    """Where ONNX Runtime's CUDA provider finds cuDNN and cuBLAS: in the wheels of this Python."""
    tops = [Path(p) / "nvidia" for p in sys.path if p]
    folders = [str(f) for top in tops for f in sorted(top.glob("*/lib")) if f.is_dir()]
    toolkit = machine.TOOLKIT.parent / "lib64"
    given = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    return os.pathsep.join(f for f in (*given, *folders, str(toolkit)) if f)


def do(step: str, place: Place, seconds: float) -> str:
    """Runs a step unless its work is there already. Returns a note; raises Failed."""
    if place.dry_run:
        return stand_ins.build(place.work) if step == "build" else "left out"
    return {"venv": _venv, "wheels": _wheels, "build": _build}[step](place, seconds)


def require(place: Place) -> None:
    """Raises Failed where the environment is not ready."""
    stamp = "stand-ins" if place.dry_run else "build"
    if not _stamp(place, stamp).exists():
        raise Failed("the step build did not succeed, so this cannot run; see its log")


def _venv(place: Place, seconds: float) -> str:
    """This Python's packages stay visible, also where it is a virtual environment itself."""
    if _stamp(place, "venv").exists() and place.python.exists():
        return "there already"
    shutil.rmtree(place.venv, ignore_errors=True)
    for name in ("venv", "wheels", "build"):
        _stamp(place, name).unlink(missing_ok=True)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "venv",
        "--without-pip",
        "--system-site-packages",
        place.venv,
    ]
    _must(run(command, _log(place, "venv"), seconds))
    folders = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    own = sysconfig.get_path("purelib", vars={"base": str(place.venv)})
    Path(own).mkdir(parents=True, exist_ok=True)
    # A comprehension would not see the name: such lines run inside a function.
    line = f"import site; list(map(site.addsitedir, {folders!r}))\n"
    (Path(own) / "packages_of_the_parent.pth").write_text(line)
    if missing := _missing(place, ("pip",), "venv"):
        raise Failed(f"the venv does not see {missing}; it sees {folders}")
    _mark(place, "venv")
    return ""


def _wheels(place: Place, seconds: float) -> str:
    """Installs every wheel and source archive of the folder, one by one; none is no failure."""
    if place.wheels is None:
        return "no folder was given"
    files = sorted(p for p in place.wheels.iterdir() if p.name.endswith((".whl", ".tar.gz")))
    wanted = json.dumps([[p.name, p.stat().st_size] for p in files])
    stamp = _stamp(place, "wheels")
    if stamp.exists() and stamp.read_text() == wanted:
        return "there already"
    log = _log(place, "wheels")
    log.unlink(missing_ok=True)
    end = time.monotonic() + seconds
    bad = []
    for path in files:
        command = [*_pip(place), "--no-build-isolation", "--force-reinstall", path]
        if not run(command, log, end - time.monotonic(), show=False).ok:
            bad.append(path.name)
    wheels_bad = [name for name in bad if name.endswith(".whl")]
    if wheels_bad:
        raise Failed(f"not installed: {', '.join(wheels_bad)}; see {log.name}")
    stamp.write_text(wanted)
    names = ", ".join(p.name for p in files if p.name not in bad) or "the folder holds none"
    return names + (f"; not installed: {', '.join(bad)}" if bad else "")


def _build(place: Place, seconds: float) -> str:
    """Builds and installs zerolane with CUDA; again only where a source is newer."""
    newest = max(p.stat().st_mtime for p in _sources(place.root))
    stamp = _stamp(place, "build")
    if stamp.exists() and stamp.read_text() == str(newest):
        return "there already"
    stamp.unlink(missing_ok=True)
    log = _log(place, "build")
    log.unlink(missing_ok=True)
    if missing := _missing(place, NEEDED, "build"):
        raise Failed(
            f"Python has no {missing}; install it, or put its wheel into the --wheels folder"
        )
    settings = ("cmake.define.ZEROLANE_CUDA=ON", f"build-dir={place.work / 'build'}")
    command = [
        *(*_pip(place), "--no-build-isolation", "--force-reinstall", "-v"),
        *(word for s in settings for word in ("-C", s)),
        place.root,
    ]
    wanted = {**place.environment(), "ZEROLANE_CUDA": "ON"}
    _must(run(command, log, seconds, environment=wanted))
    code = f"import zerolane, os; print(os.path.dirname(zerolane.__file__) + '/{CUDA_MODULE}')"
    _must(run([place.python, "-c", code], log, 60))
    module = Path(log.read_text().strip().splitlines()[-1])
    if not module.exists():
        raise Failed(f"the build made no {CUDA_MODULE}; see {log.name}")
    if place.venv not in module.parents:
        raise Failed(f"zerolane is imported from {module.parent}, not from the venv")
    stamp.write_text(str(newest))
    return ""


def _missing(place: Place, names: tuple[str, ...], step: str) -> str:
    """Those of the modules that the venv does not see, in words; "" for none."""
    code = (
        "import importlib.util; "
        f"print(', '.join(n for n in {names!r} if importlib.util.find_spec(n) is None))"
    )
    log = _log(place, step)
    _must(run([place.python, "-c", code], log, 120))
    last = log.read_text().splitlines()[-1].strip()
    return "" if last.startswith("$") else last


def _pip(place: Place) -> list[str | Path]:
    return [
        *(place.python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install"),
        *("--no-deps", "--no-index", "--no-cache-dir"),
    ]


def _sources(root: Path) -> list[Path]:
    tops = [root / name for name in SOURCES]
    inside = [p for top in tops if top.is_dir() for p in top.rglob("*") if p.is_file()]
    kept = [p for p in inside if p.suffix not in (".pyc", ".so")]
    return [*kept, *(top for top in tops if top.is_file())]


def _stamp(place: Place, step: str) -> Path:
    return place.work / f"{step}.done"


def _mark(place: Place, step: str) -> None:
    place.work.mkdir(parents=True, exist_ok=True)
    _stamp(place, step).write_text("")


def _log(place: Place, step: str) -> Path:
    return place.out / "logs" / f"{step}.log"


def _must(outcome: Outcome) -> None:
    if not outcome.ok:
        lines = outcome.log.read_text(errors="replace").strip().splitlines()
        last = next(
            (x for x in reversed(lines) if "error" in x.lower()), lines[-1] if lines else ""
        )
        raise Failed(f"{outcome}: {last[:200]}; see {outcome.log.name}")
