"""What a build on this machine would put into the key of an engine, as far as can be told."""

from __future__ import annotations

import functools
import os
import sys
from dataclasses import replace
from typing import Any

from zerolane import __version__, _native
from zerolane.engine.manifest import Manifest
from zerolane.engine.op_libraries import digest_if_there
from zerolane.errors import Error
from zerolane.runtimes import tensorrt


def this_platform() -> str:
    """The platform's name in manifests, like "linux-x86_64"."""
    return f"{sys.platform}-{os.uname().machine}"


@functools.cache
def gpu_here() -> tuple[str, str] | None:
    """Name and compute capability ("8.9") of the first GPU; None: none that can be used."""
    try:
        devices = _native.cuda_info()["devices"]
    except Error:  # a build without CUDA
        return None
    if not devices:
        return None
    return devices[0]["name"], ".".join(map(str, devices[0]["compute_capability"]))


def parts_here(manifest: Manifest) -> dict[str, Any]:
    """The parts of the key that this machine decides, for an engine like that of `manifest`.

    For `Cache.verify`. The library's version is that of its package or file name: nothing is
    opened, and a version that only the library itself could tell is left out. So are GPUs where
    there is none: the engine may be meant for another machine.
    """
    parts: dict[str, Any] = {"platform": this_platform(), "zerolane": __version__}
    version = _library_version(manifest.backend)
    if version is not None:
        parts["library_version"] = version
    gpu = gpu_here()
    if gpu is not None:
        name, capability = gpu
        if manifest.gpu is not None:
            parts["gpu"] = name
        targets = [target for target in manifest.compute_capabilities if target != "current"]
        if targets and capability not in targets:
            parts["compute_capabilities"] = [capability]
    if manifest.op_libraries:
        here = tuple(
            replace(use, sha256=digest_if_there(use.path) or "no file")
            for use in manifest.op_libraries
        )
        parts["op_libraries"] = replace(manifest, op_libraries=here).parts()["op_libraries"]
    return parts


@functools.cache
def _library_version(backend: str) -> str | None:
    """major.minor.patch of the library that would be used; None: not known."""
    found = tensorrt.candidates(backend, build=True)
    known = next((c for c in found if c.version is not None or c.source != "system loader"), None)
    if known is None:
        return "of no library found"
    return None if known.version is None else ".".join(known.version.split(".")[:3])
