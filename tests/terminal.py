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


@contextmanager
def terminal(columns: int) -> Iterator[Callable[[], str]]:
    """Makes stderr a terminal of so many columns; called, it gives what was written there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    before = sys.stderr
    with TextIOWrapper(os.fdopen(theirs, "wb", buffering=0), "utf-8", write_through=True) as err:
        sys.stderr = err
        try:
            yield lambda: _read(ours)
        finally:
            sys.stderr = before
    os.close(ours)


def _read(ours: int) -> str:
    """What was written, waiting for the first of it, and for the rest of what comes in pieces."""
    read = os.read(ours, 1 << 16)
    while select.select([ours], [], [], 0.05)[0]:
        read += os.read(ours, 1 << 16)
    return read.decode()
