"""What a build is asked for, in the forms that the cache and the native core take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerolane import _native
from zerolane.builder.options import LOG_LEVELS, POOLS, BuildOptions
from zerolane.builder.profiles import Range
from zerolane.builder.source import Source
from zerolane.engine import Manifest, OpLibraryUse
from zerolane.engine.digest import ModelDigest
from zerolane.engine.environment import gpu_here, this_platform
from zerolane.errors import NotFound, Unavailable, Unsupported
from zerolane.runtimes import tensorrt
from zerolane.types import TensorSpec

PRECISIONS = ("fp16", "bf16")
_REFIT = {True: "refit", "identical": "refit_identical", "individual": "refit_individual"}
_HARDWARE = ("none", "ampere+", "same_compute_capability")
_VERBOSITY = ("layer_names_only", "none", "detailed")
_SWITCHES = (
    *("version_compatible", "exclude_lean_runtime", "strip_weights", "weight_streaming"),
    *("sparse_weights", "strict_nans", "direct_io", "debug"),
    *("editable_timing", "reproducible_timing"),
)


@dataclass(frozen=True, slots=True)
class BuilderLibrary:
    """The library that builds: where it is, and its release (major.minor.patch)."""

    backend: str
    path: str
    version: str

    @property
    def title(self) -> str:
        return f"{tensorrt.NAMES[self.backend]} {self.version}"


def find_library(backend: str) -> BuilderLibrary:
    """The first library of a backend that can build. Opens it only if no name tells its release."""
    for candidate in tensorrt.candidates(backend, build=True):
        if candidate.version is not None and os.path.isfile(candidate.path):
            release = ".".join(candidate.version.split(".")[:3])
            return BuilderLibrary(backend, os.path.abspath(candidate.path), release)
        break
    version, candidate = tensorrt.open_library(backend, _native.library_version, build=True)
    return BuilderLibrary(backend, candidate.path, version)


def check_backend(options: BuildOptions, backend: str) -> None:
    """Raises Unsupported for options that the backend has no use for."""
    if backend != "tensorrt-rtx":
        return
    for name in ("timing_cache", "editable_timing", "reproducible_timing"):
        if getattr(options, name):
            raise Unsupported(
                f"reading build option {name!r}: TensorRT-RTX times nothing while it builds, so it "
                "has no timing cache; leave the option out",
                name,
            )
    if options.hardware_compatibility != "none":
        raise Unsupported(
            "reading build option 'hardware_compatibility': TensorRT-RTX has no such levels, its "
            "engines are made for compute capabilities; leave it out, and name those where the "
            "library's own choice will not do",
            "hardware_compatibility",
        )
    if options.version_compatible and not options.exclude_lean_runtime:
        raise Unsupported(
            "reading build option 'version_compatible': TensorRT-RTX comes without the lean "
            "runtime that such an engine holds; leave it out, or add exclude_lean_runtime=True",
            "version_compatible",
        )


def manifest(
    source: Source,
    digest: ModelDigest,
    library: BuilderLibrary,
    profiles: tuple[dict[str, Range], ...],
    precision: str | None,
    options: BuildOptions,
    op_libraries: tuple[OpLibraryUse, ...],
) -> Manifest:
    """The request; its key names the entry in the cache."""
    # TensorRT times its kernels on the first GPU; TensorRT-RTX is told its targets.
    tuned = library.backend == "tensorrt" or "current" in options.compute_capabilities
    gpu = gpu_here() if tuned else None
    return Manifest(
        model=source.name,
        model_digest=digest.model,
        external_data=digest.external_data,
        backend=library.backend,
        library_version=library.version,
        platform=this_platform(),
        profiles=profiles,
        precision=precision,
        flags=options.plan_flags(),
        op_libraries=op_libraries,
        compute_capabilities=tuple(options.compute_capabilities),
        gpu=gpu[0] if gpu is not None else None,
    )


def native_options(
    options: BuildOptions, profiles: Sequence[Mapping[str, Range]], *, plugins: bool = False
) -> dict[str, Any]:
    """Options and profiles as the native core takes them, in plain JSON values.

    plugins: whether the model uses ops of loaded libraries.
    """
    flags = [name for name in _SWITCHES if getattr(options, name)]
    if options.refit:
        flags.append(_REFIT[options.refit])
    targets = options.compute_capabilities
    return {
        "profiles": [
            [(name, *map(list, bounds)) for name, bounds in profile.items()] for profile in profiles
        ],
        "compute_capabilities": [1 if t == "current" else int(t.replace(".", "")) for t in targets],
        "memory_pools": [(POOLS.index(name), size) for name, size in options.memory_pools.items()],
        "flags": flags,
        "tf32": options.tf32,
        "hardware_compatibility": _HARDWARE.index(options.hardware_compatibility),
        "profiling_verbosity": _VERBOSITY.index(options.profiling_verbosity),
        "log_level": LOG_LEVELS.index(options.log_level),
        "optimization_level": options.optimization_level,
        "tiling_level": options.tiling_level,
        "avg_timing_iterations": options.avg_timing_iterations,
        "max_aux_streams": options.max_aux_streams,
    } | ({"plugins": True} if plugins else {})


def read_timing_cache(path: str | os.PathLike[str] | None) -> bytes | None:
    """What the cache begins with: nothing where there is no file yet. None: no cache."""
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise NotFound(
            f"reading timing cache {os.fspath(path)!r}: {error.strerror}; check the path and its "
            "permissions",
            os.fspath(path),
        ) from error


def convert(
    source: Source, precision: str, keep: Sequence[str], profiles: Sequence[Mapping[str, Range]]
) -> bytes:
    """The model in another precision, whole, with inputs and outputs as before.

    Compared with the original on random values where ONNX Runtime is at hand; `zl.optimize` warns.
    """
    import tempfile

    from zerolane import optimize
    from zerolane.runtimes import onnxruntime

    try:
        onnxruntime.open_library()
        verify = True
    except Unavailable:
        verify = False
    function = optimize.fp16 if precision == "fp16" else optimize.bf16
    given: Any = source.path if source.path is not None else source.content
    if source.path is None and source.locations:
        given = _whole(source)
    shapes = {name: best for name, (_, best, _) in profiles[0].items()} if profiles else None
    with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
        out = Path(folder) / "converted.onnx"
        function(given, out, keep=list(keep), verify=verify, shapes=shapes, external=False)
        return out.read_bytes()


def _whole(source: Source) -> Any:
    """Bytes whose weights lie in a folder, as an onnx.ModelProto that holds them."""
    from zerolane._lazy import require

    onnx = require("onnx", "onnx", f"converting {source.name}")
    model = onnx.load_model_from_string(source.content)
    onnx.external_data_helper.load_external_data_for_model(model, source.folder)
    return model


def specs(
    rows: Sequence[tuple[str, str, Sequence[int | None]]],
    declared: Sequence[tuple[str, str, int, Sequence[int | str | None] | None]],
) -> tuple[TensorSpec, ...]:
    """The network's tensors; free dimensions have the names that the model gives them."""
    named = {name: shape for name, _, _, shape in declared}
    found = []
    for name, dtype, shape in rows:
        names = named.get(name)
        same = names is not None and len(names) == len(shape)
        dims = tuple(
            symbol if size is None and isinstance(symbol, str) else size
            for size, symbol in zip(shape, names if same and names else shape, strict=True)
        )
        found.append(TensorSpec(name, dtype, dims, f"tensor({dtype})"))
    return tuple(found)
