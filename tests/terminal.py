"""A terminal for stderr, so that what is shown only there can be tested."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from tests.child import PATIENCE_S


@contextmanager
def terminal(columns: int) -> Iterator[Callable[..., str]]:
    """Makes stderr a terminal of so many columns; called, it gives what was
    written there, up to a text that is waited for."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = sys.stderr
    with TextIOWrapper(os.fdopen(theirs, "wb", buffering=0), "utf-8", write_through=True) as err:
        sys.stderr = err
        try:
            yield lambda until="": _read(ours, until)
        finally:
            sys.stderr = before
    os.close(ours)


def _read(ours: int, until: str) -> str:
    """What was written, up to `until`, which may come in pieces."""
    read = os.read(ours, 1 << 16)
    while until.encode() not in read and select.select([ours], [], [], PATIENCE_S)[0]:
        read += os.read(ours, 1 << 16)
    return read.decode()
