"""The model to build from: where its bytes are and what they say, before any library is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zerolane import _native
from zerolane.engine.atomic import absolute
from zerolane.engine.digest import Memo, ModelDigest, digest_model
from zerolane.engine.file import what_it_is
from zerolane.errors import InvalidArgument, InvalidModel, NotFound

Dims = tuple[int | None, ...]
_MOST_BYTES = 2**31 - 1


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

    @property
    def metadata(self) -> dict[str, Any]:
        """What the model says of itself, in the form of `Session.metadata`."""
        facts = self.facts
        return {
            "producer": facts["producer"],
            "graph_name": facts["graph_name"],
            "domain": facts["domain"],
            "description": facts["doc"],
            "version": facts["model_version"],
            "custom": dict(facts["metadata"]),
        }

    @property
    def locations(self) -> list[str]:
        """The names of the files with weights, as the model gives them."""
        tensors = (*self.facts["initializers"], *self.facts["constants"])
        return sorted({str(tensor["location"]) for tensor in tensors if tensor["external"]})

    def digest(self, memo: Memo | None) -> ModelDigest:
        """Of the model's bytes and of the files beside it."""
        if self.path is not None:
            # What goes into the memo is read together with the digest.
            return digest_model(self.path, memo, locations=self.locations if memo is None else None)
        assert self.content is not None
        return digest_model(self.content, memo, folder=self.folder, locations=self.locations)

    def external_files(self) -> dict[str, str]:
        """Location to path of every file with weights beside the model. Checks that they exist."""
        found = {}
        for place in self.locations:
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
        base = None if folder is None else absolute(read_path(folder, "folder"), "folder")
        facts = _read_model(content, "<bytes>")
        return _checked(Source("<bytes>", None, content, base, facts))
    if isinstance(model, str | os.PathLike):
        path = read_path(model, "model")
        # For people: what no character set knows would not get through the native core either.
        name = os.fsencode(os.path.basename(path)).decode(errors="replace")
        if not os.path.isfile(path):
            what = "a folder" if os.path.isdir(path) else "no file"
            raise NotFound(
                f"building {name}: there is {what} {path!r} (in {_here()}); give the path of an "
                ".onnx file",
                path,
            )
        if folder is not None:
            raise InvalidArgument(
                "reading build option 'folder': a path knows its own folder; give folder= with "
                "bytes only",
                "folder",
            )
        path = absolute(path, "model")
        facts = _read_model(path, name)
        return _checked(Source(name, path, None, os.path.dirname(path), facts))
    raise InvalidArgument(
        f"building a model: a {type(model).__name__} was given, expected a path or bytes; give "
        "model.SerializeToString() for an onnx.ModelProto",
        "model",
    )


def _read_model(model: str | bytes, name: str) -> dict[str, Any]:
    """What the native reader tells of a model. Raises InvalidModel, Unsupported, NotFound."""
    try:
        return _native.read_model(model)
    except UnicodeDecodeError as error:
        raise InvalidModel(
            f"building {name}: a name or text in it is {error.object!r:.60}, expected UTF-8; the "
            "file is damaged: export it again",
            name,
        ) from error
    except InvalidModel as error:
        found = what_it_is(_start(model))
        if found is None:
            raise InvalidModel(f"building {name}: {error}", name) from error
        raise InvalidModel(
            f"building {name}: it is {found}, expected an ONNX model; give the model that it was "
            "built from",
            name,
        ) from error


def _start(model: str | bytes) -> bytes:
    if isinstance(model, bytes):
        return model[:16]
    with open(model, "rb") as file:
        return file.read(16)


def read_path(given: object, what: str) -> str:
    """A path as text. Raises InvalidArgument for what no file can be called."""
    try:
        path = os.fsdecode(given)  # type: ignore[arg-type]
        os.fsencode(path)
    except Exception as error:
        raise InvalidArgument(
            f"building an engine: {what} is no path ({type(error).__name__}: {error}), expected "
            "text or os.PathLike; correct it",
            what,
        ) from error
    if not path or "\0" in path:
        raise InvalidArgument(
            f"building an engine: {what} is {path!r:.60}, expected a path; correct it", what
        )
    return path


def _here() -> str:
    try:
        return repr(os.getcwd())
    except OSError:
        return "a folder that is gone"


def _checked(source: Source) -> Source:
    """The parsers of some releases take nearly anything for an empty model."""
    size = os.path.getsize(source.path) if source.path is not None else len(source.content or b"")
    if size > _MOST_BYTES:
        raise InvalidModel(
            f"building {source.name}: it has {size} bytes, expected {_MOST_BYTES} at most, as in "
            "every file of protocol buffers; save its weights as external data",
            source.name,
        )
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
