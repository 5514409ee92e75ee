# SPDX-License-Identifier: Apache-2.0
"""The GPU of this machine and the versions around it. Standard library only."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

from bench.environment import package_version

PACKAGES = (
    *("onnxruntime-gpu", "tensorrt-rtx-cu13-libs", "tensorrt-rtx-cu13-bindings"),
    *("tensorrt-cu13-libs", "torch", "cupy-cuda13x", "nvidia-cudnn-cu13"),
)
STAND_IN_VARIABLE = "ZEROLANE_BENCH_STAND_IN"
TOOLKIT = Path("/usr/local/cuda/bin")


def stand_in() -> bool:
    """Whether this is a dry run on stand-ins for the GPU and its libraries."""
    return os.environ.get(STAND_IN_VARIABLE) == "1"


def gpu_missing() -> str | None:
    """Why there is no usable GPU, or None. Makes no context."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return f"no NVIDIA driver: {error}"
    status = driver.cuInit(0)
    count = ctypes.c_int(0)
    if status == 0:
        status = driver.cuDeviceGetCount(ctypes.byref(count))
    if status != 0:
        return f"the NVIDIA driver answers with error {status}"
    return None if count.value > 0 else "the NVIDIA driver sees no GPU"


def describe() -> dict[str, object]:
    """GPU name, memory, driver, toolkit and package versions; what is not known is None."""
    if stand_in():
        return {"name": None, "driver": None, "stand_in": True, "packages": _packages()}
    fields = ("name", "driver_version", "memory.total", "compute_cap", "pcie.link.gen.current")
    row = _first_line(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"])
    values = [v.strip() for v in row.split(",")] if row else []
    values += [""] * (len(fields) - len(values))
    name, driver, memory, capability, link = (v or None for v in values)
    return {
        "name": name,
        "driver": driver,
        "memory": memory,
        "compute_capability": capability,
        "pcie_generation": link,
        "nvcc": nvcc_version(),
        "stand_in": False,
        "packages": _packages(),
    }


def toolkit_path() -> str:
    """PATH with the folder of nvcc, where it lies in the usual place and is not on it."""
    path = os.environ.get("PATH", os.defpath)
    found = shutil.which("nvcc") is not None or not (TOOLKIT / "nvcc").exists()
    return path if found else f"{path}{os.pathsep}{TOOLKIT}"


def nvcc_version() -> str | None:
    lines = _output(["nvcc", "--version"]).splitlines()
    return next((line.strip() for line in lines if "release" in line), None)


def _packages() -> dict[str, str | None]:
    return {name: package_version(name) for name in PACKAGES}


def _first_line(command: list[str]) -> str:
    return next(iter(_output(command).splitlines()), "")


def _output(command: list[str]) -> str:
    program = shutil.which(command[0], path=toolkit_path())
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=30, check=False
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout if done.returncode == 0 else ""
