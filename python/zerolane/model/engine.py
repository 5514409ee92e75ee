"""Loading engines: which library runs them, and whether it may."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane import _native
from zerolane.errors import InvalidArgument, InvalidModel, Unsupported
from zerolane.runtimes import tensorrt
from zerolane.types import Options

if TYPE_CHECKING:
    from zerolane.engine import Engine, Manifest

_LOG_LEVELS = {"verbose": 0, "info": 1, "warning": 2, "error": 3, "fatal": 4}
_REBUILD = "build it again here with zl.build"


def device_index(device: str) -> int:
    """The GPU that `device` ("auto", "cuda", "cuda:N") names."""
    if device == "auto":
        return 0
    if device == "cpu":
        raise InvalidArgument(
            "choosing a device: device='cpu' was given, and TensorRT runs on GPUs alone; leave it "
            "out, or use backend='onnxruntime'",
            "device",
        )
    kind, colon, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise InvalidArgument(
            f"choosing a device: {device!r} is not known, expected 'auto' or 'cuda:N'; check it",
            "device",
        )
    return int(number or "0")


def check_options(options: Options) -> None:
    """Raises for options that say something about the result and that TensorRT cannot follow.

    Those that only tune ONNX Runtime (threads, graph_level, ...) do nothing here.
    """
    if options.free_dimensions:
        raise Unsupported(
            "loading with TensorRT: free_dimensions= was given, and an engine's dimensions are "
            "fixed when it is built; give shapes= instead",
            "free_dimensions",
        )
    if options.providers:
        raise InvalidArgument(
            "loading with TensorRT: providers= was given, and execution providers belong to ONNX "
            "Runtime; leave it out, or use backend='onnxruntime'",
            "providers",
        )


def find_library(manifest: Manifest) -> tuple[str, str, str]:
    """Path, release and origin of the library that runs an engine; refuses one that does not fit.

    Nothing but the manifest is looked at: the plan of another release is never handed to a library.
    """
    version, candidate = tensorrt.open_library(manifest.backend, _native.library_version)
    check_release(manifest, version, candidate.path)
    return candidate.path, version, candidate.source


def check_release(manifest: Manifest, version: str, path: str) -> None:
    """Raises InvalidModel where the library of this release cannot run the engine."""
    built, found = _numbers(manifest.library_version), _numbers(version)
    # TensorRT says: a version-compatible plan runs on later minor releases of the same major one.
    if manifest.flags.get("version_compatible") and manifest.backend == "tensorrt":
        fits = built[:1] == found[:1] and found >= built
    else:
        fits = built[:3] == found[:3]
    if not fits:
        name = tensorrt.NAMES[manifest.backend]
        raise InvalidModel(
            f"loading the engine of {manifest.model}: it was built by {name} "
            f"{manifest.library_version}, and the library here is {version} ({path}); {_REBUILD}, "
            "or install the release it was built by",
            "library_version",
        )


def check_device(manifest: Manifest, gpu: Mapping[str, Any]) -> None:
    """Raises InvalidModel where the engine was built for other GPUs."""
    capability = ".".join(map(str, gpu["compute_capability"]))
    targets = [t for t in manifest.compute_capabilities if t != "current"]
    flags = manifest.flags
    problem = None
    if targets and capability not in targets:
        problem = f"it was built for compute capability {', '.join(targets)}"
    elif (
        manifest.gpu is not None
        and manifest.gpu != gpu["name"]
        and flags.get("hardware_compatibility", "none") == "none"
    ):
        problem = f"it was built on and for {manifest.gpu}"
    if problem is not None:
        raise InvalidModel(
            f"loading the engine of {manifest.model}: {problem}, and the GPU here is {gpu['name']} "
            f"({capability}); {_REBUILD}",
            "gpu",
        )


def check_host_code(manifest: Manifest, allowed: bool) -> None:
    """Raises Unsupported for a plan with code for the host that was not allowed."""
    if manifest.host_code and not allowed:
        raise Unsupported(
            f"loading the engine of {manifest.model}: it holds code that runs on the host with the "
            "rights of this process, and that was not allowed; trust whoever built it and give "
            "host_code=True, or build it with exclude_lean_runtime=True",
            "host_code",
        )


def native_options(
    engine: Engine,
    name: str,
    gpu: Mapping[str, Any],
    library: tuple[str, str],
    options: Options,
    metadata: Mapping[str, Any],
    op_libraries: list[tuple[str, dict[str, int]]],
) -> dict[str, Any]:
    """What the native core takes. library: path and release; gpu: an entry of `cuda_info`.

    op_libraries: paths of loaded libraries, and the ops of each with their versions.
    """
    manifest = engine.manifest
    digest = manifest.plan_digest or hashlib.sha256(engine.plan).hexdigest()
    symbols = {
        spec.name: [d if isinstance(d, str) else "" for d in spec.shape]
        for spec in (*manifest.inputs, *manifest.outputs)
        if spec.shape is not None
    }
    return {
        "name": name,
        "identity": digest,
        "device": gpu["index"],
        "host_code": options.host_code,
        "memory_limit": options.memory_limit or 0,
        "stripped": bool(manifest.flags.get("strip_weights", False)),
        "kernel_cache": _kernel_cache(manifest, digest, gpu, library, options),
        "graphs": options.graphs,
        "profile": options.profile or "",
        "log_level": _LOG_LEVELS[options.log_level],
        "symbols": symbols,
        "op_libraries": op_libraries,
        "uint8": [s.name for s in (*manifest.inputs, *manifest.outputs) if s.dtype == "uint8"],
        "info": {**_NO_METADATA, **metadata},
        "gil": options.gil,
        "copy": options.copy == "auto",
    }


_NO_METADATA = {
    "producer": "",
    "graph_name": "",
    "domain": "",
    "description": "",
    "version": 0,
    "custom": {},
}


def _kernel_cache(
    manifest: Manifest,
    digest: str,
    gpu: Mapping[str, Any],
    library: tuple[str, str],
    options: Options,
) -> str:
    """The file that keeps kernels compiled for this plan, GPU and release; "" for none."""
    if options.kernel_cache is False or manifest.backend != "tensorrt-rtx":
        return ""
    from zerolane.engine import default_folder

    folder = (
        Path(default_folder()) / "kernels"
        if options.kernel_cache is True
        else Path(os.path.abspath(options.kernel_cache))
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return ""  # a read-only cache folder costs compiling again, no more
    what = f"{digest}|{gpu['name']}|{gpu['compute_capability']}|{library[1]}"
    return str(folder / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.kernels")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]
