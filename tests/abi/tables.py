"""Reads the tables of third_party/tensorrt and the layouts that they are compared with."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TABLES = ROOT / "third_party" / "tensorrt"
LAYOUTS = Path(__file__).parent / "layouts"

# Objects that are called through their own table; the others through one they point at.
DIRECT = {"PluginRegistry", "Parser", "ParserError", "ParserRefitter"}
# The two slots of a virtual destructor: one that leaves the memory, one that frees it.
DESTRUCTOR = ["~", "~free"]


class Family(NamedTuple):
    table: str  # name of the table file and of the layout file
    major: int
    oldest: int  # minor releases that the table covers
    newest: int
    soname: str
    parser: str
    rtx: bool

    def number(self, minor: int, patch: int = 0) -> int:
        return self.major * 10000 + minor * 100 + patch


FAMILIES = {
    "10": Family("tensorrt_10", 10, 0, 16, "libnvinfer.so.10", "libnvonnxparser.so.10", False),
    "11": Family("tensorrt_11", 11, 0, 4, "libnvinfer.so.11", "libnvonnxparser.so.11", False),
    "rtx": Family(
        "tensorrt_rtx_1", 1, 5, 7, "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1", True
    ),
}


class Call(NamedTuple):
    owner: str
    method: str
    result: str
    parameters: tuple[str, ...]


class Slot(NamedTuple):
    owner: str
    method: str
    slot: int
    since: int


class Number(NamedTuple):
    enumeration: str
    enumerator: str
    number: int
    since: int


def read_rows(name: str, macro: str) -> list[list[str]]:
    """The cells of every row of one macro; parentheses keep their commas."""
    text = (TABLES / name).read_text()
    lines = re.findall(rf"^{macro}\((.*)\)$", text, re.MULTILINE)
    assert len(lines) == len(re.findall(rf"^{macro}\(", text, re.MULTILINE)), "a row was not read"
    return [[cell.strip() for cell in re.split(r",\s*(?![^()]*\))", line)] for line in lines]


@cache
def calls() -> list[Call]:
    found = []
    for owner, method, result, parameters in read_rows("calls.inc", "ZL_TRT_CALL"):
        inside = parameters.removeprefix("(").removesuffix(")")
        cells = tuple(cell.strip() for cell in inside.split(",") if cell.strip())
        found.append(Call(owner, method, result, cells))
    assert len(found) > 300
    return found


def _slots(family: str, macro: str) -> list[Slot]:
    table = read_rows(FAMILIES[family].table + ".inc", macro)
    return [Slot(owner, method, int(slot), int(since)) for owner, method, slot, since in table]


@cache
def slots(family: str) -> list[Slot]:
    return _slots(family, "ZL_TRT_SLOT")


@cache
def exceptions(family: str) -> list[Slot]:
    """Slots that hold in one minor release alone (the last cell)."""
    return _slots(family, "ZL_TRT_SLOT_ONLY")


@cache
def numbers(family: str) -> list[Number]:
    table = read_rows(FAMILIES[family].table + ".inc", "ZL_TRT_NUMBER")
    return [Number(e, v, int(number), int(since)) for e, v, number, since in table]


def slots_of(family: str, minor: int) -> dict[tuple[str, str], int]:
    """What the tables say about one release."""
    found = {(row.owner, row.method): row.slot for row in slots(family) if minor >= row.since}
    return found | {(r.owner, r.method): r.slot for r in exceptions(family) if r.since == minor}


class Place(NamedTuple):
    method: str
    since: int


@cache
def layout_file(name: str) -> dict[str, list[Place]]:
    """Class (or class@minor) to its methods in order, as the file has them."""
    found: dict[str, list[Place]] = {}
    block: list[Place] = []
    for line in (LAYOUTS / name).read_text().splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith("  "):
            method, _, since = line.strip().partition(" ")
            block.append(Place(method, int(since or 0)))
        else:
            block = found.setdefault(line.strip(), [])
            assert not block, f"{line.strip()} appears twice"
    return found


def order_of(family: str, minor: int) -> dict[str, list[str]]:
    """What the layouts say about one release: class to its methods in the order of the table.

    The destructor stands as two entries.
    """
    blocks = layout_file(FAMILIES[family].table + ".txt")
    found: dict[str, list[str]] = {}
    for name, places in blocks.items():
        owner, _, only = name.partition("@")
        if only and int(only) != minor:
            continue
        methods = [place.method for place in places if minor >= place.since]
        flat = [m for method in methods for m in (DESTRUCTOR if method == "~" else [method])]
        if flat != DESTRUCTOR:
            found[owner] = flat  # a block for one release follows the general one
    return found


def expected_slots(family: str, minor: int) -> dict[tuple[str, str], int]:
    """Where the layouts put the methods of calls.inc in one release."""
    order = order_of(family, minor)
    found = {}
    for call in calls():
        method = "~free" if call.method == "destroy" else call.method
        if method in order.get(call.owner, []):
            found[call.owner, call.method] = order[call.owner].index(method)
    return found
