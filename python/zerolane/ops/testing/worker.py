"""The child process that runs an op directly: a crash ends it, and not the tests."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from zerolane import _native
from zerolane.ops import library
from zerolane.ops.testing import direct
from zerolane.ops.testing.case import Case
from zerolane.ops.testing.direct import Outcome


@dataclass(frozen=True)
class Request:
    """What the child is asked for: everything, or one run with a single buffer guarded."""

    library: str
    case: Case
    siblings: Sequence[Case] = ()
    buffer: int | None = None
    at_end: bool = True
    read_only: bool = False


def main(descriptor: int, parent: int) -> None:
    """Serves requests until the parent closes its end."""
    _native.die_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    channel: Connection[Any, Any] = Connection(descriptor)

    def step(check: str, text: str) -> None:
        channel.send((check, text))

    while True:
        try:
            request: Request = channel.recv()
        except EOFError:
            return
        if request.library:
            library.load(request.library)
        if request.buffer is None:
            channel.send(direct.run(request.case, request.siblings, step))
        else:
            direct.run_guarded(request.case, request.buffer, request.at_end, request.read_only)
            channel.send(Outcome())
