"""The CUDA module (libzerolane_cuda.so), the driver and the GPUs, as far as looking goes."""

from __future__ import annotations

import os
from dataclasses import dataclass

from zerolane import _native
from zerolane.errors import Error

ENVIRONMENT_VARIABLE = "ZEROLANE_CUDA_LIBRARY"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. Memory in bytes, clocks in MHz (0: not known), bandwidth in bytes a second."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    memory: int
    pci: str
    multiprocessors: int
    clock_mhz: int
    memory_clock_mhz: int
    memory_bandwidth: int

    def __str__(self) -> str:
        major, minor = self.compute_capability
        return (
            f"{self.name}, compute capability {major}.{minor}, {self.memory / 2**30:.1f} GiB, "
            f"{self.multiprocessors} multiprocessors, PCI {self.pci}"
        )


@dataclass(frozen=True, slots=True)
class Cuda:
    """What this process can do with CUDA.

    module: path of the module, None where this build of zerolane has none. driver, runtime: the
    CUDA versions of the driver and of the module, None where nobody was asked. problem: why there
    are no GPUs, None where there are some or nothing was tried.
    """

    module: str | None
    driver: str | None
    runtime: str | None
    gpus: tuple[Gpu, ...]
    problem: str | None

    def rows(self) -> list[tuple[str, str]]:
        """Subject and text of each line for `zl.doctor`."""
        if self.module is None:
            return [("CUDA module", "not in this build of zerolane")]
        versions = f", CUDA {self.runtime}" if self.runtime else ""
        versions += f", driver for {self.driver}" if self.driver else ""
        rows = [("CUDA module", self.module + versions)]
        rows += [(f"  cuda:{gpu.index}", str(gpu)) for gpu in self.gpus]
        if self.problem is not None:
            rows.append(("  no GPU", self.problem))
        return rows


def look(driver: str | None) -> Cuda:
    """What is there. Opens the module, and so initialises CUDA, only with a driver (or a module
    named by ZEROLANE_CUDA_LIBRARY): processes forked after that cannot use CUDA. No memory of a
    GPU is taken.
    """
    path = _native.cuda_library_path()
    chosen = bool(os.environ.get(ENVIRONMENT_VARIABLE))
    if not chosen and not os.path.exists(path):
        return Cuda(None, None, None, (), None)
    if driver is None and not chosen:
        return Cuda(path, None, None, (), "there is no NVIDIA driver")
    try:
        info = _native.cuda_info()
    except Error as error:
        return Cuda(path, None, None, (), str(error))
    gpus = tuple(
        Gpu(
            index=facts["index"],
            name=facts["name"],
            compute_capability=facts["compute_capability"],
            memory=facts["memory_bytes"],
            pci=facts["pci"],
            multiprocessors=facts["multiprocessors"],
            clock_mhz=facts["clock_khz"] // 1000,
            memory_clock_mhz=facts["memory_clock_khz"] // 1000,
            # Two transfers a clock, whatever the kind of memory calls its clock.
            memory_bandwidth=2 * facts["memory_clock_khz"] * 1000 * facts["memory_bus_bits"] // 8,
        )
        for facts in info["devices"]
    )
    problem = info["problem"]
    if problem is None and not gpus:
        problem = "the driver shows none to this process (CUDA_VISIBLE_DEVICES?)"
    return Cuda(
        info["path"],
        _version(info["driver_version"]),
        _version(info["runtime_version"]),
        gpus,
        problem,
    )


def _version(number: int) -> str | None:
    return f"{number // 1000}.{number % 1000 // 10}" if number else None
