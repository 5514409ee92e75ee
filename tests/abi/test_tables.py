"""third_party/tensorrt: the tables agree with themselves and with the layouts."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from tests.abi import tables
from tests.abi.tables import FAMILIES

RELEASES = [
    (name, minor) for name, f in FAMILIES.items() for minor in range(f.oldest, f.newest + 1)
]


def test_calls_are_unique_and_sorted_by_class() -> None:
    rows = tables.calls()
    assert len({(row.owner, row.method) for row in rows}) == len(rows)
    owners = [row.owner for row in rows]
    assert owners == sorted(owners, key=owners.index), "the rows of a class stand together"


def test_every_call_has_a_slot_in_some_family() -> None:
    placed = {(row.owner, row.method) for family in FAMILIES for row in tables.slots(family)}
    assert {(row.owner, row.method) for row in tables.calls()} == placed


@pytest.mark.parametrize("family", FAMILIES)
def test_since_lies_within_the_covered_releases(family: str) -> None:
    oldest, newest = FAMILIES[family].oldest, FAMILIES[family].newest
    rows: list[tables.Slot | tables.Number] = [*tables.slots(family), *tables.numbers(family)]
    rows += tables.exceptions(family)
    assert [row for row in rows if not oldest <= row.since <= newest] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_a_method_has_one_row_a_family(family: str) -> None:
    names = Counter((row.owner, row.method) for row in tables.slots(family))
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize(("family", "minor"), RELEASES)
def test_no_slot_is_taken_twice(family: str, minor: int) -> None:
    taken = Counter((owner, slot) for (owner, _), slot in tables.slots_of(family, minor).items())
    assert [place for place, count in taken.items() if count > 1] == []


@pytest.mark.parametrize(("family", "minor"), RELEASES)
def test_slots_are_those_of_the_layouts(family: str, minor: int) -> None:
    assert tables.slots_of(family, minor) == tables.expected_slots(family, minor)


def test_a_wrong_slot_would_be_seen() -> None:
    right = tables.expected_slots("10", 8)
    assert right["NetworkDefinition", "getFlags"] == 65
    assert tables.expected_slots("10", 9)["NetworkDefinition", "getFlags"] == 64
    assert right["Parser", "destroy"] == 9
    assert tables.expected_slots("rtx", 7)["Parser", "destroy"] == 7


@pytest.mark.parametrize("family", FAMILIES)
def test_slots_leave_the_destructor_alone(family: str) -> None:
    """Slots 0 and 1 of an implementation are its destructor; a direct class has it elsewhere."""
    rows = tables.slots(family) + tables.exceptions(family)
    assert [r for r in rows if r.owner not in tables.DIRECT and r.slot < 2] == []


@pytest.mark.parametrize("family", FAMILIES)
def test_numbers_of_flags_are_unique(family: str) -> None:
    taken = Counter((row.enumeration, row.number) for row in tables.numbers(family))
    assert [place for place, count in taken.items() if count > 1] == []


def test_enumerators_of_flags_are_those_of_types_h() -> None:
    text = (tables.TABLES / "types.h").read_text()
    flags = {row.enumeration for family in FAMILIES for row in tables.numbers(family)}
    for name in flags:
        body = re.search(rf"enum class {name} \{{(.*?)\}};", text, re.DOTALL)
        assert body is not None, name
        declared = set(re.findall(r"\bk\w+", re.sub(r"//.*", "", body[1]))) - {"kCount"}
        used = {
            row.enumerator
            for family in FAMILIES
            for row in tables.numbers(family)
            if row.enumeration == name
        }
        assert declared == used, name


def test_flags_that_11_renumbered() -> None:
    """What a caller would get wrong with the numbers of 10 in a library of 11 or RTX."""
    ten, eleven, rtx = (
        {(row.enumeration, row.enumerator): row.number for row in tables.numbers(family)}
        for family in ("10", "11", "rtx")
    )
    assert ten["NetworkFlag", "kStronglyTyped"] == 1
    assert eleven["NetworkFlag", "kStronglyTyped"] == rtx["NetworkFlag", "kStronglyTyped"] == 0
    assert "kFp16" not in {name for _, name in eleven}
    for flag, number in ten.items():
        if flag[0] != "BuilderFlag" or flag not in eleven:
            continue
        moved = number >= ten["BuilderFlag", "kVersionCompatible"]
        assert eleven[flag] == rtx[flag] == number - moved, flag


def test_a_library_is_told_apart_by_what_it_covers() -> None:
    """covered_minors() in the code says what the tables say."""
    text = (tables.ROOT / "cpp" / "trt" / "table.cpp").read_text()
    said = re.findall(r"return \{(\d+), (\d+)\};", text)
    assert said == [(str(f.oldest), str(f.newest)) for f in FAMILIES.values()]
    for name, family in FAMILIES.items():
        assert max(row.since for row in tables.slots(name)) <= family.newest
