"""The line on a terminal: what it says, and that it stays one line."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper

from zerolane.builder.progress import Teller, reporter

COLUMNS = 60


@contextmanager
def terminal() -> Iterator[Callable[[], str]]:
    """Makes stderr a terminal of 60 columns; called, it gives what was written there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    before = sys.stderr
    with TextIOWrapper(os.fdopen(theirs, "wb", buffering=0), "utf-8", write_through=True) as err:
        sys.stderr = err
        try:
            yield lambda: os.read(ours, 1 << 16).decode()
        finally:
            sys.stderr = before
    os.close(ours)


def test_a_long_line_is_cut_and_keeps_its_end() -> None:
    with terminal() as written:
        report = reporter(True)
        assert report is not None
        report(0.25, "building " + 20 * "long_" + "model.onnx: a phase, 1.0 s of about 4.0 s")
        shown = written().removeprefix("\r\x1b[K")
    assert len(shown) <= COLUMNS
    assert shown.startswith("building long_")
    assert shown.endswith("…  25%")


def test_a_short_line_is_whole() -> None:
    with terminal() as written:
        teller = Teller("m.onnx", True, forecast_s=None)
        teller.phases([("Building", 1, 2)])
        assert written().startswith("\r\x1b[Kbuilding m.onnx: Building, 0.0 s  50%")
        teller.finish()
        assert written() == "\r\x1b[Kbuilt m.onnx in 0.0 s 100%\r\n"


def test_a_failure_takes_the_line_away() -> None:
    with terminal() as written:
        teller = Teller("m.onnx", True, forecast_s=10)
        teller.tick()
        assert "of about 10.0 s" in written()
        teller.abandon()
        assert written() == "\r\x1b[K"


def test_without_a_terminal_nothing_is_said() -> None:
    assert reporter(True) is None
    assert reporter(False) is None
    assert reporter(print) is print
