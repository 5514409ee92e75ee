"""The parent's side of the child process: starts it, asks it, and says what a crash means."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing import Pipe
from typing import Any

from zerolane.errors import InternalError
from zerolane.ops.op import definition
from zerolane.ops.testing import direct
from zerolane.ops.testing.case import Case
from zerolane.ops.testing.direct import Outcome
from zerolane.ops.testing.worker import Request

# A run of one case takes milliseconds; a sanitized build on a busy machine takes its time.
_PATIENCE_S = 120.0
_START = """
import sys
sys.path[:] = {path!r}
from zerolane.ops.testing.worker import main
main({descriptor}, {parent})
"""


class _Died(Exception):
    """The child ended in the middle of a request. Where it was, and how."""

    def __init__(self, check: str, step: str, how: str) -> None:
        super().__init__(how)
        self.check, self.step, self.how = check, step, how


class _Child:
    def __init__(self) -> None:
        self._channel, theirs = Pipe()
        code = _START.format(path=sys.path, descriptor=theirs.fileno(), parent=os.getpid())
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
        )
        theirs.close()

    def ask(self, request: Request) -> Outcome:
        check, step = "bounds", "starting"
        try:
            self._channel.send(request)
            while True:
                if not self._channel.poll(_PATIENCE_S):
                    self._process.kill()
                    self._process.wait()
                    raise _Died(check, step, f"it did not return within {_PATIENCE_S:.0f} s")
                answer: Any = self._channel.recv()
                if isinstance(answer, Outcome):
                    return answer
                check, step = answer
        except (EOFError, ConnectionError) as error:
            code = self._process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise _Died(check, step, f"the process ended ({how})") from error

    def end(self) -> None:
        self._channel.close()
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()


_running: list[_Child] = []  # the one that serves, if any
_blamed: set[str] = set()  # ops whose crash was looked into


def run(case: Case, siblings: Sequence[Case]) -> Outcome:
    """All direct checks of one case. A crash is a problem of the check that it happened in."""
    path = definition(case.op, case.version).library
    if not path:  # defined in this process, in Python: it has no memory to go astray in
        return direct.run(case, siblings, lambda check, text: None, fenced=False)
    try:
        return _ask(Request(path, case, siblings))
    except _Died as died:
        if died.step == "starting":
            raise InternalError(
                f"testing op {case.op}: the child process did not start, {died.how}, expected it "
                f"to import zerolane as {sys.executable} does here; see what it printed",
                case.op,
            ) from died
        text = f"{died.step}: {died.how}"
        if died.check == "bounds" and "guard" in died.step and case.op not in _blamed:
            _blamed.add(case.op)  # once: it takes a process for each buffer
            text += f"; {_blame(path, case, died)}"
        return Outcome(problems={died.check: text})


def _ask(request: Request) -> Outcome:
    if not _running:
        _running.append(_Child())
        atexit.register(end)
    try:
        return _running[0].ask(request)
    except _Died:
        end()
        raise


def end() -> None:
    """Ends the child. The next case starts another."""
    while _running:
        _running.pop().end()


def _blame(path: str, case: Case, died: _Died) -> str:
    """Which buffer it was: the case is run again, with one of them guarded at a time."""
    at_end = "behind" in died.step
    ins, outs = direct.buffer_names(case)
    for read_only in (False, True):
        for number, name in enumerate(ins if read_only else [*ins, *outs]):
            try:
                _ask(Request(path, case, (), number, at_end, read_only))
            except _Died:
                role = "input" if number < len(ins) else "output"
                if read_only:
                    return f"it writes to input {name!r}"
                if at_end:
                    return f"it reads or writes behind the last element of {role} {name!r}"
                return f"it reads or writes in front of element 0 of {role} {name!r}"
    return "no single buffer is to blame"
