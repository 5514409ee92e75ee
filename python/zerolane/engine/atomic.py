"""Files that are there whole or not at all, also when the writer is killed or the disk is full."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from zerolane.errors import NotFound

Bytes = bytes | bytearray | memoryview

_SUFFIX = ".zl-tmp"
_MOST_NAME = 200  # of 255 bytes; a name of many bytes a character is refused by the system
# A temporary file is locked by its writer just after it is made; younger ones are left alone.
_GRACE_SECONDS = 60.0


def write_atomic(path: Path, parts: Iterable[Bytes], *, durable: bool = True) -> None:
    """Write `parts` one after the other to `path`, replacing what is there.

    Written under a temporary name in the same folder and renamed: a reader sees the old file or
    the new one. Blocks until it is on disk, unless not `durable`. What killed writers of the same
    path left behind is removed. A device or a pipe is written to and stays what it is. Raises
    OSError, and leaves nothing of its own then.
    """
    if is_special(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            _write_all(descriptor, parts)
        finally:
            os.close(descriptor)
        return
    remove_stale(path.parent, path.name)
    temporary = path.with_name(f".{path.name[:_MOST_NAME]}.{os.urandom(6).hex()}{_SUFFIX}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with contextlib.suppress(OSError):  # a filesystem without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _write_all(descriptor, parts)
        if durable:
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    if durable:
        _sync_folder(path.parent)


def is_special(path: str | os.PathLike[str]) -> bool:
    """Whether `path` leads to a device, a pipe or a socket, which a rename would take away."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_all(descriptor: int, parts: Iterable[Bytes]) -> None:
    for part in parts:
        rest = memoryview(part).cast("B")
        while rest.nbytes:
            rest = rest[os.write(descriptor, rest) :]


def remove_stale(folder: Path, name: str = "") -> list[Path]:
    """Remove temporary files whose writer is gone, of the file `name` or of all; return them."""
    removed = []
    for path in folder.glob(f".{glob.escape(name[:_MOST_NAME]) or '*'}.*{_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime < _GRACE_SECONDS:
                continue
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        except OSError:  # its writer lives, or the folder is read-only
            continue
        finally:
            os.close(descriptor)
        removed.append(path)
    return removed


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power failure, where the filesystem can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def absolute(path: str, what: str) -> str:
    """A path from the root on, with its ".." (links). Raises NotFound: no current folder."""
    try:
        return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    except OSError as error:
        raise NotFound(
            f"looking up {what} {path!r}: the current folder is gone ({error.strerror}), expected "
            "one that is there; change to one, or give an absolute path",
            path,
        ) from error
