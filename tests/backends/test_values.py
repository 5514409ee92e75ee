"""Sequences, maps, optional inputs and weights given as inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_sequence_output_is_a_list(load: Load, rows: int) -> None:
    session = load(small.sequence_output())
    assert session.outputs[0].type == "sequence(tensor(float32))"
    assert session.outputs[0].shape is None
    x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
    for y in (session(x), session.run({"x": x})["rows"], session.submit(x).result(timeout=30)):
        assert isinstance(y, list)
        assert len(y) == rows
        for row, want in zip(y, x, strict=True):
            np.testing.assert_array_equal(row, want[None])


def test_sequence_output_of_a_binding(load: Load) -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    binding = load(small.sequence_output()).bind(x=x)
    for _ in range(2):
        x += 1
        np.testing.assert_array_equal(np.concatenate(binding()["rows"]), x)


def test_sequence_input_is_a_list_or_tuple(load: Load) -> None:
    session = load(small.sequence_input())
    rows = [np.full((n, 2), n, np.float32) for n in (1, 3, 2)]
    want = np.concatenate(rows)
    np.testing.assert_array_equal(session(rows), want)
    np.testing.assert_array_equal(session(tuple(rows)), want)
    np.testing.assert_array_equal(session.run({"rows": rows})["y"], want)
    np.testing.assert_array_equal(session.submit(rows).result(timeout=30), want)
    strided = [np.asfortranarray(row) for row in rows]
    np.testing.assert_array_equal(session(strided), want)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([], zl.Unsupported),
        (np.zeros((2, 2), np.float32), zl.InvalidArgument),
        ([np.zeros((2, 2), np.float64)], zl.InvalidArgument),
        ([np.zeros((2, 2), np.float32), "text"], zl.InvalidArgument),
        ([None], zl.InvalidArgument),
    ],
)
def test_bad_sequences(load: Load, rows: Any, error: type[zl.Error]) -> None:
    session = load(small.sequence_input())
    with pytest.raises(error):
        session(rows)
    np.testing.assert_array_equal(session([np.ones((1, 2), np.float32)]), [[1, 1]])


@pytest.mark.parametrize(("keys", "names"), [("int64", [10, 20, 30]), ("string", ["a", "b", "c"])])
def test_map_output_is_a_dict(load: Load, keys: str, names: list[Any]) -> None:
    session = load(small.map_output(keys))
    x = np.array([[0.5, 0.25, 0.125], [1, 2, 3]], np.float32)
    for y in (session(x), session.run({"x": x})["maps"], session.submit(x).result(timeout=30)):
        assert y == [dict(zip(names, row, strict=True)) for row in x.tolist()]
    assert session(np.zeros((1, 3), np.float32)) == [dict.fromkeys(names, 0.0)]


def test_map_input_is_a_dict(load: Load) -> None:
    session = load(small.map_input())
    np.testing.assert_array_equal(session({"b": 2.0, "a": 1.0}), [[1, 2, 0]])
    np.testing.assert_array_equal(session({"c": 5}), [[0, 0, 5]])
    np.testing.assert_array_equal(session.run({"features": {"a": 1.0}})["y"], [[1, 0, 0]])
    np.testing.assert_array_equal(session(features={"a": 1.0}), [[1, 0, 0]])


def test_map_input_of_a_submitted_call(load: Load) -> None:
    session = load(small.map_input())
    future = session.submit({"b": 2.0})
    np.testing.assert_array_equal(future.result(timeout=30), [[0, 2, 0]])


@pytest.mark.parametrize("features", [{1: 2.0}, [1, 2], {"a": "text"}, {"a": None}, 3.0])
def test_bad_maps(load: Load, features: Any) -> None:
    with pytest.raises(zl.InvalidArgument, match="features"):
        load(small.map_input()).run({"features": features})


def test_optional_input(load: Load) -> None:
    session = load(small.optional_input())
    x, bias = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
    np.testing.assert_array_equal(session(x, bias), [11, 22])
    np.testing.assert_array_equal(session.run({"x": x, "bias": bias})["y"], [11, 22])


def test_optional_input_left_out(load: Load) -> None:
    """Left out or None: the model sees that nothing was given; also after a call that gave it."""
    session = load(small.optional_input())
    x, bias = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(session(x), [1, 2])
        np.testing.assert_array_equal(session.run({"x": x, "bias": None})["y"], [1, 2])
        np.testing.assert_array_equal(session(x, bias), [11, 22])


def test_overridable_initializer(load: Load) -> None:
    session = load(small.overridable_initializer())
    assert [spec.name for spec in session.inputs] == ["x"]
    assert [spec.name for spec in session.optional_inputs] == ["scale"]
    x, scale = np.arange(4, dtype=np.float32), np.array([10], np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(session(x), 2 * x)
        np.testing.assert_array_equal(session(x, scale=scale), 10 * x)
        np.testing.assert_array_equal(session(x, scale), 10 * x)
        np.testing.assert_array_equal(session.run({"x": x, "scale": None})["y"], 2 * x)
    np.testing.assert_array_equal(session.submit(x, scale=scale).result(30), 10 * x)
    np.testing.assert_array_equal(session.submit(x).result(30), 2 * x)
    np.testing.assert_array_equal(session.bind(x=x, scale=scale)()["y"], 10 * x)
    np.testing.assert_array_equal(session.bind(x=x)()["y"], 2 * x)
