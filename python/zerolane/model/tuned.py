"""`zl.load(model, tuned=...)`: what `zl.tune` wrote, checked against the model."""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerolane.errors import Error, InvalidArgument, InvalidModel, NotFound, Unavailable

VERSION = 1


@dataclass(frozen=True, slots=True)
class Tuned:
    """What to load instead of the model, and how. build: options of an engine's build."""

    model: str | bytes
    backend: str
    options: Mapping[str, Any]
    build: Mapping[str, Any]


def read_tuned(model: str | bytes, tuned: str | os.PathLike[str]) -> Tuned:
    """Read a file that `TuneResult.save` wrote, for this model.

    Raises NotFound (the file or its artefact), InvalidArgument (of another model, or no such file),
    InvalidModel (the artefact was changed), Unavailable (it is for a backend that is not here).
    """
    path = Path(os.fspath(tuned))
    doing = f"applying {str(path)!r}"
    told = _read(path, doing)
    try:
        source, artefact, how = told["model"], told["artefact"], told["load"]
        digests = (str(source["sha256"]), dict(source.get("external_data", {})))
        backend = str(how["backend"])
        options = {name: how[name] for name in ("graph_level", "threads") if name in how}
        build = dict(how.get("build", {}))
        made_by = str(artefact["made_by"])
        file = None if made_by == "original" else str(artefact["path"])
        sha256 = "" if file is None else str(artefact["sha256"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgument(
            f"{doing}: {error!s} is missing or not of its kind, expected a file that "
            "TuneResult.save wrote; tune again",
            str(path),
        ) from error
    _check_model(model, digests, str(source.get("name", "")), doing)
    chosen = model if file is None else _artefact(path.resolve().parent / file, sha256, doing)
    _check_backend(backend, doing)
    return Tuned(chosen, backend, options, build)


def file_sha256(path: Path) -> str:
    """Of a file and of its external data, `<name>.data`, one after the other."""
    digest = hashlib.sha256()
    for part in (path, path.with_name(path.name + ".data")):
        if part.exists():
            with part.open("rb") as file:
                while piece := file.read(1 << 20):
                    digest.update(piece)
    return digest.hexdigest()


def _read(path: Path, doing: str) -> dict[str, Any]:
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NotFound(
            f"{doing}: there is no such file (in {os.getcwd()!r}); check the path, or write it "
            "with TuneResult.save",
            str(path),
        ) from error
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            f"{doing}: it cannot be read ({error}), expected the TOML that TuneResult.save writes; "
            "check the path",
            str(path),
        ) from error
    if told.get("version") != VERSION:
        raise InvalidArgument(
            f"{doing}: its version is {told.get('version')!r}, expected {VERSION}; tune again with "
            "this release of zerolane",
            str(path),
        )
    return told


def _check_model(
    model: str | bytes, wanted: tuple[str, dict[str, str]], name: str, doing: str
) -> None:
    from zerolane.engine.digest import digest_model

    found = digest_model(model)
    if (found.model, dict(found.external_data)) != wanted:
        raise InvalidArgument(
            f"{doing}: it was written for {name or 'a model'} with SHA-256 {wanted[0][:12]}..., "
            f"and the model given has {found.model[:12]}...; give that model, or tune this one",
            "tuned",
        )


def _artefact(path: Path, sha256: str, doing: str) -> str:
    if not path.is_file():
        raise NotFound(
            f"{doing}: its artefact is not at {str(path)!r}; move it there, or tune again",
            str(path),
        )
    found = file_sha256(path)
    if found != sha256:
        raise InvalidModel(
            f"{doing}: the artefact {path.name!r} has SHA-256 {found[:12]}..., expected "
            f"{sha256[:12]}...: it is not the file that was measured; tune again",
            str(path),
        )
    return str(path)


def _check_backend(backend: str, doing: str) -> None:
    """Before a long build, and with the reason why it was asked for."""
    from zerolane.model.load import BACKENDS, _gpu
    from zerolane.runtimes import onnxruntime

    if backend not in BACKENDS[1:]:
        raise InvalidArgument(
            f"{doing}: its backend is {backend!r}, expected one of {', '.join(BACKENDS[1:])}; tune "
            "again with this release of zerolane",
            "backend",
        )
    try:
        if backend == "onnxruntime":
            onnxruntime.open_library()
        else:
            _gpu(backend, "auto")
    except Error as error:
        raise Unavailable(
            f"{doing}: it was tuned for backend {backend!r}, which is not here ({error}); tune "
            "again on this machine",
            backend,
        ) from error
