"""Outputs that are inputs: the library itself would leave their memory as it was."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]


@pytest.mark.parametrize("rows", [0, 1, 7, 5000])
def test_an_input_comes_out(load: Load, rows: int) -> None:
    session = load(small.passed_input())
    for value in (1.5, -2.0):
        x = np.full((rows, 3), value, np.float32)
        found = session.run({"x": x})
        np.testing.assert_array_equal(found["x"], x)
        np.testing.assert_array_equal(found["y"], np.abs(x))
        assert not np.shares_memory(found["x"], x)
        x += 1
        assert rows == 0 or found["x"][0, 0] == value


def test_only_that_is_wanted(load: Load) -> None:
    session = load(small.passed_input())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    for _ in range(2):
        assert list(session.run({"x": x}, outputs=["x"])) == ["x"]
        np.testing.assert_array_equal(session.run({"x": x}, outputs=["x"])["x"], x)
        np.testing.assert_array_equal(session.run({"x": x}, outputs=["y"])["y"], np.abs(x))


def test_into_memory_of_the_caller(load: Load) -> None:
    session = load(small.passed_input())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = np.zeros_like(x)
    assert session.run({"x": x}, out={"x": out})["x"] is out
    np.testing.assert_array_equal(out, x)
    with pytest.raises(zl.ShapeMismatch):
        session.run({"x": x}, out={"x": np.zeros((3, 3), np.float32)})


def test_bound(load: Load) -> None:
    session = load(small.passed_input())
    binding = session.bind(x=(2, 3))
    for value in range(3):
        binding.inputs["x"][...] = -value
        binding()
        np.testing.assert_array_equal(binding.outputs["x"], np.full((2, 3), -value))
        np.testing.assert_array_equal(binding.outputs["y"], np.full((2, 3), value))


def test_a_model_without_operators(load: Load) -> None:
    session = load(small.nothing_but_an_input())
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.testing.assert_array_equal(session(x), x)
    binding = session.bind(x=x)
    x += 1
    np.testing.assert_array_equal(binding()["x"], x)


def test_strings(load: Load) -> None:
    session = load(small.passed_strings())
    words = np.array(["a", "ß", ""], object)
    assert session(words).tolist() == ["a", "ß", ""]


def test_a_default_that_comes_out(load: Load) -> None:
    session = load(small.passed_default())
    x = np.ones(2, np.float32)
    for _ in range(2):
        found = session.run({"x": x, "w": 3 * x})
        np.testing.assert_array_equal(found["w"], 3 * x)
        np.testing.assert_array_equal(found["y"], 4 * x)
        found = session.run({"x": x})
        np.testing.assert_array_equal(found["w"], 2 * x)
        np.testing.assert_array_equal(found["y"], 3 * x)
