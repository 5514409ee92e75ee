"""`zl.doctor`: what zerolane finds on this machine, and what to do about what it does not."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from zerolane import __version__, _native
from zerolane.errors import Error
from zerolane.runtimes import cuda, cuda_libraries, onnxruntime, tensorrt
from zerolane.runtimes.cuda import Cuda
from zerolane.runtimes.onnxruntime import Candidate
from zerolane.runtimes.tensorrt import Abilities

_PACKAGES = (
    "numpy",
    "ml_dtypes",
    "torch",
    "jax",
    "cupy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "matplotlib",
    "click",
    "rich",
)
_RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_GOVERNOR_FILE = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, slots=True)
class Machine:
    """Where this process runs. Memory in bytes; None: not known.

    cpus_usable: what the affinity mask and the cgroup quota leave to this process.
    """

    os: str
    libc: str
    cpu: str
    cpus: int
    cpus_usable: int
    governor: str | None
    memory: int | None
    memory_available: int | None


@dataclass(frozen=True, slots=True)
class Tried:
    """A library that was looked at, and what came of it: "in use", "not tried: ...", an error."""

    path: str
    source: str
    outcome: str


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """The ONNX Runtime library of this process, or why there is none."""

    found: bool
    path: str | None
    version: str | None
    source: str | None
    providers: tuple[str, ...]
    threads: int | None
    tried: tuple[Tried, ...]


@dataclass(frozen=True, slots=True)
class Nvidia:
    """driver: its version, None without one. libcuda: whether libcuda.so.1 opens, or why not."""

    driver: str | None
    libcuda: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know: an "error" stops every model, a "warning" costs, a "note" tells."""

    level: Literal["error", "warning", "note"]
    what: str
    do: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `zl.doctor` found. `ok` unless a finding is an error."""

    zerolane: str
    python: str
    executable: str
    machine: Machine
    onnxruntime: OnnxRuntime
    tensorrt: tuple[Abilities, ...]
    tensorrt_rtx: tuple[Abilities, ...]
    nvidia: Nvidia
    cuda: Cuda
    cuda_libraries: tuple[cuda_libraries.Library, ...]
    packages: Mapping[str, str | None]
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether models can be loaded and run here."""
        return all(finding.level != "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        values: dict[str, Any] = {"ok": self.ok}
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, tuple):
                value = [asdict(item) for item in value]
            elif not isinstance(value, str):
                value = asdict(value)
            values[name] = value
        return values

    def rows(self) -> list[tuple[str, str]]:
        """Subject and text of each line, without the findings."""
        m, ort = self.machine, self.onnxruntime
        rows = [
            ("zerolane", self.zerolane),
            ("Python", f"{self.python}, {self.executable}"),
            ("system", f"{m.os}, {m.libc}"),
            ("CPU", f"{m.cpu}, {m.cpus_usable} of {m.cpus} usable"),
            ("memory", f"{_gib(m.memory_available)} of {_gib(m.memory)} available"),
        ]
        if ort.found:
            rows.append(("ONNX Runtime", f"{ort.version} from {ort.path} ({ort.source})"))
            rows.append(("  providers", ", ".join(ort.providers)))
            rows.append(("  threads", f"{ort.threads} shared by all sessions"))
        else:
            rows.append(("ONNX Runtime", "no usable library"))
        if self.cuda_libraries:
            rows.append(("  linked to", "; ".join(map(str, self.cuda_libraries))))
        rows += [
            ("  tried", f"{t.path} ({t.source}): {t.outcome}")
            for t in ort.tried
            if t.outcome != "in use"
        ]
        for backend, found in (("tensorrt", self.tensorrt), ("tensorrt-rtx", self.tensorrt_rtx)):
            told = [str(library) for library in found]
            told = told or [f"no library; pip install 'zerolane[{backend}]' brings one"]
            rows += [(tensorrt.NAMES[backend], text) for text in told]
        rows.append(
            ("NVIDIA driver", self.nvidia.driver or f"none (libcuda.so.1: {self.nvidia.libcuda})")
        )
        rows += self.cuda.rows()
        rows.append(("packages", ", ".join(f"{n} {v}" for n, v in self.packages.items() if v)))
        rows.append(("not installed", ", ".join(n for n, v in self.packages.items() if not v)))
        return rows

    def __str__(self) -> str:
        lines = [f"{subject:<15}{text}" for subject, text in self.rows()]
        lines += [f"{f.level}: {f.what}; {f.do}" for f in self.findings]
        lines.append("ok" if self.ok else "not ok: no model can be run here")
        return "\n".join(lines)


def doctor() -> Report:
    """Look at this machine and process, and say what is there, what is missing and what to do.

    Opens ONNX Runtime as `zl.load` would (so `zl.configure` comes before), imports no other
    package, and raises nothing for what is missing.
    """
    machine, nvidia = _machine(), _nvidia()
    gpus = cuda.look(nvidia.driver)
    runtime = _onnxruntime()
    libraries = cuda_libraries.look(runtime.path) if runtime.path is not None else ()
    packages = {name: _version(name) for name in _PACKAGES}
    no_gpu, no_run = _obstacles(nvidia, gpus)
    full, rtx = (
        tuple(tensorrt.abilities(name, no_gpu=no_gpu, no_run=no_run, ask=_native.library_version))
        for name in tensorrt.NAMES
    )
    return Report(
        zerolane=__version__,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        executable=sys.executable,
        machine=machine,
        onnxruntime=runtime,
        tensorrt=full,
        tensorrt_rtx=rtx,
        nvidia=nvidia,
        cuda=gpus,
        cuda_libraries=libraries,
        packages=MappingProxyType(packages),
        findings=(
            *_findings(
                machine, runtime, nvidia, packages, engines=any(a.run == "yes" for a in full + rtx)
            ),
            *_cuda_findings(nvidia, gpus),
            *_library_findings(nvidia, libraries),
            *_clashes(),
        ),
    )


def _machine() -> Machine:
    memory = _fields(Path("/proc/meminfo"))
    limit = _cgroup_memory()
    total, available = _kib(memory.get("MemTotal")), _kib(memory.get("MemAvailable"))
    if limit is not None and total is not None and limit < total:
        total = limit
        available = None if available is None else min(available, limit)
    release = _os_release()
    return Machine(
        os=f"{release}, Linux {platform.release()} {platform.machine()}"
        if sys.platform == "linux"
        else platform.platform(),
        libc=" ".join(platform.libc_ver()).strip() or "unknown C library",
        cpu=_fields(Path("/proc/cpuinfo")).get("model name") or platform.processor() or "unknown",
        cpus=os.cpu_count() or 1,
        cpus_usable=_native.usable_cpus(),
        governor=_read(_GOVERNOR_FILE) or None,
        memory=total,
        memory_available=available,
    )


def _onnxruntime() -> OnnxRuntime:
    info = _native.onnxruntime_info()
    candidates = onnxruntime.candidates()
    settings = onnxruntime._settings
    failures: dict[str, str] = {}
    if info is None:
        for candidate in candidates:
            try:
                with onnxruntime._lock:
                    _native.open_onnxruntime(candidate.path, settings.threads or 0, settings.spin)
            except Error as error:
                failures[candidate.path] = str(error)
                continue
            info = _native.onnxruntime_info()
            break
    source = None
    tried = []
    for candidate in candidates:
        if info is not None and source is None and _is_same(candidate, info["path"]):
            source, outcome = candidate.source, "in use"
        elif candidate.path in failures:
            outcome = failures[candidate.path]
        else:
            outcome = "not tried: another one is in use"
        tried.append(Tried(candidate.path, candidate.source, outcome))
    if info is None:
        return OnnxRuntime(False, None, None, None, (), None, tuple(tried))
    return OnnxRuntime(
        True,
        info["path"],
        info["version"],
        source or "opened earlier by this process",
        tuple(info["providers"]),
        info["threads"],
        tuple(tried),
    )


def _is_same(candidate: Candidate, path: str) -> bool:
    return os.path.realpath(candidate.path) == os.path.realpath(path) or (
        os.sep not in candidate.path and os.path.basename(path).startswith(candidate.path)
    )


def _nvidia() -> Nvidia:
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d[\d.]*)", _read(_DRIVER_FILE))
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        libcuda = str(error)
    else:
        libcuda = "opens"
    driver = match[1] if match else None
    if driver is None and libcuda == "opens":
        driver = "of unknown version"
    return Nvidia(driver, libcuda)


def _obstacles(nvidia: Nvidia, gpus: Cuda) -> tuple[str | None, str | None]:
    """Why no GPU can be used, and why no engine can be run; None: nothing speaks against it."""
    if gpus.gpus:
        return None, None
    if nvidia.libcuda != "opens":
        # The kernel's module shows in containers too, which may lack the driver's library.
        found = "there is no NVIDIA driver"
        no_gpu = found if nvidia.driver is None else "the driver's libcuda.so.1 does not open"
        return no_gpu, no_gpu
    if gpus.module is None:
        return None, "this build of zerolane has no CUDA module"
    return "there is no GPU that can be used", "there is no GPU that can be used"


def _findings(
    machine: Machine,
    runtime: OnnxRuntime,
    nvidia: Nvidia,
    packages: Mapping[str, str | None],
    *,
    engines: bool = False,
) -> Iterator[Finding]:
    """engines: whether those of TensorRT can be run here, so that ONNX Runtime may be missing."""
    if not runtime.found:
        explicit = next((t.source for t in runtime.tried if t.source != "system loader"), None)
        chosen = explicit in ("zl.configure", onnxruntime.ENVIRONMENT_VARIABLE)
        yield Finding(
            "note" if engines and not chosen else "error",
            f"no ONNX Runtime >= {'.'.join(map(str, onnxruntime.OLDEST))} could be opened"
            + (", so only engines can be run" if engines else ""),
            f"correct the path given by {explicit}"
            if chosen
            else "pip install 'zerolane[cpu]' (or 'zerolane[gpu]'), or set "
            f"{onnxruntime.ENVIRONMENT_VARIABLE} to the path of libonnxruntime.so",
        )
    if packages["numpy"] is None and importlib.util.find_spec("numpy") is None:
        yield Finding("error", "NumPy is not installed", "pip install numpy")
    installed = [name for name in _RUNTIME_PACKAGES if packages.get(name)]
    if len(installed) > 1:
        yield Finding(
            "warning",
            f"{' and '.join(installed)} are both installed and overwrite each other's files",
            "pip uninstall all of them, then install the one that is wanted",
        )
    if len(installed) == 1 and runtime.found and runtime.version != packages[installed[0]]:
        yield Finding(
            "note",
            f"the library in use is {runtime.version}, the package {installed[0]} is "
            f"{packages[installed[0]]}",
            "nothing, if that is meant",
        )
    has_cuda = "CUDAExecutionProvider" in runtime.providers
    if nvidia.driver and runtime.found and not has_cuda:
        yield Finding(
            "note",
            "there is an NVIDIA driver, and this ONNX Runtime is built without CUDA",
            "pip install 'zerolane[gpu]' instead of [cpu] to use the GPU",
        )
    if has_cuda and not nvidia.driver:
        yield Finding(
            "note",
            f"this ONNX Runtime has CUDA, and there is no NVIDIA driver ({nvidia.libcuda})",
            "nothing for the CPU; install the driver to use a GPU",
        )
    if machine.cpus_usable < machine.cpus:
        yield Finding(
            "note",
            f"{machine.cpus_usable} of {machine.cpus} CPUs may be used (affinity mask or cgroup "
            "quota), and thread pools are sized for that",
            "nothing, if that is meant",
        )
    if machine.governor == "powersave":
        yield Finding(
            "warning",
            "the CPU frequency governor is 'powersave', so short calls may run at a low clock",
            "set it to 'performance' for steady latency (cpupower frequency-set -g performance)",
        )
    if not machine.libc.startswith("glibc"):
        yield Finding(
            "warning",
            f"the C library is {machine.libc}, expected glibc: published builds of ONNX Runtime "
            "need it",
            "use a distribution with glibc, or point to a library built for this one",
        )


def _cuda_findings(nvidia: Nvidia, gpus: Cuda) -> Iterator[Finding]:
    if nvidia.driver is None:
        return
    if gpus.module is None:
        yield Finding(
            "note",
            "there is an NVIDIA driver, and this build of zerolane has no CUDA module",
            "install zerolane with ZEROLANE_CUDA=ON in the environment to run on the GPU",
        )
    elif gpus.problem is not None:
        yield Finding("warning", gpus.problem, "see the lines above; device='cpu' works without")


def _library_findings(
    nvidia: Nvidia, libraries: tuple[cuda_libraries.Library, ...]
) -> Iterator[Finding]:
    missing = [library for library in libraries if library.path is None]
    for provider in dict.fromkeys(library.provider for library in missing):
        needs = [library for library in missing if library.provider == provider]
        packages = dict.fromkeys(library.package for library in needs)
        yield Finding(
            "warning" if nvidia.driver and provider == "CUDA" else "note",
            f"ONNX Runtime's {provider} provider cannot be loaded: "
            + ", ".join(f"{library.soname} {library.problem}" for library in needs),
            f"pip install {' '.join(packages)} to use it",
        )


def _clashes() -> Iterator[Finding]:
    for backend in tensorrt.NAMES:
        for names in tensorrt.clashes(backend):
            yield Finding(
                "warning",
                f"{' and '.join(names)} are both installed and overwrite each other's files",
                "pip uninstall all of them, then install the one that is wanted",
            )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _os_release() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "unknown distribution"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _fields(path: Path) -> dict[str, str]:
    pairs = (line.partition(":") for line in _read(path).splitlines())
    found: dict[str, str] = {}
    for key, _, value in pairs:
        found.setdefault(key.strip(), value.strip())
    return found


def _kib(text: str | None) -> int | None:
    return int(text.split()[0]) * 1024 if text else None


def _cgroup_memory() -> int | None:
    """The least memory limit of this process's cgroup and those around it."""
    limits = []
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0" and not controllers:
            root, name = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, name = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        inner = root / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(root):
                limits.append(_read(folder / name))
    sizes = [int(text) for text in limits if text.isdecimal()]
    return min(sizes, default=None)


def _gib(size: int | None) -> str:
    return "unknown" if size is None else f"{size / 2**30:.1f} GiB"
