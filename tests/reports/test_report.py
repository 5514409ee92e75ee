"""`zl.report`: the verdict, the page that needs and runs nothing, and what of it is escaped."""

from __future__ import annotations

import json
import re
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the verbs make models with onnx")

from click.testing import CliRunner

import zerolane as zl
from tests.models.task_checks import FOLDER, load_case
from tests.reports.results import EVIL, compared, every_kind, quant, tune
from zerolane.cli.main import cli
from zerolane.reports import report as reporting
from zerolane.reports.content import Bar, Bars, Report, Table, number, size
from zerolane.reports.svg import bars

DIGITS = str(FOLDER / "digits_cnn.onnx")
VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; raises where tags do not pair."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("part", every_kind(EVIL), ids=lambda part: type(part).__name__)
def test_names_of_a_model_are_text_only(part: Any) -> None:
    page = Page(zl.report(part).html())
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert any("<script>alert(1)</script>" in text for text in page.text)


@pytest.mark.parametrize("part", every_kind(), ids=lambda part: type(part).__name__)
def test_a_page_holds_all_that_it_shows(part: Any) -> None:
    html = zl.report(part).html()
    page = Page(html)
    assert "default-src 'none'" in html
    fetching = {"src", "href", "srcset", "data", "action", "poster", "xlink:href", "background"}
    assert not fetching & {name for name, _ in page.attributes}
    assert not re.search(r"https?://|url\(|@import", html)
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert ("lang", "en") in page.attributes
    assert page.tags.count("h1") == 1
    assert "prefers-color-scheme:dark" in html
    assert all(value for name, value in page.attributes if name == "aria-label")


@pytest.mark.parametrize("part", every_kind(), ids=lambda part: type(part).__name__)
def test_text_and_json_say_the_same(part: Any) -> None:
    made = zl.report(part)
    text, told = str(made), made.as_dict()
    json.dumps(told)
    assert text.splitlines()[0] == made.verdict == told["verdict"]
    assert len(made.figures) >= 2
    for table in made.tables:
        assert table.title in text
        assert all(len(line) == len(table.header) for line in table.rows)


def test_the_verdict_has_three_numbers() -> None:
    assert zl.report(tune()).verdict == (
        "int8, graph all, 1 thread, beside m.onnx: 2.50 x as fast, 28% of the size, 99.50% of top1 "
        "kept."
    )
    assert zl.report(quant()).verdict == (
        "conv18.onnx, beside conv1.onnx: 28% of the size, 99.50% of top1 kept, 2 of 3 layers "
        "quantized."
    )
    assert zl.report(compared()).verdict.startswith("y8.onnx agrees with y.onnx: 99.50% of top1")
    bad = zl.report(compared(accuracy=0.999))
    assert bad.verdict.startswith("y8.onnx DIFFERS from y.onnx")
    assert not bad.ok
    assert 'class="bad"' in bad.html()


def test_parts_are_put_together() -> None:
    made = zl.report([quant(), compared()], title="A title")
    assert made.title == "A title"
    titles = [table.title for table in made.tables]
    assert "Kept in float (quantize static for cpu)" in titles
    assert "Scores (compare)" in titles


def test_long_tables_fold() -> None:
    html = zl.report(compared(layers=40)).html()
    assert "28 more</summary>" in html
    assert html.count("<details>") == 1
    assert "and 28 more" in str(zl.report(compared(layers=40)))


@pytest.mark.parametrize("given", [[], "text", [1], [quant(), None]])
def test_what_is_no_result_is_refused(given: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match=r"expected results of zl\.optimize"):
        zl.report(given)


def test_no_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(zl.NotFound, match="there is no folder"):
        zl.report(quant(), tmp_path / "none" / "r.html")
    with pytest.raises(zl.InvalidArgument, match="expected a file that can be written"):
        zl.report(quant(), tmp_path)


def test_charts_stand_any_number() -> None:
    for values in ([0.0, 0.0], [float("inf"), 1.0], [1e-9, 1e9], []):
        chart = Bars("t", "ms", tuple(Bar("a", v, (v, v * 3)) for v in values))
        widths = [float(w) for w in re.findall(r'<rect [^>]*width="([^"]+)"', bars(chart))]
        assert all(0 <= w <= 640 for w in widths)
        assert str(Report("t", True, "v", (), (chart,), ()))


def test_numbers_and_sizes() -> None:
    assert [number(v) for v in (0, 0.00123456, 12.345, 123456.0)] == [
        "0",
        "0.00123",
        "12.3",
        "123,456",
    ]
    assert [size(v) for v in (12, 1234, 4_950_000, 2.5e9)] == [
        *("12 bytes", "1.23 kB", "4.95 MB", "2.5 GB")
    ]


def test_an_odd_name_can_be_written(tmp_path: Path) -> None:
    table = Table("t", ("n",), (("\udcff\x00",),))
    Report("\udcff", True, "v", (), (), (table,)).save(tmp_path / "r.html")
    assert b"<title>" in (tmp_path / "r.html").read_bytes()


def test_models_are_timed_in_turn_and_told_of(tmp_path: Path) -> None:
    zl.optimize.fp16(DIGITS, tmp_path / "m16.onnx")
    part = zl.optimize.bf16(DIGITS, tmp_path / "mb.onnx", verify=False)
    files = {"float32": DIGITS, "half": tmp_path / "m16.onnx", "brain": tmp_path / "mb.onnx"}
    made = zl.report(part, tmp_path / "r.html", models=files, seconds=0.05)
    (chart,) = (c for c in made.charts if c.title == "Time of a call")
    assert isinstance(chart, Bars)
    assert [(b.label, b.reference) for b in chart.bars] == [("float32", True), ("half", False)]
    assert all(b.interval is not None and b.interval[0] <= b.interval[1] for b in chart.bars)
    assert any(note.startswith("brain is not timed") for note in made.notes)
    steps = next(t for t in made.tables if t.title == "What was done")
    assert [line[1] for line in steps.rows] == ["fp16", "bf16"]
    assert (tmp_path / "r.html").read_text() == made.html()


def _quickly(measure: Any, *args: Any, seconds: float, **options: Any) -> Any:
    return measure(*args, seconds=seconds / 50, **options)


def test_the_verbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reporting, "measure", partial(_quickly, reporting.measure))
    images = load_case("digits_cnn")["image"]
    (tmp_path / "s").mkdir()
    for place in range(3):
        np.savez(tmp_path / "s" / f"{place}.npz", image=images[place : place + 1])
    for words in (
        ("optimize", "graph", DIGITS, "g.onnx"),
        ("optimize", "fp16", DIGITS, "h.onnx"),
        ("optimize", "bisect", DIGITS, "b.onnx", "--samples", "s"),
        ("quantize", DIGITS, "q.onnx", "--calibration", "s"),
        ("quantize", DIGITS, "--sensitivity", "--calibration", "s"),
        ("prune", DIGITS, "p.onnx"),
        ("compare", "h.onnx", DIGITS, "--atol", "1"),
    ):
        done = CliRunner().invoke(cli, [*words, "--report", "r.html", "--json"])
        assert done.exit_code == 0, done.output
        json.loads(done.stdout)
        page = Page(Path("r.html").read_text())
        assert ("Files" in page.text) == ("--sensitivity" not in words), words
        Path("r.html").unlink()
