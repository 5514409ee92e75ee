"""The engine file: a header, the manifest, an optional signature, the plan.

0   magic, format version, sizes of manifest and signature, place and size of the plan
40  SHA-256 of everything before the plan but itself
72  manifest (JSON), signature (96 bytes or none), zeros
plan, from a multiple of 4096 to the end of the file
"""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from zerolane.engine import signature as signatures
from zerolane.engine.atomic import absolute, write_atomic
from zerolane.engine.manifest import FORMAT_VERSION, Manifest
from zerolane.errors import DeviceError, Error, InvalidArgument, InvalidModel, NotFound, Unsupported

# As in PNG: a transfer as text, or one that drops the eighth bit, spoils it.
MAGIC = b"\x89ZLE\r\n\x1a\n"
_HEADER = struct.Struct("<8sIIIIQQ")
_START = _HEADER.size + 32
_ALIGNMENT = 4096
_MOST_MANIFEST = 64 * 2**20
_AGAIN = "build it again, or copy it again from where it was whole"


class Engine:
    """A built plan and its manifest. Immutable; any thread may use it.

    What `zl.build` returns; `Engine.read` gives one for a file.
    """

    __slots__ = ("_manifest", "plan")

    plan: memoryview
    """The vendor library's bytes, read-only; owns what it shows (bytes, or a mapped file)."""

    def __init__(self, manifest: Manifest, plan: bytes | bytearray | memoryview) -> None:
        self._manifest = manifest
        self.plan = memoryview(plan).cast("B").toreadonly()

    @property
    def manifest(self) -> Manifest:
        """What it was built from, with and for. The plan's digest is taken when first asked for."""
        if not self._manifest.plan_digest:
            self._manifest = self._manifest.with_plan(self.plan)
        return self._manifest

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, require_signature: Any = None) -> Engine:
        """The engine in a file; see `read`."""
        return cls(*read(path, require_signature=require_signature))

    def save(self, path: str | os.PathLike[str], *, sign: Any = None) -> None:
        """Write it as an engine file; see `write`."""
        _write(path, self.manifest, self.plan, sign)

    def __repr__(self) -> str:
        m = self._manifest
        return (
            f"<zerolane.Engine of {m.model}: {m.backend} {m.library_version}, "
            f"{m.precision or 'as typed'}, {self.plan.nbytes / 2**20:.1f} MiB>"
        )


@dataclass(frozen=True, slots=True)
class Head:
    """All of an engine file but its plan, which begins at `plan_offset`."""

    manifest: Manifest
    text: bytes
    signature: bytes | None
    plan_offset: int
    size: int


def write(
    path: str | os.PathLike[str],
    manifest: Manifest,
    plan: bytes | bytearray | memoryview,
    *,
    sign: Any = None,
) -> None:
    """Write an engine file. Blocks until it is on disk; readers see the old file or the new one.

    The plan's size and digest are put into the manifest. sign: an Ed25519 private key (see
    `signature.sign`). Raises NotFound (no such folder), InvalidArgument (a path that may not be
    written), DeviceError (disk full or failing).
    """
    view = memoryview(plan).cast("B")
    _write(path, manifest.with_plan(view), view, sign)


def _write(path: str | os.PathLike[str], manifest: Manifest, view: memoryview, sign: Any) -> None:
    """manifest: with the plan's size and digest."""
    text = manifest.to_json()
    if len(text) > _MOST_MANIFEST:
        raise InvalidArgument(
            f"writing engine {os.path.basename(path)}: its manifest takes {len(text)} bytes, "
            f"expected {_MOST_MANIFEST} at most; drop metadata from the model",
            os.fspath(path),
        )
    signature = b"" if sign is None else signatures.sign(text, sign)
    end = _START + len(text) + len(signature)
    offset = -(-end // _ALIGNMENT) * _ALIGNMENT
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, len(text), len(signature), 0, offset, view.nbytes)
    rest = text + signature + bytes(offset - end)
    parts = (head + hashlib.sha256(head + rest).digest() + rest, view)
    target = Path(os.path.realpath(absolute(os.fspath(path), "engine")))
    try:
        write_atomic(target, parts)
    except OSError as error:
        raise _cannot_write(target, offset + view.nbytes, error) from error


def read(
    path: str | os.PathLike[str], *, require_signature: Any = None
) -> tuple[Manifest, memoryview]:
    """The manifest and the plan of an engine file, checked to the last byte.

    The plan is a read-only view of the mapped file, which it keeps mapped. With
    `require_signature` (a public key or a sequence of them, see `signature.check`) the plan is
    a private copy, so that nobody can change it after the check. Raises NotFound, InvalidModel
    (not an engine file, cut short, changed, not signed as required), Unsupported (a newer format).
    """
    name = os.fspath(path)
    with _open(name) as file:
        head = _read_head(file, name)
        if require_signature is not None:
            signatures.check(head.text, head.signature, require_signature, name)
            file.seek(head.plan_offset)
            plan = memoryview(file.read(head.manifest.plan_size))
        else:
            plan = _map(file.fileno(), head, name)
    _check_plan(head.manifest, plan, name)
    return head.manifest, plan


def read_head(path: str | os.PathLike[str]) -> Head:
    """All but the plan, checked as `read` does; of the plan only that its bytes are there."""
    name = os.fspath(path)
    with _open(name) as file:
        return _read_head(file, name)


def is_engine_file(path: str | os.PathLike[str]) -> bool:
    """Whether the file begins as an engine file does. False also where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def what_it_is(start: bytes) -> str | None:
    """What a file that begins so holds, in words; None for neither of what `zl.load` is given.

    start: its first bytes. TensorRT's own plans begin with a letter and "trt", no ONNX model does.
    """
    if start.startswith(MAGIC):
        return "an engine file of zerolane"
    return "a bare plan of TensorRT" if start[1:4] == b"trt" else None


def _check_plan(manifest: Manifest, plan: memoryview, where: str) -> None:
    digest = hashlib.sha256(plan).hexdigest()
    if plan.nbytes != manifest.plan_size or digest != manifest.plan_digest:
        _refuse(
            where,
            f"its plan has {plan.nbytes} bytes with digest {digest[:12]}, expected "
            f"{manifest.plan_size} with {manifest.plan_digest[:12]}: it was changed",
        )


def _open(name: str) -> Any:
    try:
        return open(name, "rb")
    except OSError as error:
        raise NotFound(
            f"reading engine {os.path.basename(name)}: {name!r} cannot be opened "
            f"({error.strerror}); check the path",
            name,
        ) from error


def _read_head(file: Any, name: str) -> Head:
    size = os.fstat(file.fileno()).st_size
    start = file.read(_START)
    if len(start) < _START or start[: len(MAGIC)] != MAGIC:
        _refuse_foreign(name, size, start)
    _, version, text_size, signature_size, _, offset, plan_size = _HEADER.unpack_from(start)
    if version > FORMAT_VERSION:
        raise Unsupported(
            f"reading engine {os.path.basename(name)}: its format version is {version}, expected "
            f"{FORMAT_VERSION} at most; upgrade zerolane, or build the engine with this release",
            name,
        )
    end = _START + text_size + signature_size
    sizes_fit = (
        version == FORMAT_VERSION
        and text_size <= _MOST_MANIFEST
        and signature_size in (0, signatures.SIZE)
        and offset == -(-end // _ALIGNMENT) * _ALIGNMENT
    )
    if not sizes_fit:
        _refuse(name, "its header contradicts itself: it was changed")
    if size != offset + plan_size:
        kind = "cut short" if size < offset + plan_size else "longer than it was written"
        _refuse(name, f"it has {size} bytes, expected {offset + plan_size}: it is {kind}")
    rest = file.read(offset - _START)
    if hashlib.sha256(start[: _HEADER.size] + rest).digest() != start[_HEADER.size :]:
        _refuse(name, "its manifest has another digest than its header tells: it was changed")
    text, signature = rest[:text_size], rest[text_size : text_size + signature_size]
    manifest = Manifest.from_json(text, name)
    if manifest.plan_size != plan_size:
        _refuse(
            name,
            f"its manifest tells of {manifest.plan_size} bytes of plan, its header of "
            f"{plan_size}: it was changed",
        )
    return Head(manifest, text, signature or None, offset, size)


def _map(descriptor: int, head: Head, name: str) -> memoryview:
    if head.manifest.plan_size == 0:
        return memoryview(b"")
    try:
        mapped = mmap.mmap(
            descriptor, head.manifest.plan_size, prot=mmap.PROT_READ, offset=head.plan_offset
        )
    except OSError as error:
        raise DeviceError(
            f"reading engine {os.path.basename(name)}: its {head.size} bytes cannot be mapped "
            f"({error.strerror}); copy it to a local disk",
            name,
        ) from error
    return memoryview(mapped)


def _refuse(name: str, found: str) -> NoReturn:
    raise InvalidModel(f"reading engine {os.path.basename(name)}: {found}; {_AGAIN}", name)


def _refuse_foreign(name: str, size: int, start: bytes) -> NoReturn:
    found = f"begins with {start[:8].hex(' ')}" if start else "is empty"
    raise InvalidModel(
        f"reading engine {os.path.basename(name)}: the file has {size} bytes and {found}, expected "
        f"an engine file of zerolane ({MAGIC.hex(' ')}); make one with zl.build or "
        "`zerolane build`: a plan that another tool wrote has no manifest to check it by",
        name,
    )


def _cannot_write(path: Path, size: int, error: OSError) -> Error:
    doing = f"writing engine {path.name}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        text = f"{doing}: there is no folder {str(path.parent)!r}; make it, or choose another"
        return NotFound(text, str(path))
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR):
        text = f"{doing}: {str(path)!r} may not be written ({error.strerror}); choose another path"
        return InvalidArgument(text, str(path))
    text = (
        f"{doing}: its {size} bytes could not be written to {str(path.parent)!r} "
        f"({error.strerror}); make room there, or choose another folder"
    )
    return DeviceError(text, str(path))
