"""The options of a build, checked before any library is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict

from zerolane.errors import InvalidArgument

POOLS = (
    *("workspace", "dla_managed_sram", "dla_local_dram", "dla_global_dram"),
    *("tactic_dram", "tactic_shared_memory"),
)
LOG_LEVELS = ("verbose", "info", "warning", "error", "fatal")
TARGETS = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


class BuildFields(TypedDict, total=False):
    """The fields of `BuildOptions`, as keyword arguments of `build`."""

    compute_capabilities: Sequence[str]
    optimization_level: int | None
    memory_pools: Mapping[str, int]
    hardware_compatibility: Literal["none", "ampere+", "same_compute_capability"]
    version_compatible: bool
    exclude_lean_runtime: bool
    strip_weights: bool
    refit: bool | Literal["identical", "individual"]
    weight_streaming: bool
    sparse_weights: bool
    tf32: bool | None
    strict_nans: bool
    direct_io: bool
    debug: bool
    tiling_level: int | None
    avg_timing_iterations: int | None
    max_aux_streams: int | None
    timing_cache: str | os.PathLike[str] | None
    editable_timing: bool
    reproducible_timing: bool
    profiling_verbosity: Literal["layer_names_only", "none", "detailed"]
    log_level: Literal["verbose", "info", "warning", "error", "fatal"]
    precision_keep: Sequence[str]
    folder: str | os.PathLike[str] | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How an engine is built. None and empty leave the choice to the library.

    compute_capabilities: GPUs the engine is for, "8.9" or "current" (TensorRT-RTX).
    optimization_level: 0 (fast to build) to 5 (fast to run).
    memory_pools: bytes by pool: "workspace", "tactic_dram", "tactic_shared_memory", "dla_...".
    hardware_compatibility, version_compatible: run on other GPUs, on later releases (TensorRT).
    exclude_lean_runtime: a version-compatible engine without the runtime inside.
    strip_weights: leave out weights; nothing runs before `Session.refit` has brought them.
    refit: weights may be exchanged later; "identical": by the same ones only; "individual": those
        the library chooses one by one.
    weight_streaming, sparse_weights, tf32, strict_nans, direct_io, debug: the library's flags of
        that name; tf32 None: as the library has it.
    tiling_level: 0 to 3. avg_timing_iterations: of one tactic. max_aux_streams: of one context.
    timing_cache: file that is read where it exists, and replaced after the build.
    editable_timing: a cache whose entries can be queried and fixed.
    reproducible_timing: every tactic must come from the cache; otherwise the build fails.
    profiling_verbosity: what the engine tells of its layers.
    log_level: from which severity on the library's messages reach `logging` ("zerolane.tensorrt").
    precision_keep: nodes and operators that precision= leaves as they are, see `zl.optimize.fp16`.
    folder: where the external data of a model given as bytes lies.
    timeout_s: the build is ended after so many seconds (DeadlineExceeded), waiting for another
        process that builds the same engine counted in.
    """

    compute_capabilities: Sequence[str] = ()
    optimization_level: int | None = None
    memory_pools: Mapping[str, int] = field(default_factory=dict)
    hardware_compatibility: Literal["none", "ampere+", "same_compute_capability"] = "none"
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    strip_weights: bool = False
    refit: bool | Literal["identical", "individual"] = False
    weight_streaming: bool = False
    sparse_weights: bool = False
    tf32: bool | None = None
    strict_nans: bool = False
    direct_io: bool = False
    debug: bool = False
    tiling_level: int | None = None
    avg_timing_iterations: int | None = None
    max_aux_streams: int | None = None
    timing_cache: str | os.PathLike[str] | None = None
    editable_timing: bool = False
    reproducible_timing: bool = False
    profiling_verbosity: Literal["layer_names_only", "none", "detailed"] = "layer_names_only"
    log_level: Literal["verbose", "info", "warning", "error", "fatal"] = "warning"
    precision_keep: Sequence[str] = ()
    folder: str | os.PathLike[str] | None = None
    timeout_s: float | None = None

    def __post_init__(self) -> None:
        for name in _SWITCHES:
            _check(name, getattr(self, name), isinstance(getattr(self, name), bool), "True, False")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            _check(name, value, _among(value, allowed), "one of " + ", ".join(map(repr, allowed)))
        for name, (least, most) in _NUMBERS.items():
            value = getattr(self, name)
            fits = value is None or (type(value) is int and least <= value <= most)
            _check(name, value, fits, f"an int from {least} to {most}, or None")
        for name in ("timing_cache", "folder"):
            value = getattr(self, name)
            fits = value is None or (
                isinstance(value, str | os.PathLike) and bool(os.fspath(value))
            )
            _check(name, value, fits, "a path, or None")
        pools = self.memory_pools
        fits = isinstance(pools, Mapping) and all(
            k in POOLS and type(v) is int and 0 <= v < 2**63 for k, v in pools.items()
        )
        _check("memory_pools", pools, fits, f"bytes by pool: {', '.join(POOLS)}")
        seconds = self.timeout_s
        fits = seconds is None or (type(seconds) in (int, float) and 0 < seconds < 1e9)
        _check("timeout_s", seconds, fits, "seconds above 0, or None")
        keep = self.precision_keep
        fits = isinstance(keep, Sequence) and not isinstance(keep, str | bytes)
        fits = fits and all(isinstance(name, str) for name in keep)
        _check("precision_keep", keep, fits, "a list of names")
        targets = self.compute_capabilities
        fits = isinstance(targets, Sequence) and not isinstance(targets, str | bytes)
        fits = fits and all(t == "current" or t in TARGETS for t in targets)
        fits = fits and len(set(targets)) == len(targets)
        expected = f"a list of {', '.join(TARGETS)} or 'current', each once"
        _check("compute_capabilities", targets, fits, expected)
        lean = self.exclude_lean_runtime
        whole = not lean or self.version_compatible
        _check("exclude_lean_runtime", lean, whole, "version_compatible=True beside it")
        alone = "current" not in targets or len(targets) == 1
        _check("compute_capabilities", targets, alone, "'current' alone, or others without it")

    def plan_flags(self) -> dict[str, object]:
        """What shapes the plan and differs from the default, in plain JSON values."""
        found: dict[str, object] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name in _NOT_IN_PLAN or value == getattr(_DEFAULTS, f.name):
                continue
            if isinstance(value, Mapping):
                value = dict(value)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                value = list(value)
            found[f.name] = value
        return found


_SWITCHES = (
    *("version_compatible", "exclude_lean_runtime", "strip_weights", "weight_streaming"),
    *("sparse_weights", "strict_nans", "direct_io", "debug"),
    *("editable_timing", "reproducible_timing"),
)
_CHOICES: dict[str, tuple[object, ...]] = {
    "hardware_compatibility": ("none", "ampere+", "same_compute_capability"),
    "refit": (False, True, "identical", "individual"),
    "tf32": (None, True, False),
    "profiling_verbosity": ("layer_names_only", "none", "detailed"),
    "log_level": LOG_LEVELS,
}
_NUMBERS = {
    "optimization_level": (0, 5),
    "tiling_level": (0, 3),
    "avg_timing_iterations": (1, 1000),
    "max_aux_streams": (0, 1024),
}
# compute_capabilities have a place of their own in the manifest.
_NOT_IN_PLAN = frozenset(
    {"log_level", "timeout_s", "folder", "timing_cache", "compute_capabilities"}
)


def _among(value: object, allowed: tuple[object, ...]) -> bool:
    return any(type(value) is type(item) and value == item for item in allowed)


def _check(name: str, value: object, ok: bool, expected: str) -> None:
    if not ok:
        raise InvalidArgument(
            f"reading build option {name!r}: it is {value!r:.200}, expected {expected}; "
            "see zl.BuildOptions",
            name,
        )


_DEFAULTS = BuildOptions()
_NAMES = [f.name for f in fields(BuildOptions)]


def merge(options: BuildOptions | None, given: BuildFields) -> BuildOptions:
    """`options` (or the defaults) with the fields of `given` put over them."""
    if options is not None and not isinstance(options, BuildOptions):
        raise InvalidArgument(
            f"reading build options: a {type(options).__name__} was given, expected "
            "zl.BuildOptions; make one with zl.BuildOptions(...)",
            "options",
        )
    for name in given:
        if name not in _NAMES:
            import difflib

            near = difflib.get_close_matches(name, _NAMES, 1)
            hint = f"did you mean {near[0]!r}" if near else "they are " + ", ".join(_NAMES)
            raise InvalidArgument(
                f"reading build options: there is no option {name!r}; {hint}", name
            )
    if not given:
        return options or _DEFAULTS
    values: dict[str, Any] = {n: getattr(options or _DEFAULTS, n) for n in _NAMES}
    values.update(given)
    return BuildOptions(**values)
