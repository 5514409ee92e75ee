"""The model to build from: where its bytes are and what they say, before any library is asked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zerolane import _native
from zerolane.engine.digest import Memo, ModelDigest, digest_model
from zerolane.errors import InvalidArgument, InvalidModel, NotFound

Dims = tuple[int | None, ...]


@dataclass(frozen=True)
class Source:
    """A model: a path, or bytes with the folder of their external data."""

    name: str
    path: str | None
    content: bytes | None
    folder: str | None
    facts: Mapping[str, Any]

    @cached_property
    def inputs(self) -> dict[str, Dims | None]:
        """The inputs a caller gives, each with its shape; None: a free dimension, or no rank."""
        own = {tensor["name"] for tensor in self.facts["initializers"]}
        return {
            name: None if shape is None else tuple(d if type(d) is int else None for d in shape)
            for name, _, _, shape in self.facts["inputs"]
            if name not in own
        }

    @property
    def nodes(self) -> list[Mapping[str, Any]]:
        """The nodes of the main graph, in the file's order."""
        return [node for node in self.facts["nodes"] if not node["path"]]

    def digest(self, memo: Memo | None) -> ModelDigest:
        """Of the model's bytes and of the files beside it."""
        if self.path is not None:
            return digest_model(self.path, memo)
        assert self.content is not None
        files = self.external_files()
        if not files:
            return digest_model(self.content)
        digests = {place: _file_digest(path) for place, path in files.items()}
        return ModelDigest(hashlib.sha256(self.content).hexdigest(), digests, {})

    def external_files(self) -> dict[str, str]:
        """Location to path of every file with weights beside the model. Checks that they exist."""
        tensors = (*self.facts["initializers"], *self.facts["constants"])
        places = sorted({str(t["location"]) for t in tensors if t["external"]})
        found = {}
        for place in places:
            if self.folder is None:
                raise InvalidArgument(
                    f"building {self.name}: its weights lie in a file {place!r}, and bytes have no "
                    "folder; give folder=, or the path of the model",
                    "folder",
                )
            inside = os.path.normpath(place)
            if not place or os.path.isabs(place) or inside.split(os.sep)[0] == "..":
                raise InvalidModel(
                    f"building {self.name}: its weights point at {place!r}, expected a file in the "
                    "model's own folder; save the model again with a relative location",
                    place,
                )
            path = os.path.join(self.folder, inside)
            if not os.path.isfile(path):
                raise NotFound(
                    f"building {self.name}: its weights lie in {place!r}, but there is no file "
                    f"{path!r}; put it beside the model",
                    path,
                )
            found[place] = path
        return found


def open_source(model: object, folder: str | os.PathLike[str] | None) -> Source:
    """Look at a path or at bytes. Raises NotFound, InvalidModel, InvalidArgument, Unsupported."""
    if isinstance(model, bytes | bytearray | memoryview):
        content = bytes(model)
        base = None if folder is None else os.path.abspath(os.fspath(folder))
        return _checked(Source("<bytes>", None, content, base, _native.read_model(content)))
    if isinstance(model, str | os.PathLike):
        path = os.fspath(model)
        if isinstance(path, bytes):
            path = os.fsdecode(path)
        if not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path) else "no file"
            raise NotFound(
                f"building {os.path.basename(path)}: there is {what} {path!r} (in "
                f"{os.getcwd()!r}); give the path of an .onnx file",
                path,
            )
        if folder is not None:
            raise InvalidArgument(
                "reading build option 'folder': a path knows its own folder; give folder= with "
                "bytes only",
                "folder",
            )
        path = os.path.abspath(path)
        facts = _native.read_model(path)
        return _checked(Source(os.path.basename(path), path, None, os.path.dirname(path), facts))
    raise InvalidArgument(
        f"building a model: a {type(model).__name__} was given, expected a path or bytes; give "
        "model.SerializeToString() for an onnx.ModelProto",
        "model",
    )


def _checked(source: Source) -> Source:
    """The parsers of some releases take nearly anything for an empty model."""
    facts = source.facts
    if not facts["outputs"] or not facts["nodes"]:
        missing = "outputs" if not facts["outputs"] else "nodes"
        raise InvalidModel(
            f"building {source.name}: its graph has no {missing}, expected a model that computes "
            "something; check the export",
            source.name,
        )
    source.external_files()
    return source


def _file_digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
