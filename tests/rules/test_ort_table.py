"""third_party/onnxruntime: the rows that zerolane calls, against what is known of the table."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parents[2] / "third_party" / "onnxruntime"
# Interface version, and how many functions its table has. The table only grows.
LENGTHS = {18: 280, 20: 285, 22: 318, 23: 390, 24: 415}


class Row(NamedTuple):
    index: int
    since: int
    name: str
    result: str
    parameters: str


def rows() -> list[Row]:
    text = (FOLDER / "functions.inc").read_text()
    pattern = re.compile(r"^ZL_ORT\((\d+), (\d+), (\w+), ([^,]+), \((.*)\)\)$", re.MULTILINE)
    found = [Row(int(i), int(s), n, r.strip(), p) for i, s, n, r, p in pattern.findall(text)]
    assert len(found) == len(re.findall(r"^ZL_ORT\(", text, re.MULTILINE)), "a row was not read"
    assert len(found) > 60
    return found


def length_of(version: int) -> int:
    """The least length that the table of an interface version is known to have."""
    return LENGTHS[max(v for v in LENGTHS if v <= version)]


def test_rows_are_unique() -> None:
    table = rows()
    assert len({row.index for row in table}) == len(table)
    assert len({row.name for row in table}) == len(table)


def test_indices_lie_within_the_table_of_their_version() -> None:
    wrong = [row for row in rows() if not 0 <= row.index < length_of(row.since)]
    assert wrong == []


def test_rows_name_the_oldest_version_that_has_them() -> None:
    """A row above the table of the version before its own; version 18 is the oldest asked for."""
    for row in rows():
        assert row.since >= 18
        older = [v for v in LENGTHS if v < row.since]
        if older:
            assert row.index >= LENGTHS[max(older)], f"{row.name} is older than {row.since}"


def test_lengths_grow() -> None:
    assert all(a < b for a, b in pairwise(LENGTHS.values()))


def test_types_are_declared() -> None:
    """Every type in a signature is of C or declared in types.h."""
    types = (FOLDER / "types.h").read_text()
    plain = {"void", "char", "int", "float", "double", "size_t", "bool", "const", "struct"}
    plain |= {f"{sign}int{bits}_t" for sign in ("", "u") for bits in (8, 16, 32, 64)}
    unknown = {
        word
        for row in rows()
        for word in re.findall(r"[A-Za-z_]\w*", f"{row.result} {row.parameters}")
        if word not in plain and not re.search(rf"\b{word}\b", types)
    }
    assert unknown == set()


def test_rows_say_whether_they_worked() -> None:
    """Nothing returns void but what cannot fail: releasing and clearing."""
    silent = {row.name for row in rows() if row.result == "void"}
    assert {name for name in silent if not name.startswith(("Release", "ClearBound"))} == set()


def test_the_installed_library_has_the_table() -> None:
    """The pointers of the rows are code of the library that was opened."""
    from zerolane import Unavailable
    from zerolane.runtimes.onnxruntime import open_library

    try:
        info = open_library()
    except Unavailable as error:
        pytest.skip(str(error))
    import ctypes

    library = ctypes.CDLL(info["path"])

    class Base(ctypes.Structure):
        _fields_ = (
            ("get_api", ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint32)),
            ("version", ctypes.CFUNCTYPE(ctypes.c_char_p)),
        )

    library.OrtGetApiBase.restype = ctypes.POINTER(Base)
    base = library.OrtGetApiBase().contents
    minor = int(base.version().decode().split(".")[1])
    table = ctypes.cast(base.get_api(18), ctypes.POINTER(ctypes.c_void_p))
    spans = [
        (int(low, 16), int(high, 16))
        for low, high in re.findall(
            rf"^(\w+)-(\w+) r-xp .*{re.escape(os.path.realpath(info['path']))}$",
            Path("/proc/self/maps").read_text(),
            re.MULTILINE,
        )
    ]
    assert spans
    for row in rows():
        if row.since <= minor:
            pointer = table[row.index]
            assert pointer is not None, row
            assert any(low <= pointer < high for low, high in spans), row


def test_an_official_header_agrees() -> None:
    folder = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    if not folder:
        pytest.skip("ONNXRUNTIME_INCLUDE_DIR names no official header to compare with")
    found = sorted(Path(folder).rglob("onnxruntime_c_api.h"))
    assert found, f"there is no onnxruntime_c_api.h under {folder}"
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", found[0].read_text(), flags=re.DOTALL)
    body = text[re.search(r"struct OrtApi \{", text).end() :]  # type: ignore[union-attr]
    body = body[: re.search(r"^\};", body, re.MULTILINE).start()]  # type: ignore[union-attr]
    names = [
        next(name for name in match if name)
        for match in re.findall(
            r"ORT_API2_STATUS\(\s*(\w+)|ORT_CLASS_RELEASE\(\s*(\w+)|\(\s*ORT_API_CALL\s*\*\s*(\w+)\s*\)",
            body,
        )
    ]
    released = set(re.findall(r"ORT_CLASS_RELEASE\(\s*(\w+)", body))
    names = [f"Release{name}" if name in released else name for name in names]
    for row in rows():
        if row.index < len(names):
            assert names[row.index] == row.name
