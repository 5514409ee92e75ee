"""Reading ONNX models without their large tensors in the way, and writing them whole or not at all.

A model read here is light whatever its size: the payload of each large tensor lies in a `Payloads`
(memory, or a map of the external file), and the tensor in the proto only says where. So models
beyond 2 GB pass through onnx's inference, inliner and converter, which stop at 2 GB of protobuf.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, numpy_helper

from zerolane.engine.atomic import is_special
from zerolane.errors import Error, InvalidArgument, InvalidModel, NotFound

Bytes = NDArray[np.uint8]
Source = str | os.PathLike[str] | bytes | ModelProto

_INLINE_BYTES = 1024
MOST_PROTO_BYTES = 1_900_000_000  # protobuf refuses messages of 2 GiB
_ALIGNMENT = 4096  # so that a file of weights can be mapped
_MARK = "zerolane-payload"


@dataclass
class Payloads:
    """The bytes of large tensors, little-endian as in `raw_data`; read-only."""

    arrays: list[Bytes] = field(default_factory=list)

    def add(self, tensor: TensorProto, payload: Bytes) -> None:
        """Keep `payload` here and leave only its place in `tensor`."""
        kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        kept.data_location = TensorProto.EXTERNAL
        kept.external_data.add(key="location", value=_MARK)
        kept.external_data.add(key="offset", value=str(len(self.arrays)))
        tensor.CopyFrom(kept)
        self.arrays.append(payload)

    def of(self, tensor: TensorProto) -> Bytes | None:
        """The payload of a tensor that `add` emptied, None for any other tensor."""
        told = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location != TensorProto.EXTERNAL or told.get("location") != _MARK:
            return None
        return self.arrays[int(told["offset"])]

    def floats(self, tensor: TensorProto) -> NDArray[np.float32]:
        """The values of a float32 tensor, in its shape."""
        payload = self.of(tensor)
        try:
            if payload is None:
                return np.asarray(numpy_helper.to_array(tensor))
            return payload.view("<f4").reshape(tuple(tensor.dims))
        except (ValueError, TypeError) as error:
            raise _unreadable(tensor, error) from error


@dataclass
class Loaded:
    """A model apart from its large tensors. `bytes` is the size of model and external data.

    sha256: of the model's file, or of the bytes (of a proto: as it serializes, "" beyond 2 GB).
    """

    model: ModelProto
    payloads: Payloads
    name: str
    bytes: int
    files: tuple[Path, ...] = ()  # model and external data, where it came from disk
    sha256: str = ""

    @property
    def external(self) -> bool:
        return len(self.files) > 1

    def external_sha256(self) -> dict[str, str]:
        """SHA-256 of each file of external data, by its name; reads all of them."""
        found = {}
        for path in self.files[1:]:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(self.files[0].parent).as_posix()] = digest
        return found


def read(source: Source, doing: str) -> Loaded:
    """Read a model from a path, bytes or a `ModelProto` (which is copied, never changed)."""
    if isinstance(source, ModelProto):
        model, name, size, path = ModelProto(), "model in memory", source.ByteSize(), None
        model.CopyFrom(source)
        small = size < MOST_PROTO_BYTES
        data = source.SerializeToString(deterministic=True) if small else b""
    elif isinstance(source, bytes | bytearray | memoryview):
        data, name, path = bytes(source), "model in memory", None
        model, size = _parse(data, name, doing), len(data)
    elif isinstance(source, str | os.PathLike):
        path = Path(os.fspath(source))
        if not path.is_file():
            raise NotFound(
                f"{doing} {path.name}: there is no file {str(path)!r} (in {os.getcwd()!r}); "
                "check the path",
                str(path),
            )
        data = path.read_bytes()
        model, name, size = _parse(data, path.name, doing), path.name, len(data)
    else:
        raise InvalidArgument(
            f"{doing} a model: a {type(source).__name__} was given, expected a path, bytes or an "
            "onnx.ModelProto; convert it first",
            "model",
        )
    payloads = Payloads()
    maps: dict[Path, Bytes] = {}
    try:
        _take_payloads(model, path, payloads, maps, f"{doing} {name}")
    except UnicodeDecodeError as error:
        raise InvalidModel(
            f"{doing} {name}: a name in it is no UTF-8 ({error}), expected text; export it again",
            name,
        ) from error
    size += sum(m.nbytes for m in maps.values())
    files = () if path is None else (path.resolve(), *maps)
    sha256 = hashlib.sha256(data).hexdigest() if data else ""
    return Loaded(model, payloads, name, size, files, sha256)


def _take_payloads(
    model: ModelProto, path: Path | None, payloads: Payloads, maps: dict[Path, Bytes], doing: str
) -> None:
    for tensor in tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _map_external(tensor, path, payloads, maps, doing)
        elif tensor.data_type != TensorProto.STRING and tensor.ByteSize() > _INLINE_BYTES:
            if not tensor.HasField("raw_data"):
                _to_raw(tensor)
            payloads.add(tensor, np.frombuffer(tensor.raw_data, np.uint8))


def tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model: initializers and attributes, in bodies and functions too."""

    def of_graph(graph: GraphProto) -> Iterator[TensorProto]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        yield from of_nodes(graph.node)

    def of_nodes(nodes: Any) -> Iterator[TensorProto]:
        for node in nodes:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    yield attribute.t
                yield from attribute.tensors
                for graph in (attribute.g, *attribute.graphs):
                    yield from of_graph(graph)

    yield from of_graph(model.graph)
    for function in model.functions:
        yield from of_nodes(function.node)


def fill(model: ModelProto, payloads: Payloads) -> ModelProto:
    """A copy of the model with its payloads back inside; it must stay below 2 GB."""
    whole = ModelProto()
    whole.CopyFrom(model)
    for tensor in tensors_of(whole):
        payload = payloads.of(tensor)
        if payload is not None:
            del tensor.external_data[:]
            tensor.ClearField("data_location")
            tensor.raw_data = payload.tobytes()
    return whole


def size_of(model: ModelProto, payloads: Payloads) -> int:
    """The bytes of the model with its payloads."""
    held = (payloads.of(tensor) for tensor in tensors_of(model))
    return int(model.ByteSize()) + sum(p.nbytes for p in held if p is not None)


class SharedData:
    """A file of external data that several models share: each payload is written to it once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.touch()
        self._places: dict[int, tuple[int, Bytes]] = {}  # which are kept, so that no id comes twice

    def refer(self, model: ModelProto, payloads: Payloads) -> ModelProto:
        """A copy of the model that points at the payloads in the file, which must lie beside it."""
        told = ModelProto()
        told.CopyFrom(model)
        with self.path.open("r+b") as file:
            for tensor in tensors_of(told):
                payload = payloads.of(tensor)
                if payload is None:
                    continue
                offset = self._offset(file, payload)
                del tensor.external_data[:]
                for key, value in (
                    ("location", self.path.name),
                    ("offset", str(offset)),
                    ("length", str(payload.nbytes)),
                ):
                    tensor.external_data.add(key=key, value=value)
        return told

    def _offset(self, file: BinaryIO, payload: Bytes) -> int:
        known = self._places.get(id(payload))
        if known is not None:
            return known[0]
        offset = -(-file.seek(0, os.SEEK_END) // _ALIGNMENT) * _ALIGNMENT
        file.seek(offset)
        file.write(payload.data)
        self._places[id(payload)] = offset, payload
        return offset


def write(model: ModelProto, payloads: Payloads, path: Path, *, external: bool) -> int:
    """Write the model, its payloads beside it in `<name>.data` if asked for or beyond 2 GB.

    Returns the bytes written.
    """
    if not external and size_of(model, payloads) < MOST_PROTO_BYTES:
        return path.write_bytes(fill(model, payloads).SerializeToString())
    data = data_file(path)
    data.unlink(missing_ok=True)
    told = SharedData(data).refer(model, payloads)
    return data.stat().st_size + path.write_bytes(told.SerializeToString())


def data_file(path: Path) -> Path:
    """Where `write` puts external data."""
    return path.with_name(path.name + ".data")


@contextmanager
def replacing(path: Path, sources: tuple[Path, ...], doing: str) -> Iterator[Path]:
    """A path in a new folder beside `path`; what was written there is moved to `path` at the end.

    Nothing is moved, and nothing left, where the body raises. With external data, two files are
    renamed one after the other: data first.
    """
    targets = (path.resolve(), data_file(path.resolve()))
    if set(targets) & set(sources):
        raise InvalidArgument(
            f"{doing}: the output {str(path)!r} would overwrite the model itself or its external "
            "data, expected another file; give another name",
            str(path),
        )
    try:
        beside = None if is_special(path) else path.parent
        folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=beside))
    except OSError as error:
        raise InvalidArgument(
            f"{doing}: the output {str(path)!r} cannot be written ({error.strerror}), expected a "
            "name in a folder that exists and takes files; create the folder or choose another",
            str(path),
        ) from error
    try:
        fresh = folder / path.name
        yield fresh
        for made, target in ((data_file(fresh), data_file(path)), (fresh, path)):
            if made.exists():
                _flush(made)
                _put(made, target)
    except OSError as error:
        if isinstance(error, Error):
            raise
        raise InvalidArgument(
            f"{doing}: writing {str(path)!r} failed ({error.strerror}), expected room and "
            "permission for it; free some space or choose another folder",
            str(path),
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(made: Path, target: Path) -> None:
    """Renames; a device or a pipe (/dev/null) takes the bytes instead of being replaced."""
    if is_special(target):
        with made.open("rb") as file, target.open("wb") as out:
            shutil.copyfileobj(file, out)
    else:
        os.replace(made, target)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _parse(data: bytes, name: str, doing: str) -> ModelProto:
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, whichever protobuf that is
        raise InvalidModel(
            f"{doing} {name}: {len(data):,} bytes are no ONNX model ({error}), expected a "
            "serialized ModelProto; check that the file is complete and no .ort file",
            name,
        ) from error
    if not model.HasField("graph"):
        raise InvalidModel(
            f"{doing} {name}: {len(data):,} bytes hold no graph, expected an ONNX model; "
            "check that the file is complete",
            name,
        )
    return model


def _to_raw(tensor: TensorProto) -> None:
    try:
        raw = numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name)
    except (ValueError, TypeError) as error:
        raise _unreadable(tensor, error) from error
    tensor.CopyFrom(raw)


def _unreadable(tensor: TensorProto, error: Exception) -> InvalidModel:
    return InvalidModel(
        f"reading tensor {tensor.name!r}: its values cannot be read ({error}), expected those of "
        f"shape {list(tensor.dims)}; export the model again",
        tensor.name,
    )


def _map_external(
    tensor: TensorProto, model: Path | None, payloads: Payloads, maps: dict[Path, Bytes], doing: str
) -> None:
    told = {entry.key: entry.value for entry in tensor.external_data}
    if model is None:
        raise InvalidArgument(
            f"{doing}: tensor {tensor.name!r} lies in the external file {told.get('location')!r}, "
            "but a model in memory has no folder to look in; give the path of the model",
            tensor.name,
        )
    folder = model.resolve().parent
    path = (folder / told.get("location", "")).resolve()
    if not path.is_relative_to(folder):
        raise InvalidModel(
            f"{doing}: tensor {tensor.name!r} points to {told.get('location')!r}, outside of the "
            "model's folder; put the file beside the model and name it relative to that",
            tensor.name,
        )
    if not path.is_file():
        raise NotFound(
            f"{doing}: the external data of tensor {tensor.name!r} is to be in {str(path)!r}, "
            "which is no file; copy it beside the model",
            str(path),
        )
    if path not in maps:
        empty = path.stat().st_size == 0
        maps[path] = np.zeros(0, np.uint8) if empty else np.memmap(path, np.uint8, "r")
    try:
        offset = int(told.get("offset", "0"))
        length = int(told["length"]) if "length" in told else maps[path].nbytes - offset
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > maps[path].nbytes:
        raise InvalidModel(
            f"{doing}: tensor {tensor.name!r} wants bytes {told.get('offset', 0)} on of "
            f"{path.name}, {told.get('length', 'all')} of them, the file has "
            f"{maps[path].nbytes}; copy the file again",
            tensor.name,
        )
    payload = maps[path][offset : offset + length]
    if length <= _INLINE_BYTES:
        small = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        small.raw_data = payload.tobytes()
        tensor.CopyFrom(small)
        return
    payloads.add(tensor, payload)
