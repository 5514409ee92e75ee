"""Plain records that users see."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypedDict

from zerolane.errors import InvalidArgument

Shape = tuple[int | str | None, ...]
ProviderSpec = str | tuple[str, Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    `shape` has an int for a fixed dimension, a str for a named dynamic one, None for an unknown
    one; `shape` itself is None where not even the rank is declared (and for sequences and maps).
    `type` is the full type: "tensor(float32)", "sequence(map(int64, tensor(float32)))".
    """

    name: str
    dtype: str
    shape: Shape | None
    type: str = ""


class OptionFields(TypedDict, total=False):
    """The fields of `Options`, as keyword arguments of `load`."""

    threads: int | None
    inter_threads: int | None
    spin: bool
    graph_level: Literal["none", "basic", "extended", "all"]
    execution_mode: Literal["sequential", "parallel"]
    arena: bool
    memory_pattern: bool
    free_dimensions: Mapping[str, int]
    config: Mapping[str, str]
    profile: str | None
    log_level: Literal["verbose", "info", "warning", "error", "fatal"]
    providers: Sequence[ProviderSpec] | None
    fallback: bool
    graphs: int
    memory_limit: int | None
    host_code: bool
    kernel_cache: bool | str | os.PathLike[str]
    gil: Literal["auto", "hold", "release"]
    copy: Literal["auto", "never"]


@dataclass(frozen=True, slots=True)
class Options:
    """How a model is loaded and called.

    threads: threads inside an operator; None shares the process's pool (see `configure`).
    inter_threads: threads between operators for execution_mode="parallel"; None: like threads.
    spin: let idle worker threads spin (faster hand-over, burns a CPU); needs `threads`.
    graph_level: how far ONNX Runtime rewrites the graph.
    arena, memory_pattern: ONNX Runtime's memory arena and its planning of activations.
    free_dimensions: fixes named dynamic dimensions.
    config: ONNX Runtime session config entries, passed on as they are.
    profile: file prefix for a profile (of operators; with TensorRT of layers, as JSON), written by
        `Session.end_profiling`.
    log_level: from which severity on the library's messages reach `logging`.
    providers: execution providers in order, by name ("CUDA", "OpenVINO", ...) or with options;
        None: CPU. One that is missing is an error unless `fallback`.
    graphs: CUDA graphs that a context (each binding and each call in flight has one) keeps, one for
        each set of input shapes, the least recently used given up first; 0: none (TensorRT).
    memory_limit: bytes of device memory for an engine's weights and one run's activations; weights
        are streamed where the engine was built for that, else OutOfMemory (TensorRT).
    host_code: allow engines that hold code for the host: they are programs (TensorRT).
    kernel_cache: keep kernels that are compiled at run time for the next process, in the folder of
        the engine cache or in this one (TensorRT-RTX).
    gil: whether runs hold the GIL; "auto" measures (short runs hold it).
    copy: "auto" copies inputs that are not row-major, misaligned or byte-swapped; "never" refuses.
    """

    threads: int | None = None
    inter_threads: int | None = None
    spin: bool = False
    graph_level: Literal["none", "basic", "extended", "all"] = "all"
    execution_mode: Literal["sequential", "parallel"] = "sequential"
    arena: bool = True
    memory_pattern: bool = True
    free_dimensions: Mapping[str, int] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    profile: str | None = None
    log_level: Literal["verbose", "info", "warning", "error", "fatal"] = "warning"
    providers: Sequence[ProviderSpec] | None = None
    fallback: bool = False
    graphs: int = 4
    memory_limit: int | None = None
    host_code: bool = False
    kernel_cache: bool | str | os.PathLike[str] = True
    gil: Literal["auto", "hold", "release"] = "auto"
    copy: Literal["auto", "never"] = "auto"

    def __post_init__(self) -> None:
        for name in ("threads", "inter_threads"):
            value = getattr(self, name)
            _check(
                name,
                value,
                value is None or (type(value) is int and 1 <= value <= 1024),
                "an int from 1 to 1024, or None",
            )
        for name in ("spin", "arena", "memory_pattern", "fallback", "host_code"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, bool), "True or False")
        graphs, limit = self.graphs, self.memory_limit
        _check(
            "graphs", graphs, type(graphs) is int and 0 <= graphs <= 1024, "an int from 0 to 1024"
        )
        fits = limit is None or (type(limit) is int and 0 < limit < 2**63)
        _check("memory_limit", limit, fits, "a number of bytes above 0, or None")
        kernels = self.kernel_cache
        fits = isinstance(kernels, bool | os.PathLike) or (
            isinstance(kernels, str) and kernels != ""
        )
        _check("kernel_cache", kernels, fits, "True, False or a folder")
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed:
                _check(name, value, False, "one of " + ", ".join(map(repr, allowed)))
        _check(
            "spin",
            self.spin,
            not self.spin or self.threads is not None,
            "threads= too: the shared pool is set with zl.configure(spin=True)",
        )
        dims = self.free_dimensions
        _check(
            "free_dimensions",
            dims,
            isinstance(dims, Mapping)
            and all(
                isinstance(k, str) and type(v) is int and 0 <= v < 2**63 for k, v in dims.items()
            ),
            "a dict of dimension name to size",
        )
        _check(
            "config",
            self.config,
            isinstance(self.config, Mapping)
            and all(isinstance(k, str) and isinstance(v, str) for k, v in self.config.items())
            and not any("\0" in k or "\0" in v for k, v in self.config.items()),
            "a dict of str to str without NUL characters",
        )
        _check(
            "profile",
            self.profile,
            self.profile is None or (isinstance(self.profile, str) and self.profile != ""),
            "a file prefix, or None",
        )
        _check(
            "providers",
            self.providers,
            self.providers is None
            or (
                isinstance(self.providers, Sequence)
                and not isinstance(self.providers, str)
                and all(_is_provider(p) for p in self.providers)
            ),
            "a list of names or (name, options) pairs, or None",
        )


_CHOICES: dict[str, tuple[str, ...]] = {
    "graph_level": ("none", "basic", "extended", "all"),
    "execution_mode": ("sequential", "parallel"),
    "log_level": ("verbose", "info", "warning", "error", "fatal"),
    "gil": ("auto", "hold", "release"),
    "copy": ("auto", "never"),
}


def _is_provider(item: object) -> bool:
    if isinstance(item, tuple):
        return len(item) == 2 and isinstance(item[0], str) and isinstance(item[1], Mapping)
    return isinstance(item, str)


def _check(name: str, value: object, ok: bool, expected: str) -> None:
    if not ok:
        raise InvalidArgument(
            f"reading option {name!r}: it is {value!r}, expected {expected}; see zl.Options", name
        )


_DEFAULTS = Options()
_OPTION_NAMES = [f.name for f in fields(Options)]


def merge_options(options: Options | None, given: OptionFields) -> Options:
    """`options` (or the defaults) with the fields of `given` put over them."""
    if options is not None and not isinstance(options, Options):
        raise InvalidArgument(
            f"reading options: a {type(options).__name__} was given, expected zl.Options; "
            "build one with zl.Options(...)",
            "options",
        )
    if not given:
        return options or _DEFAULTS
    names = _OPTION_NAMES
    for name in given:
        if name not in names:
            import difflib

            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}" if near else "the options are " + ", ".join(names)
            raise InvalidArgument(f"reading options: there is no option {name!r}; {hint}", name)
    values: dict[str, Any] = {n: getattr(options, n) for n in names} if options else {}
    values.update(given)
    return Options(**values)
