"""Strings in and out, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]

TEXTS = [
    "",
    "a",
    "with space",
    "naïve Grüße 東京 🚀",
    "nul\0inside",
    "\0",
    "trailing nul\0",
    "x" * 10000,
    "line\nbreak",
]


def test_every_text_passes_unchanged(load: Load) -> None:
    session = load(small.identity("string"))
    for x in (np.array(TEXTS, object), TEXTS, tuple(TEXTS)):
        y = session(x)
        assert y.dtype == object
        assert y.tolist() == TEXTS
    assert session.run({"x": TEXTS})["y"].tolist() == TEXTS
    assert session.submit(TEXTS).result(timeout=30).tolist() == TEXTS


def test_forms_of_strings(load: Load) -> None:
    session = load(small.identity("string"))
    for x in (
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.array([b"ab", "c"], object),
        ["ab", "c"],
        np.array(["ab", "c"], np.dtypes.StringDType())
        if hasattr(np.dtypes, "StringDType")
        else ["ab", "c"],
        np.array(["ab", "-", "c", "-"])[::2],
    ):
        assert session(x).tolist() == ["ab", "c"]


def test_bytes_that_are_no_utf8_come_back(load: Load) -> None:
    session = load(small.identity("string"))
    raw = [b"\xff\xfe", b"ok", b"caf\xe9", bytes(range(256))]
    y = session(np.array(raw, object))
    assert [text.encode("utf-8", "surrogateescape") for text in y] == raw
    again = session(y)
    assert again.tolist() == y.tolist()


def test_a_lone_surrogate_is_refused(load: Load) -> None:
    session = load(small.identity("string"))
    with pytest.raises(zl.InvalidArgument):
        session(["\ud800"])


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3), (0, 4), (2, 0, 2)], ids=str)
def test_shapes_of_strings(load: Load, shape: tuple[int, ...]) -> None:
    session = load(small.identity("string", [None] * len(shape)))
    count = int(np.prod(shape))
    x = np.array([f"s{i}" for i in range(count)], object).reshape(shape)
    y = session(x)
    assert y.shape == shape
    assert y.dtype == object
    assert y.ravel().tolist() == x.ravel().tolist()


def test_number_of_results_depends_on_the_strings(load: Load) -> None:
    session = load(small.string_normalizer())
    assert session(["a", "cat", "the", "dog"]).tolist() == ["CAT", "DOG"]
    assert session(["a"]).tolist() == [""]


@pytest.mark.parametrize("x", [[1, 2], np.zeros(2), [None, "a"], [["a"], 1], 5])
def test_what_is_no_string_is_refused(load: Load, x: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match="input 'x'"):
        load(small.identity("string"))(x)


def test_strings_have_no_fixed_memory(load: Load) -> None:
    session = load(small.identity("string"))
    with pytest.raises(zl.Unsupported, match="no fixed memory"):
        session.bind(x=(2,))
    with pytest.raises(zl.Unsupported, match="out="):
        session.run({"x": ["a"]}, out={"y": np.empty(1, object)})
