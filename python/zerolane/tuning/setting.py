"""One way to run a model, and the ways among which a search chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import product
from typing import Any

from zerolane.errors import InvalidArgument
from zerolane.types import Options

ARTEFACTS = ("original", "int8", "graph", "fp16", "bf16")
BACKENDS = ("onnxruntime", "tensorrt-rtx", "tensorrt")
GRAPH_LEVELS = ("all", "extended", "basic", "none")


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to run a model.

    artefact: "original", or which pass made the file. threads: inside an operator. lanes: calls in
    flight at once (`zl.Lanes`). batch: rows a call; 0: as the samples are. build: options of the
    build of an engine, as `zl.BuildOptions` has them.
    """

    artefact: str = "original"
    backend: str = "onnxruntime"
    graph_level: str = "all"
    threads: int = 1
    lanes: int = 1
    batch: int = 0
    build: tuple[tuple[str, int], ...] = ()

    @property
    def key(self) -> str:
        """One line that names the setting, and no other one."""
        return str(self)

    @property
    def options(self) -> Options:
        """What `zl.load` is to be given as options."""
        if self.backend != "onnxruntime":
            return Options()
        return Options(threads=self.threads, graph_level=self.graph_level)  # type: ignore[arg-type]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"build": dict(self.build)}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Setting:
        """From what `as_dict` gave."""
        return cls(**{**values, "build": tuple(sorted(values["build"].items()))})

    def __str__(self) -> str:
        parts = [self.artefact]
        if self.backend == "onnxruntime":
            parts += [f"graph {self.graph_level}", _count(self.threads, "thread")]
        else:
            parts += [self.backend, *(f"{name} {value}" for name, value in self.build)]
        if self.lanes > 1:
            parts.append(_count(self.lanes, "lane"))
        if self.batch:
            parts.append(f"batch {self.batch}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Space:
    """The values that a search combines. Those that cannot be here are left out, with the reason.

    optimization_levels: of the builds of TensorRT, 0 to 5; TensorRT-RTX has none to choose.
    """

    artefacts: Sequence[str] = ARTEFACTS
    backends: Sequence[str] = BACKENDS
    graph_levels: Sequence[str] = ("all", "extended", "basic")
    threads: Sequence[int] = (1,)
    lanes: Sequence[int] = (1,)
    batches: Sequence[int] = (0,)
    optimization_levels: Sequence[int] = field(default=(3, 5))

    def __post_init__(self) -> None:
        for name, known in (
            ("artefacts", ARTEFACTS),
            ("backends", BACKENDS),
            ("graph_levels", GRAPH_LEVELS),
        ):
            wrong = [v for v in getattr(self, name) if v not in known]
            if wrong or isinstance(getattr(self, name), str) or not getattr(self, name):
                raise InvalidArgument(
                    f"reading the space of a search: {name} is {getattr(self, name)!r}, expected "
                    f"some of {', '.join(known)}; choose among these",
                    name,
                )
        for name, least, most in (
            ("threads", 1, 1024),
            ("lanes", 1, 256),
            ("batches", 0, 1 << 20),
            ("optimization_levels", 0, 5),
        ):
            values = getattr(self, name)
            fits = not isinstance(values, str) and isinstance(values, Sequence) and len(values) > 0
            if not fits or not all(type(v) is int and least <= v <= most for v in values):
                raise InvalidArgument(
                    f"reading the space of a search: {name} is {values!r}, expected whole numbers "
                    f"from {least} to {most}, one at least; give a list of them",
                    name,
                )

    def as_dict(self) -> dict[str, list[Any]]:
        """Plain values, for JSON."""
        return {f.name: list(getattr(self, f.name)) for f in fields(self)}

    def settings(self, artefacts: Sequence[str]) -> list[Setting]:
        """All combinations that differ in what is run, of the artefacts that there are."""
        found: list[Setting] = []
        for backend, artefact in product(self.backends, artefacts):
            for lanes, batch in product(self.lanes, self.batches):
                base = Setting(artefact, backend, lanes=lanes, batch=batch)
                if backend == "onnxruntime":
                    found += [
                        replace(base, graph_level=level, threads=threads)
                        for level, threads in product(self.graph_levels, self.threads)
                        if lanes == 1 or threads == 1  # lanes share one pool of threads
                    ]
                elif backend == "tensorrt":
                    levels = self.optimization_levels
                    found += [replace(base, build=(("optimization_level", n),)) for n in levels]
                else:
                    found.append(base)
        return list(dict.fromkeys(found))


def space_of(given: Space | Mapping[str, Sequence[Any]] | None, default: Space) -> Space:
    """The default with the fields that were given in place of its own."""
    if given is None:
        return default
    if isinstance(given, Space):
        return given
    if not isinstance(given, Mapping):
        raise InvalidArgument(
            f"reading the space of a search: it is a {type(given).__name__}, expected a dict of "
            f"lists; its names are {', '.join(f.name for f in fields(Space))}",
            "space",
        )
    names = [f.name for f in fields(Space)]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InvalidArgument(
            f"reading the space of a search: there is no {unknown[0]!r}, expected some of "
            f"{', '.join(names)}; check the name",
            str(unknown[0]),
        )
    return replace(default, **{name: _tuple(values) for name, values in given.items()})


def _tuple(values: Any) -> Any:
    return tuple(values) if isinstance(values, list | tuple | range) else values


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + "s" * (number != 1)
