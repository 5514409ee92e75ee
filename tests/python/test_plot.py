"""Pictures of latency distributions."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

import zerolane as zl
from tests.python.messages import assert_three_parts
from zerolane.measure.plot import Panel, axis_limit, plot_latency, terminal_histogram, time_text

RNG = np.random.default_rng(0)
FAST = RNG.gamma(20.0, 0.1, 3000)
SLOW = RNG.gamma(40.0, 0.1, 3000)
SERIES = {"zerolane b()": FAST, "onnxruntime run": SLOW}


def test_png_has_ink_in_the_colour_of_each_series(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    from matplotlib.colors import to_rgb
    from matplotlib.image import imread

    from zerolane.measure.plot import series_colours

    path = tmp_path / "p.png"
    plot_latency([Panel("one", SERIES), Panel("two", SERIES, "note")], path, title="t")
    image = imread(path)
    height, width = image.shape[:2]
    assert width > 2 * height
    for colour in series_colours(SERIES).values():
        close = np.abs(image[..., :3] - to_rgb(colour)).max(-1) < 0.01
        # In both panels, one beside the other.
        assert close[:, : width // 2].sum() > 500
        assert close[:, width // 2 :].sum() > 500


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    before = "matplotlib.pyplot" in sys.modules
    plot_latency([Panel("one", SERIES)], tmp_path / "p.png", title="t")
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_few_and_equal_samples(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    one = {"zerolane b()": np.array([5.0]), "other": np.full(3, 5.0)}
    plot_latency([Panel("one", one)], tmp_path / "p.png", title="t")
    assert "█" in str(terminal_histogram(one))


@pytest.mark.parametrize(
    ("name", "error"), [("no/p.png", zl.NotFound), ("p.docx", zl.InvalidArgument)]
)
def test_bad_paths(tmp_path: Path, name: str, error: type[zl.Error]) -> None:
    pytest.importorskip("matplotlib", reason="draws the picture")
    with pytest.raises(error) as caught:
        plot_latency([Panel("one", SERIES)], tmp_path / name, title="t")
    assert_three_parts(str(caught.value))


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(zl.Unavailable, match=r"zerolane\[plot\]") as caught:
        plot_latency([Panel("one", SERIES)], tmp_path / "p.png", title="t")
    assert_three_parts(str(caught.value))


def test_terminal_histogram_puts_the_peak_where_the_median_is() -> None:
    lines = str(terminal_histogram(SERIES, width=60, height=2)).splitlines()
    assert lines[0].startswith("zerolane b()")
    assert "p50" in lines[0]
    assert "p99" in lines[0]
    limit = axis_limit(SERIES.values())
    for row, us in ((1, FAST), (4, SLOW)):
        peak = lines[row].index("█")
        assert abs(peak - 60 * np.median(us) / limit) < 6
    assert len(lines) == 2 * 3 + 2


def test_axis_shows_all_medians_and_is_not_stretched_by_a_tail() -> None:
    assert axis_limit([FAST, SLOW]) > np.median(SLOW)
    tail = np.concatenate([FAST, np.full(300, 4000.0)])
    assert axis_limit([tail]) < 3 * np.median(FAST)
    assert axis_limit([FAST]) > np.percentile(FAST, 99)


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (1.214, "1.21 µs"),
        (28.66, "28.7 µs"),
        (999.4, "999 µs"),
        (999.7, "1.00 ms"),
        (4123, "4.12 ms"),
    ],
)
def test_time_text(us: float, text: str) -> None:
    assert time_text(us) == text
