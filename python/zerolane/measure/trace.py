"""`zl.trace`: what the native core did, as a file for a trace viewer."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerolane import _native
from zerolane.engine.atomic import is_special
from zerolane.errors import NotFound


@contextmanager
def trace(path: str | os.PathLike[str]) -> Iterator[None]:
    """Record loads, runs and copies of the whole process inside a `with` block into `path`.

    The file is JSON in the Trace Event Format, for ui.perfetto.dev or chrome://tracing. It is
    written in one piece when the block ends, with an exception too. One trace at a time: a nested
    one raises InvalidArgument.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise NotFound(
            f"starting a trace: there is no folder {str(target.parent)!r} for "
            f"{target.name!r}; make the folder first",
            str(target),
        )
    _native.start_trace()
    try:
        yield
    finally:
        write_atomically(target, _native.stop_trace())


def write_atomically(target: Path, text: str) -> None:
    """Write a file that others see whole or not at all. A device or a pipe is written to."""
    if is_special(target):
        target.write_text(text, encoding="utf-8")
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
