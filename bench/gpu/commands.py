# SPDX-License-Identifier: Apache-2.0
"""Runs one command with a time limit, its output to a log and to stderr as it comes."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

GRACE_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """`code` is None where the time limit ended it; negative: the signal that did."""

    code: int | None
    seconds: float
    log: Path

    @property
    def ok(self) -> bool:
        return self.code == 0

    def __str__(self) -> str:
        if self.code is None:
            return f"ended by its time limit after {self.seconds:.0f} s"
        if self.code < 0:
            return f"ended by signal {signal.Signals(-self.code).name}"
        return f"exit code {self.code}"


def run(
    command: Sequence[str | Path],
    log: Path,
    seconds: float,
    *,
    environment: Mapping[str, str] | None = None,
    show: bool = True,
) -> Outcome:
    """Ends the command and all its children (asked first, then killed) after `seconds`."""
    words = [str(w) for w in command]
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ {shlex.join(words)}\n".encode())
        file.flush()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )

        def copy() -> None:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                file.flush()
                if show:
                    sys.stderr.buffer.write(b"    " + line)
                    sys.stderr.flush()

        reader = threading.Thread(target=copy, daemon=True)
        reader.start()
        try:
            code: int | None = process.wait(timeout=max(seconds, 1.0))
        except subprocess.TimeoutExpired:
            code = None
            _end(process)
        except BaseException:
            _end(process)
            raise
        else:
            _signal(process, signal.SIGKILL)  # children that outlived it would hold the pipe
        reader.join(timeout=GRACE_S)
        if process.stdout is not None and not reader.is_alive():
            process.stdout.close()
    return Outcome(code, time.monotonic() - started, log)


def _end(process: subprocess.Popen[bytes]) -> None:
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_S)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To the process group that this process leads."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
