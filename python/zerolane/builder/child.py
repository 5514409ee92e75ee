"""The process in which one engine is built. Started by `isolated`, ended by its parent.

Descriptors: 0 the request (JSON); `events` lines of JSON to the parent; `note` a page where the
native core writes what it is working on; `plan` receives the plan; `model`, if not -1, holds it.
Neither NumPy nor site-packages are needed, so it starts in a few hundredths of a second.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import signal
import sys

from zerolane import _native

TYPE_CHECKING = False  # as typing's, without importing it

if TYPE_CHECKING:
    from typing import Any


def main() -> None:
    request: dict[str, Any] = json.load(sys.stdin.buffer)
    _native.die_with_parent(request["parent"])
    # The parent alone answers Ctrl-C, and a crash leaves no core file behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events: int = request["events"]

    def say(**line: object) -> None:
        data = memoryview(json.dumps(line).encode() + b"\n")
        while data:
            data = data[os.write(events, data) :]

    def follow(phases: list[tuple[str, int, int]]) -> bool:
        say(phases=phases)
        return True

    _send_log(say)
    note = mmap.mmap(request["note"], 0)
    content = None
    if request["model"] >= 0:
        content = mmap.mmap(request["model"], 0, prot=mmap.PROT_READ)
    timing_cache = request["timing_cache"]
    try:
        for path in request["op_libraries"]:
            _native.load_op_library(path)
        built = _native.build_engine(
            request["library"],
            request["name"],
            request["path"],
            content,
            request["options"],
            None if timing_cache is None else bytes.fromhex(timing_cache),
            follow if request["follow"] else None,
            note,
        )
        plan = built.pop("plan")
        if plan is not None:
            _write_all(request["plan"], memoryview(plan))
        if built["timing_cache"] is not None:
            built["timing_cache"] = built["timing_cache"].hex()
        built["peak_bytes"] = _peak_bytes()
    except OSError as error:
        found = f"building {request['name']}: the plan could not be handed over ({error})"
        remedy = "free memory, raise the limit on the size of files, or use isolate=False"
        say(error=["out_of_memory", f"{found}; {remedy}", request["name"]])
    except BaseException as error:
        code = getattr(error, "code", None) or "internal"
        message = str(error) if hasattr(error, "code") else f"{type(error).__name__}: {error}"
        say(error=[code, message, getattr(error, "subject", "")])
    else:
        say(built=built)
    os._exit(0)  # the library's own exit handlers have nothing to save


def _send_log(say: Any) -> None:
    """Log records go to the parent's `logging`."""
    import logging

    class Sender(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(log=[record.levelno, record.name, record.getMessage()])

    logger = logging.getLogger("zerolane")
    logger.setLevel(1)
    logger.addHandler(Sender())


def _peak_bytes() -> int:
    """The most memory this process has had resident. (getrusage would count the parent's too.)"""
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["VmHWM"].split()[0]) * 1024


def _write_all(descriptor: int, data: memoryview) -> None:
    """Writes to a file in memory, whole."""
    while data:
        data = data[os.write(descriptor, data[: 1 << 30]) :]
