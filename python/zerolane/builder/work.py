"""What one build is given, and how it is asked to end."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Work:
    """One build as the native core takes it."""

    name: str
    library: str
    path: str | None
    content: bytes | None
    options: Mapping[str, Any]
    timing_cache: bytes | None
    """What the timing cache begins with; None: none takes part."""
    op_libraries: tuple[str, ...] = ()
    """Paths of the libraries whose ops the model uses."""


class Stop:
    """Asks a build to end: `set` from any thread or signal handler, any number of times."""

    def __init__(self) -> None:
        self._pipe: tuple[int, int] | None = None
        self._lock = threading.RLock()  # a signal handler may come in between
        self._wanted = False

    def set(self) -> None:
        with self._lock:
            if not self._wanted:
                self._wanted = True
                if self._pipe is not None:
                    os.write(self._pipe[1], b"x")

    def is_set(self) -> bool:
        return self._wanted

    def fileno(self) -> int:
        """Readable once `set` was called. Raises OSError where there is no descriptor left."""
        with self._lock:
            if self._pipe is None:
                self._pipe = os.pipe()
                if self._wanted:
                    os.write(self._pipe[1], b"x")
            return self._pipe[0]

    def __del__(self) -> None:
        for descriptor in self._pipe or ():
            os.close(descriptor)
