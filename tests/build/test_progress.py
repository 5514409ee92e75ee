"""The line on a terminal: what it says, and that it stays one line."""

from __future__ import annotations

import re

from tests.terminal import terminal
from zerolane.builder.progress import Teller, reporter

COLUMNS = 60


def test_a_long_line_is_cut_and_keeps_its_end() -> None:
    with terminal(COLUMNS) as written:
        report = reporter(True)
        assert report is not None
        report(0.25, "building " + 20 * "long_" + "model.onnx: a phase, 1.0 s of about 4.0 s")
        shown = written().removeprefix("\r\x1b[K")
    assert len(shown) <= COLUMNS
    assert shown.startswith("building long_")
    assert shown.endswith("…  25%")


def test_a_short_line_is_whole() -> None:
    with terminal(COLUMNS) as written:
        teller = Teller("m.onnx", True, forecast_s=None)
        teller.phases([("Building", 1, 2)])
        assert re.match(r"\r\x1b\[Kbuilding m\.onnx: Building, \d+\.\d s  50%", written())
        teller.finish()
        assert re.fullmatch(r"\r\x1b\[Kbuilt m\.onnx in \d+\.\d s 100%\r\n", written("\n"))


def test_a_failure_takes_the_line_away() -> None:
    with terminal(COLUMNS) as written:
        teller = Teller("m.onnx", True, forecast_s=10)
        teller.tick()
        assert "of about 10.0 s" in written()
        teller.abandon()
        assert written() == "\r\x1b[K"


def test_without_a_terminal_nothing_is_said() -> None:
    assert reporter(True) is None
    assert reporter(False) is None
    assert reporter(print) is print
