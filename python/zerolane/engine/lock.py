"""A lock between processes that ends with its holder (and the children it forked, not started)."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

_FIRST_PAUSE, _LONGEST_PAUSE = 0.005, 0.1


class Lock:
    """held: False where no lock could be had, and the work goes on without."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def held(self) -> bool:
        """Whether others are kept out."""
        return self._descriptor is not None

    def forget(self) -> None:
        """Remove the lock's file: its work is done for good. Those who wait notice."""
        if self.held:
            with contextlib.suppress(OSError):
                self._path.unlink()


@contextlib.contextmanager
def lock_file(path: Path, model: str, waiting: Callable[[str], object] | None) -> Iterator[Lock]:
    """Hold the lock of `path` (made where missing); see `Cache.lock`."""
    descriptor = _acquire(path, waiting)
    try:
        if descriptor is not None:
            holder = {"pid": os.getpid(), "host": os.uname().nodename, "since": time.time()}
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(holder | {"model": model}).encode(), 0)
        yield Lock(path, descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _acquire(path: Path, waiting: Callable[[str], object] | None) -> int | None:
    pause = _FIRST_PAUSE
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            told = _holder(descriptor)
            os.close(descriptor)
        except OSError:  # a filesystem without locks
            os.close(descriptor)
            return None
        else:
            # Whoever had it may have removed the file: then others lock a new one.
            if _is_at(descriptor, path):
                return descriptor
            os.close(descriptor)
            continue
        if waiting is not None:
            waiting(told)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except OSError:
        return False


def _holder(descriptor: int) -> str:
    try:
        told = json.loads(os.pread(descriptor, 4096, 0))
        seconds = max(0.0, time.time() - told["since"])
        where = "" if told["host"] == os.uname().nodename else f" on {told['host']}"
        what = told["model"] or "it"
        return f"process {told['pid']}{where} has been building {what} for {seconds:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process is building it"


def remove_unheld(folder: Path) -> list[Path]:
    """Remove the files of locks that nobody holds; return them."""
    removed = []
    for path in folder.glob("*.lock"):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, path):
                    path.unlink()
                    removed.append(path)
            finally:
                os.close(descriptor)
    return removed
