"""What a model's bytes are, external data included, without reading them again when unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerolane import _native
from zerolane.engine.atomic import write_atomic
from zerolane.errors import InvalidArgument, NotFound

# A write through a mapped page moves the time stamps only when the page first becomes dirty, and
# the kernel cleans it up to half a minute later: stamps younger than this prove nothing.
_SETTLE_SECONDS = 60.0

_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True, slots=True)
class ModelDigest:
    """SHA-256 of a model: of the file (or bytes) itself, and of each external file by location."""

    model: str
    external_data: Mapping[str, str]
    _stamps: Mapping[str, _Stamp]

    def unchanged(self) -> bool:
        """Whether the files still have the size, identity and times that they were read with."""
        try:
            return all(_stamp(os.stat(path)) == stamp for path, stamp in self._stamps.items())
        except OSError:
            return False


class Memo:
    """Digests of files that have not changed since, kept in a folder, one small file each.

    A file is recognised by its path, device, inode, size and times of change, and remembered only
    once it has been left alone for `settle_seconds`: a quick rewrite within the resolution of the
    clock, or through mapped memory, can then not be taken for the old content. A folder that
    cannot be written remembers nothing.
    """

    def __init__(self, folder: Path, settle_seconds: float = _SETTLE_SECONDS) -> None:
        self._folder = folder
        self._settle_seconds = settle_seconds

    def get(self, path: str, stamp: _Stamp) -> dict[str, Any] | None:
        """What was put for this path and stamp: "digest", and "external" for a model."""
        try:
            known = json.loads(self._file(path).read_bytes())
        except (OSError, ValueError):
            return None
        if not isinstance(known, dict) or known.get("path") != path:
            return None
        return known if known.get("stamp") == list(stamp) else None

    def put(self, path: str, stamp: _Stamp, facts: Mapping[str, object]) -> None:
        """Remember `facts`, if the file is old enough to be sure of."""
        newest = max(stamp[3], stamp[4]) / 1e9
        if not 0 <= newest <= time.time() - self._settle_seconds:
            return
        text = json.dumps({"path": path, "stamp": stamp, **facts}).encode()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file(path), [text], durable=False)
        except OSError:
            return

    def forget_missing(self) -> None:
        """Forget files that are no more."""
        for path in self._folder.glob("*.json"):
            try:
                if not os.path.exists(json.loads(path.read_bytes())["path"]):
                    path.unlink()
            except (OSError, ValueError, TypeError, KeyError):
                continue

    def _file(self, path: str) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"


def digest_model(
    model: str | os.PathLike[str] | bytes | bytearray | memoryview,
    memo: Memo | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    locations: Sequence[str] | None = None,
) -> ModelDigest:
    """Digests of an ONNX model and of the external files it names. Blocks; reads all of them.

    With a `memo` (`Cache.memo`) files that it knows are not read again. folder: where the external
    files of bytes lie. locations: their names, where the caller has read the model already. Raises
    NotFound (the model or an external file is missing), InvalidModel (not ONNX), InvalidArgument.
    """
    stamps: dict[str, _Stamp] = {}
    if isinstance(model, bytes | bytearray | memoryview):
        data = bytes(model)
        name = "<bytes>"
        facts: dict[str, Any] = {"digest": hashlib.sha256(data).hexdigest()}
        named = _locations(data) if locations is None else locations
        if named and folder is None:
            raise InvalidArgument(
                f"reading a model from bytes: it keeps data in {named[0]!r}, expected all of "
                "it in the bytes; give the path of the model file instead",
                "model",
            )
        base = "" if folder is None else os.fspath(folder)
    else:
        path = os.path.realpath(model)
        name, base = os.path.basename(path), os.path.dirname(path)
        facts = _digest(path, f"reading model {name}", memo, stamps, locations, is_model=True)
        named = facts["external"]
    external = {}
    for location in named:
        data_path = os.path.realpath(os.path.join(base, location))
        doing = f"reading external data {location!r} of model {name}"
        found = _digest(data_path, doing, memo, stamps, None, is_model=False)
        external[location] = found["digest"]
    return ModelDigest(facts["digest"], external, stamps)


def _digest(
    path: str,
    doing: str,
    memo: Memo | None,
    stamps: dict[str, _Stamp],
    locations: Sequence[str] | None,
    *,
    is_model: bool,
) -> dict[str, Any]:
    try:
        if not os.path.isfile(path):
            raise FileNotFoundError(2, "no such file")
        with open(path, "rb") as file:
            stamp = _stamp(os.fstat(file.fileno()))
            stamps[path] = stamp
            known = memo.get(path, stamp) if memo is not None else None
            if known is not None and (isinstance(known.get("external"), list) or not is_model):
                return known
            facts: dict[str, Any] = {"digest": hashlib.file_digest(file, "sha256").hexdigest()}
            if is_model:
                facts["external"] = _locations(path) if locations is None else list(locations)
            if memo is not None and _stamp(os.stat(path)) == stamp:
                memo.put(path, stamp, facts)
            return facts
    except OSError as error:
        raise NotFound(
            f"{doing}: {path!r} cannot be read ({error.strerror}); check the path, and that the "
            "file lies where the model says",
            path,
        ) from error


def _locations(model: str | bytes) -> list[str]:
    found = _native.read_model(model)
    tensors = (*found["initializers"], *found["constants"])
    return sorted({tensor["location"] for tensor in tensors if tensor["external"]})


def _stamp(stat: os.stat_result) -> _Stamp:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
