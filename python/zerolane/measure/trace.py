"""`zl.trace`: what the native core did, as a file for a trace viewer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerolane import _native
from zerolane.engine.atomic import write_atomic
from zerolane.errors import InvalidArgument, NotFound


@contextmanager
def trace(path: str | os.PathLike[str], *, max_events: int = 1_000_000) -> Iterator[None]:
    """Record what the whole process does inside a `with` block into `path`.

    The file is JSON in the Trace Event Format, for ui.perfetto.dev or chrome://tracing: a row for
    each lane, batcher, loop, stage and thread, with spans named queue, copy, run, post, load and
    op; curves (queue depths); marks (miss, drop, deadline); arrows that follow one request from
    row to row. It is written in one piece when the block ends, with an exception too.

    max_events: later ones are dropped; how many is in the file, `otherData.dropped`. An event takes
    64 bytes of memory, and some 150 in the file.

    One trace at a time: a nested one raises InvalidArgument. A forked child is not in its parent's
    trace and leaves the file alone.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise NotFound(
            f"starting a trace: there is no folder {str(target.parent)!r} for "
            f"{target.name!r}; make the folder first",
            str(target),
        )
    if not isinstance(max_events, int) or max_events < 1:
        raise InvalidArgument(
            f"starting a trace: max_events is {max_events!r}, expected a whole number from 1 on; "
            "leave it out for a million",
            "max_events",
        )
    _native.start_trace(max_events)
    try:
        yield
    finally:
        pieces = _native.stop_trace(_thread_names())
        if pieces:
            write_atomic(target, pieces, durable=False)


def _thread_names() -> dict[int, str]:
    """What Python calls its threads, of which the system knows little before Python 3.14."""
    return {t.native_id: t.name for t in threading.enumerate() if t.native_id is not None}
