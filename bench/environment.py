# SPDX-License-Identifier: Apache-2.0
"""Where a result was measured: what is needed to judge or repeat it; no host names, no paths."""

from __future__ import annotations

import datetime
import importlib
import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = ("zerolane", "onnxruntime", "numpy", "onnx")


def describe() -> dict[str, object]:
    """CPU, kernel, Python, package versions, governor, load average, command and date."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command(),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": len(os.sched_getaffinity(0)),
        "cgroup_quota_cpus": _cgroup_quota(),
        "virtual_machine": "hypervisor" in _cpuinfo().get("flags", "").split(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "libc": "-".join(platform.libc_ver()),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "gil": bool(getattr(sys, "_is_gil_enabled", lambda: True)()),
        "packages": {name: package_version(name) for name in PACKAGES},
        "load_average": list(os.getloadavg()),
    }


def command() -> str:
    """The command line, without the paths of the interpreter and of the checkout."""
    here = f"{Path.cwd()}{os.sep}"
    return shlex.join(["python", *(word.removeprefix(here) for word in sys.orig_argv[1:])])


def package_version(name: str) -> str | None:
    """From the package's metadata, or from the package where it runs out of a source tree."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        try:
            return str(importlib.import_module(name).__version__)
        except ImportError:
            return None


def mapped_libraries(part: str) -> list[str]:
    """File names of the mapped shared libraries whose name contains `part`."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    names = {Path(line.split()[-1]).name for line in lines if "/" in line}
    return sorted(name for name in names if part in name and ".so" in name)


def memory_kib(field: str = "VmRSS") -> int:
    """A size from /proc/self/status in KiB: VmRSS (resident), RssAnon (not backed by a file)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise RuntimeError(
        f"reading memory use: /proc/self/status has no line {field}; run this on a Linux kernel"
    )


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _cpuinfo() -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


def _cpu_model() -> str:
    return _cpuinfo().get("model name", platform.machine())


def _cgroup_quota() -> float | None:
    quota, _, period = (_read("/sys/fs/cgroup/cpu.max") or "max").partition(" ")
    return None if quota == "max" else round(int(quota) / int(period), 2)
