"""Runs one build in a child process: starts it, follows it, and tells how it ended.

The child is a fresh process, so its memory goes back to the system, a crash of the vendor library
ends only it, and ending it is a kill. Nothing is written to disk: request, model bytes and plan
travel through pipes and files in memory. The kernel ends the child when its parent dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import mmap
import os
import selectors
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

import zerolane
from zerolane import _native
from zerolane.builder.progress import Teller
from zerolane.builder.work import Stop, Work
from zerolane.errors import (
    BackendCrashed,
    Error,
    InternalError,
    OutOfMemory,
    Unavailable,
    from_native,
)

_NOTE_BYTES = 4096
_TAIL_BYTES = 4000
_TICK_S = 0.1

# Run by a Python without site-packages; the package and its native module come from here.
_START = """
import sys
folder, native = sys.argv[1:]
sys.path.append(folder)  # behind the standard library, which nothing in there may replace
import zerolane
zerolane.__path__.insert(0, native)
from zerolane.builder.child import main
main()
"""


@dataclass(slots=True)
class _Heard:
    """What the child said."""

    built: dict[str, Any] | None = None
    error: tuple[str, str, str] | None = None
    rest: bytes = b""
    output: bytes = b""


def run(
    work: Work,
    stop: Stop,
    deadline: float | None,
    teller: Teller,
) -> dict[str, Any] | None:
    """What `_native.build_engine` returns, or None where `stop` or `deadline` ended it.

    deadline: on the clock of time.monotonic. Raises BackendCrashed and what the build raised.
    """
    if not sys.executable:
        raise Unavailable(
            f"building {work.name}: this Python does not know its own executable, so no child "
            "process can be started; use isolate=False",
            "sys.executable",
        )
    opened: list[int] = []  # all of them are closed at the end
    child: subprocess.Popen[bytes] | None = None
    try:
        try:
            stop.fileno()
            note, plan = _memory("note", opened), _memory("plan", opened)
            os.ftruncate(note, _NOTE_BYTES)
            model = -1
            if work.content is not None:
                model = _memory("model", opened)
                _fill(model, work.content)
            events, events_child = (_keep(fd, opened) for fd in os.pipe())
            # In an editable installation they lie apart.
            package = os.path.dirname(os.path.dirname(zerolane.__file__))
            native = os.path.dirname(_native.__file__)
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _START, package, native],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=[fd for fd in opened if fd != events],
                close_fds=True,
            )
        except OSError as error:
            raise _cannot_start(work.name, error) from error
        opened.remove(events_child)
        os.close(events_child)
        request = {
            "parent": os.getpid(),
            "events": events_child,
            "note": note,
            "plan": plan,
            "model": model,
            "path": work.path,
            "library": work.library,
            "options": work.options,
            "timing_cache": None if work.timing_cache is None else work.timing_cache.hex(),
            "op_libraries": work.op_libraries,
            "name": work.name,
            "follow": not teller.silent,
        }
        _send(child, json.dumps(request).encode())
        heard = _listen(child, events, stop, deadline, teller)
        if heard is None:
            return None
        status = child.wait()
        if heard.error is not None:
            raise from_native(*heard.error)
        if heard.built is None:
            raise _crash(work, status, _read_note(note), heard.output)
        size = os.fstat(plan).st_size
        built = heard.built
        if built["timing_cache"] is not None:
            built["timing_cache"] = bytes.fromhex(built["timing_cache"])
        built["plan"] = mmap.mmap(plan, size, prot=mmap.PROT_READ) if size else None
        return built
    finally:
        if child is not None:
            _end(child)
        for descriptor in opened:
            os.close(descriptor)


def _memory(what: str, opened: list[int]) -> int:
    """A file in memory."""
    return _keep(os.memfd_create(f"zerolane-{what}"), opened)


def _keep(descriptor: int, opened: list[int]) -> int:
    """Enters a descriptor into `opened`; one that stands where 0, 1 or 2 were closed is moved."""
    if descriptor <= 2:
        low = descriptor
        try:
            descriptor = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 3)
        finally:
            os.close(low)
    opened.append(descriptor)
    return descriptor


def _cannot_start(name: str, error: OSError) -> Error:
    """The error for a system that refuses a process, a descriptor or a file in memory."""
    doing = f"building {name}: no child process could be started ({error})"
    if error.errno == errno.ENOMEM:
        return OutOfMemory(f"{doing}, expected room for one; free memory", name)
    return Unavailable(
        f"{doing}; raise the limit (ulimit -n, ulimit -u), check sys.executable, or use "
        "isolate=False",
        name,
    )


def _listen(
    child: subprocess.Popen[bytes],
    events: int,
    stop: Stop,
    deadline: float | None,
    teller: Teller,
) -> _Heard | None:
    """Hears the child out; None where it is to be ended first."""
    heard = _Heard()
    assert child.stdout is not None
    output = child.stdout.fileno()
    with selectors.DefaultSelector() as selector:
        for source in (events, output, stop.fileno()):
            selector.register(source, selectors.EVENT_READ)
        while events in selector.get_map() or output in selector.get_map():
            left = _TICK_S if deadline is None else min(_TICK_S, deadline - time.monotonic())
            if left <= 0:
                return None
            ready = selector.select(left)
            # Its pipes may live on in a process that somebody forked from this one meanwhile.
            if not ready and child.poll() is not None:
                break
            for key, _ in ready:
                if key.fd == stop.fileno():
                    return None
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fd)
                elif key.fd == output:
                    heard.output = (heard.output + data)[-_TAIL_BYTES:]
                else:
                    _hear(heard, data, teller)
            teller.tick()
    return heard


def _hear(heard: _Heard, data: bytes, teller: Teller) -> None:
    *lines, heard.rest = (heard.rest + data).split(b"\n")
    for line in lines:
        said = json.loads(line)
        if "phases" in said:
            teller.phases(said["phases"])
        elif "log" in said:
            level, name, text = said["log"]
            _log(level, name, text)
        elif "error" in said:
            code, message, subject = said["error"]
            heard.error = (code, message, subject)
        else:
            heard.built = said["built"]


def _log(level: int, name: str, text: str) -> None:
    """As libraries do: nothing on stderr unless the program sets logging up."""
    top = logging.getLogger("zerolane")
    if not top.handlers:
        top.addHandler(logging.NullHandler())
    logging.getLogger(name).log(level, "%s", text)


def _crash(work: Work, status: int, doing: str, output: bytes) -> Exception:
    """The error for a child that ended without a word."""
    text = output.decode(errors="replace").strip()
    last = text.splitlines()[-1][:300] if text else ""
    if status == -signal.SIGKILL:
        return OutOfMemory(
            f"building {work.name}: the child process was killed{_while(doing)}, most likely for "
            "want of memory; free some, or lower memory_pools and the greatest shapes",
            doing,
        )
    if status >= 0 and not doing:
        return InternalError(
            f"building {work.name}: the child process ended with {status} before it began"
            + (f" ({last})" if last else "")
            + "; try isolate=False, and report this",
            work.name,
        )
    how = f"exit code {status}"
    if status < 0:
        try:
            how = signal.Signals(-status).name
        except ValueError:
            how = f"signal {-status}"
    return BackendCrashed(
        f"building {work.name}: the library {os.path.basename(work.library)} crashed ({how})"
        f"{_while(doing)}{f', saying {last!r}' if last else ''}; this process is unharmed: check "
        "that node, simplify the model, or report it to the library's makers",
        doing,
    )


def _while(doing: str) -> str:
    return f" while {doing}" if doing else ""


def _read_note(note: int) -> str:
    return os.pread(note, _NOTE_BYTES, 0).split(b"\0")[0].decode(errors="replace")


def _fill(descriptor: int, content: bytes) -> None:
    data = memoryview(content)
    while data:
        data = data[os.write(descriptor, data[: 1 << 30]) :]


def _send(child: subprocess.Popen[bytes], request: bytes) -> None:
    """A child that died already is heard of later."""
    assert child.stdin is not None
    try:
        child.stdin.write(request)
        child.stdin.close()
    except BrokenPipeError:
        pass


def _end(child: subprocess.Popen[bytes]) -> None:
    child.kill()
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with contextlib.suppress(BrokenPipeError):
                stream.close()
