"""How long calls tell how far they are."""

from __future__ import annotations

import sys
from collections.abc import Callable

Progress = bool | Callable[[float, str], object]
"""True: a line on stderr where that is a terminal. A callable gets (fraction done, doing what)."""

Report = Callable[[float, str], object]


def reporter(progress: Progress) -> Report:
    """The function to call with (fraction done from 0 to 1, doing what)."""
    if callable(progress):
        return progress
    if progress and sys.stderr.isatty():
        return _line
    return lambda done, doing: None


def _line(done: float, doing: str) -> None:
    end = "\n" if done >= 1 else ""
    print(f"\r\x1b[K{doing} {done:4.0%}", end=end, file=sys.stderr, flush=True)
