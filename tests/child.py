"""Running Python in a process of its own, for tests of what happens to a whole process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent

# A child that is silent for so long hangs. With a load of 20, starting Python takes half a minute.
PATIENCE_S = 180


def environment(changes: Mapping[str, str | None]) -> dict[str, str]:
    """This process's environment with `changes` put over it; None removes a variable."""
    merged: dict[str, str | None] = {**os.environ, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def start(
    code: str,
    *args: object,
    env: Mapping[str, str | None] | None = None,
    flags: tuple[str, ...] = (),
) -> subprocess.Popen[str]:
    """Starts `code` with sys.argv[1:] = args, in the top folder, with pipes for its output.

    It leads a process group of its own, so that `kill` also ends what it forked.
    """
    command = [sys.executable, *flags, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment(env or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Ends it and all that it forked; returns what they had written."""
    os.killpg(process.pid, signal.SIGKILL)
    return process.communicate()


def run(
    code: str,
    *args: object,
    env: Mapping[str, str | None] | None = None,
    flags: tuple[str, ...] = (),
    timeout: float = PATIENCE_S,
) -> str:
    """Runs `code` to its end; it must succeed and leave stderr empty. Returns its stdout."""
    process = start(code, *args, env=env, flags=flags)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        out, err = kill(process)
        raise AssertionError(f"hung for {timeout} s; stdout: {out!r}; stderr: {err!r}") from None
    assert process.returncode == 0, f"exit code {process.returncode}; {out!r}; stderr:\n{err}"
    assert err == "", f"stderr: {err}"
    return out
