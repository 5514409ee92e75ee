"""How a build tells how far it is: the library's phases, the time so far, and a forecast."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

Progress = bool | Callable[[float, str], object]
"""True: a line on stderr where that is a terminal. A callable gets (fraction done, doing what)."""

Phases = Sequence[tuple[str, int, int]]
"""The phases the library is in, outermost first: name, steps done, steps in all."""

_REPEAT_S = 0.1


def reporter(progress: Progress) -> Callable[[float, str], object] | None:
    """What to call with (fraction, text); None where nobody wants to know."""
    if callable(progress):
        return progress
    terminal = progress and sys.stderr is not None and sys.stderr.isatty()
    return _line if terminal else None


class Teller:
    """Turns phases into (fraction, text), at most ten times a second.

    The library spends most of a build in one silent step (TensorRT-RTX 1.7: nine tenths), so its
    steps alone forecast nothing: where an earlier build of the same model is known, its time is the
    measure.
    """

    def __init__(self, name: str, progress: Progress, forecast_s: float | None) -> None:
        self._name = name
        self._report = reporter(progress)
        self._forecast_s = forecast_s
        self._started = time.monotonic()
        self._told = 0.0
        self._fraction = 0.0
        self._phase = "starting"

    @property
    def silent(self) -> bool:
        return self._report is None

    def phases(self, phases: Phases) -> None:
        """Takes in where the library is."""
        if phases:
            self._phase = phases[-1][0]
            share, done = 1.0, 0.0
            for _, step, steps in phases:
                share /= max(steps, 1)
                done += share * step
            if self._forecast_s is None:
                self._fraction = max(self._fraction, min(done, 0.99))
        self.tick()

    def tick(self) -> None:
        """Tells again when it is time to."""
        now = time.monotonic()
        if self._report is None or now - self._told < _REPEAT_S:
            return
        self._told = now
        seconds = now - self._started
        text = f"building {self._name}: {self._phase}, {seconds:.1f} s"
        if self._forecast_s is not None:
            text += f" of about {self._forecast_s:.1f} s"
            self._fraction = max(self._fraction, min(seconds / self._forecast_s, 0.99))
        self._report(self._fraction, text)

    def finish(self) -> None:
        if self._report is not None:
            self._report(1.0, f"built {self._name} in {time.monotonic() - self._started:.1f} s")

    def abandon(self) -> None:
        """The build failed: the line on the terminal is taken away."""
        if self._report is _line and self._told:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _line(done: float, doing: str) -> None:
    end = "\n" if done >= 1 else ""
    try:
        room = os.get_terminal_size(sys.stderr.fileno()).columns - 6  # behind it " 100%"
    except (OSError, ValueError):
        room = 74
    if len(doing) > room > 1:  # a line that wraps could not be taken back
        doing = doing[: room - 1] + "…"
    print(f"\r\x1b[K{doing} {done:4.0%}", end=end, file=sys.stderr, flush=True)


class Forecast:
    """What earlier builds of a model took: one small file a model and library in a folder."""

    def __init__(self, folder: Path, model_digest: str, library: str) -> None:
        self._path = folder / "build-times" / f"{model_digest[:32]}-{library}.json"

    def seconds(self) -> float | None:
        """The last build's time, or None."""
        try:
            value = json.loads(self._path.read_text())["seconds"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return float(value) if type(value) in (int, float) and 0 < value < 1e6 else None

    def remember(self, seconds: float) -> None:
        """Keeps it for the next build. A folder that cannot be written is no reason to fail."""
        partial = self._path.with_name(f"{self._path.name}.{os.getpid()}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps({"seconds": round(seconds, 3)}))
            partial.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
