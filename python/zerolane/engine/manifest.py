"""What an engine file says of its plan, and the key that its cache entry goes by."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from zerolane import __version__
from zerolane.engine.op_libraries import OpLibraryUse
from zerolane.errors import InvalidArgument, InvalidModel
from zerolane.types import TensorSpec

FORMAT_VERSION = 1
BACKENDS = ("tensorrt", "tensorrt-rtx")

Profile = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
"""Input name to its least, best and greatest shape."""

# What the build found out or what is only for people: no part of the key.
_NOT_IN_KEY = {
    "model",
    "inputs",
    "outputs",
    "host_code",
    "created",
    "build_seconds",
    "extra",
    "plan_size",
    "plan_digest",
    "format_version",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a plan was built from, with and for, in plain JSON values.

    Before a build it is the request (its `key` names the cache entry); after it, with `inputs`,
    `outputs`, `build_seconds` and the plan's size and digest filled in, it heads the engine file.
    Digests are SHA-256 in hexadecimal.

    model: name for people. model_digest: of the file's bytes. external_data: location to digest.
    backend: "tensorrt" or "tensorrt-rtx". library_version: what the library says ("1.7.1").
    platform: "linux-x86_64". profiles: one a profile. precision: "fp16", "bf16" or None (as typed).
    flags: every other option that shapes the plan, by name. op_libraries: whose ops are plugins in
    it; where they are is no part of the key.
    compute_capabilities: targets ("8.9"), empty: those of `gpu`, or all (RTX).
    gpu: name of the GPU it was tuned on, None where none took part.
    driver: only where the plan depends on it. host_code: the plan holds code for the host.
    inputs, outputs: as the library reports them. created: ISO 8601, UTC.
    zerolane: the release that built it; a part of the key, for it decides how flags are applied.
    extra: anything else worth keeping (say per-layer notes); no part of the key.
    """

    model: str
    model_digest: str
    backend: str
    library_version: str
    platform: str
    external_data: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[Profile, ...] = ()
    precision: str | None = None
    flags: Mapping[str, object] = field(default_factory=dict)
    op_libraries: tuple[OpLibraryUse, ...] = ()
    compute_capabilities: tuple[str, ...] = ()
    gpu: str | None = None
    driver: str | None = None
    host_code: bool = False
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    created: str = ""
    build_seconds: float | None = None
    zerolane: str = __version__
    plan_size: int = 0
    plan_digest: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def parts(self) -> dict[str, object]:
        """The parts of the key, as plain JSON values."""
        plain = self.as_dict()
        libraries: dict[str, list[object]] = {}
        for use in plain["op_libraries"]:
            same = libraries.setdefault(f"{use['name']} {use['version']}", [])
            same.append({"sha256": use["sha256"], "ops": use["ops"]})
        plain["op_libraries"] = libraries
        return {name: value for name, value in plain.items() if name not in _NOT_IN_KEY}

    @property
    def key(self) -> str:
        """The cache key: equal for builds that would make the same plan."""
        return key(self.parts())

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("inputs", "outputs"):
            plain[name] = [[s.name, s.dtype, s.shape, s.type] for s in plain[name]]
        plain["op_libraries"] = [_plain_library(use) for use in self.op_libraries]
        loaded: dict[str, Any] = json.loads(_json(plain))
        return loaded

    def to_json(self) -> bytes:
        """Canonical JSON: equal manifests give equal bytes."""
        return _json(self.as_dict())

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Self:
        """Read what `to_json` wrote. `where` names the file in messages. Raises InvalidModel."""
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise TypeError(f"it is a {type(values).__name__}, expected an object")
            return cls._from_values(values)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise InvalidModel(
                f"reading the manifest of {where}: {reason}, expected one that zerolane wrote; "
                "build the engine again",
                where,
            ) from error

    @classmethod
    def _from_values(cls, values: dict[str, Any]) -> Self:
        given: dict[str, Any] = {}
        for f in fields(cls):
            if f.name not in values and f.name not in _REQUIRED:
                continue  # written by a release that did not have it
            value, kinds = values[f.name], _KINDS[str(f.type)]
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise TypeError(f"{f.name!r} is {value!r:.60}, expected {kinds[0].__name__}")
            given[f.name] = value
        for name, read in _READERS.items():
            if name in given:
                given[name] = read(given[name])
        return cls(**given)

    def with_plan(self, plan: bytes | memoryview) -> Self:
        """A copy that holds the size and the digest of `plan`, and the time if it had none."""
        return replace(
            self,
            plan_size=memoryview(plan).nbytes,
            plan_digest=hashlib.sha256(plan).hexdigest(),
            created=self.created or now(),
        )


def now() -> str:
    """The time in the form of `Manifest.created`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def key(parts: Mapping[str, object]) -> str:
    """A name for `parts` (JSON values): 64 hexadecimal digits, the same in every process."""
    return hashlib.sha256(_json(dict(parts))).hexdigest()


@dataclass(frozen=True, slots=True)
class Difference:
    """A part of the key that is not as wanted; `part` is dotted into mappings ("flags.refit")."""

    part: str
    stored: object
    wanted: object

    def __str__(self) -> str:
        return f"{self.part} is {_short(self.stored)}, wanted {_short(self.wanted)}"


def differences(
    stored: Mapping[str, object], wanted: Mapping[str, object]
) -> tuple[Difference, ...]:
    """The parts that are not equal. Only those in `wanted` are looked at; inside a mapping, all."""
    found = []
    for name, value in wanted.items():
        old = stored.get(name)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            for inner in sorted({*old, *value}):
                if old.get(inner) != value.get(inner):
                    found.append(Difference(f"{name}.{inner}", old.get(inner), value.get(inner)))
        elif old != value:
            found.append(Difference(name, old, value))
    return tuple(found)


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) == 64:
        return value[:12]
    if value is None:
        return "not there"
    text = value if isinstance(value, str) else _json(value).decode()
    return text if len(text) <= 60 else text[:57] + "..."


def _plain_library(use: OpLibraryUse) -> dict[str, object]:
    return {f.name: getattr(use, f.name) for f in fields(use)}


def _json(value: object) -> bytes:
    try:
        return json.dumps(
            value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgument(
            f"writing an engine's manifest: {error}, expected plain values (text, numbers, lists, "
            "mappings by name); convert the flag or option",
            "manifest",
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} ({value!r:.60}) has no place in JSON")


_KINDS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "bool": (bool,),
    "float | None": (float, int, type(None)),
    "Mapping[str, str]": (dict,),
    "Mapping[str, object]": (dict,),
    "tuple[Profile, ...]": (list,),
    "tuple[OpLibraryUse, ...]": (list,),
    "tuple[str, ...]": (list,),
    "tuple[TensorSpec, ...]": (list,),
}


_REQUIRED = "model", "model_digest", "backend", "library_version", "platform"


def _texts(value: list[Any]) -> tuple[str, ...]:
    if not all(isinstance(item, str) for item in value):
        raise TypeError(f"{value!r:.60} holds something that is no text")
    return tuple(value)


def _digests(value: dict[str, Any]) -> dict[str, str]:
    _texts(list(value.values()))
    return value


def _library(value: Any) -> OpLibraryUse:
    if not isinstance(value, dict):
        raise TypeError(f"an op library is {value!r:.60}, expected name, version, path and digest")
    name, version, path, digest = _texts([value[k] for k in ("name", "version", "path", "sha256")])
    ops = value["ops"]
    if not isinstance(ops, dict) or not all(type(version) is int for version in ops.values()):
        raise TypeError(f"an op library has ops {ops!r:.60}, expected versions by name")
    return OpLibraryUse(name, version, path, digest, ops)


def _profile(value: Any) -> Profile:
    def shape(dims: Any) -> tuple[int, ...]:
        if not isinstance(dims, list) or not all(type(d) is int for d in dims):
            raise TypeError(f"a profile holds {dims!r:.60}, expected sizes")
        return tuple(dims)

    if not isinstance(value, dict):
        raise TypeError(f"a profile is {value!r:.60}, expected shapes by input")
    bounds = {}
    for name, shapes in value.items():
        if not isinstance(shapes, list) or len(shapes) != 3:
            raise TypeError(f"a profile of {name!r} is {shapes!r:.60}, expected three shapes")
        bounds[name] = (shape(shapes[0]), shape(shapes[1]), shape(shapes[2]))
    return bounds


def _spec(value: Any) -> TensorSpec:
    if not isinstance(value, list) or len(value) != 4:
        raise TypeError(f"an input or output is {value!r:.60}, expected name, dtype, shape, type")
    name, dtype, shape, text = value
    fits = shape is None or (
        isinstance(shape, list) and all(d is None or type(d) in (int, str) for d in shape)
    )
    if not all(isinstance(item, str) for item in (name, dtype, text)) or not fits:
        raise TypeError(f"an input or output is {value!r:.80}, expected name, dtype, shape, type")
    return TensorSpec(name, dtype, None if shape is None else tuple(shape), text)


_READERS: dict[str, Callable[[Any], object]] = {
    "external_data": _digests,
    "op_libraries": lambda value: tuple(map(_library, value)),
    "compute_capabilities": _texts,
    "profiles": lambda value: tuple(map(_profile, value)),
    "inputs": lambda value: tuple(map(_spec, value)),
    "outputs": lambda value: tuple(map(_spec, value)),
}
