"""The journal: whole lines only, and only of the same search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zerolane.errors import InvalidArgument
from zerolane.tuning.journal import Journal

KEY = {"model": {"sha256": "a" * 64}, "environment": {"cpus": 2}, "options": {"goal": "latency"}}


def filled(folder: Path) -> Path:
    journal = Journal(folder, KEY)
    assert not journal.resumed
    journal.write({"setting": "x", "us": [1.5, 2.0]})
    journal.write({"setting": "y", "dropped": "größer"})
    journal.close()
    return journal.path


def test_lines_come_back(tmp_path: Path) -> None:
    filled(tmp_path)
    journal = Journal(tmp_path, KEY)
    assert journal.resumed
    assert journal.lines == [
        {"setting": "x", "us": [1.5, 2.0]},
        {"setting": "y", "dropped": "größer"},
    ]
    journal.write({"setting": "z"})
    journal.close()
    again = Journal(tmp_path, KEY)
    again.close()
    assert [line["setting"] for line in again.lines] == ["x", "y", "z"]


@pytest.mark.parametrize("cut", [1, 7, 20])
def test_a_line_cut_off_is_taken_away(tmp_path: Path, cut: int) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:-cut])
    journal = Journal(tmp_path, KEY)
    assert [line["setting"] for line in journal.lines] == ["x"]
    journal.write({"setting": "y"})
    journal.close()
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_header_cut_off_begins_anew(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[:30])
    journal = Journal(tmp_path, KEY)
    journal.close()
    assert not journal.resumed
    assert len(path.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("model", {"sha256": "b" * 64}, "another model"),
        ("environment", {"cpus": 3}, "another machine or other versions"),
        ("options", {"goal": "throughput"}, "other options"),
    ],
)
def test_of_something_else_is_refused(
    tmp_path: Path, name: str, value: dict[str, object], what: str
) -> None:
    path = filled(tmp_path)
    before = path.read_bytes()
    with pytest.raises(InvalidArgument, match=f"{what}.*expected.*give another folder"):
        Journal(tmp_path, {**KEY, name: value})
    assert path.read_bytes() == before


def test_damage_in_the_middle_is_refused(tmp_path: Path) -> None:
    path = filled(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"rubbish\n" + lines[2])
    with pytest.raises(InvalidArgument, match="line 2 is not what was written there"):
        Journal(tmp_path, KEY)
