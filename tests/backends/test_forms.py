"""The forms of a call: arrays or a dict in, the same form out; out= and outputs=."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]


@pytest.fixture
def two(load: Load) -> zl.Session:
    """x -> total, size."""
    return load(small.sum_and_size())


X = np.array([1, 2, 3], np.float32)


def test_one_output_is_the_array_itself(load: Load) -> None:
    y = load(small.relu())(np.array([[-1, 0, 1, 2]], np.float32))
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(y, [[0, 0, 1, 2]])


def test_more_outputs_are_a_named_tuple_in_output_order(two: zl.Session) -> None:
    y = two(X)
    assert isinstance(y, tuple)
    assert y._fields == ("total", "size")
    assert (float(y.total), int(y.size)) == (6, 3)
    total, size = y
    assert (total, size) == (6, 3)
    assert y._replace(size=0).size == 0


def test_a_dict_in_gives_a_dict_out(two: zl.Session) -> None:
    for y in (two({"x": X}), two.run({"x": X}), two.submit({"x": X}).result(timeout=30)):
        assert type(y) is dict
        assert list(y) == ["total", "size"]
        assert (y["total"], y["size"]) == (6, 3)


def test_arun_keeps_the_form(two: zl.Session) -> None:
    async def both() -> tuple[Any, Any]:
        return await two.arun(X), await two.arun({"x": X})

    arrays, named = asyncio.run(both())
    assert arrays.total == named["total"] == 6


def test_any_mapping_is_taken_by_run(two: zl.Session) -> None:
    from types import MappingProxyType

    assert two.run(MappingProxyType({"x": X}))["total"] == 6


def test_inputs_by_position_and_name(load: Load) -> None:
    session = load(small.add((2,)))
    a, b = np.array([1, 2], np.float32), np.array([10, 20], np.float32)
    for y in (session(a, b), session(a, b=b), session(b=b, a=a), session({"b": b, "a": a})):
        y = y["y"] if isinstance(y, dict) else y
        np.testing.assert_array_equal(y, [11, 22])
    np.testing.assert_array_equal(session.submit(a, b=b).result(timeout=30), [11, 22])


def test_names_that_are_no_identifiers(load: Load) -> None:
    model = small.sum_and_size()
    model.graph.node[0].output[0] = model.graph.output[0].name = "total:0"
    model.graph.node[1].output[0] = model.graph.output[1].name = "class"
    y = load(model)(X)
    assert y._fields[0] == "total_0"
    assert len(set(y._fields)) == 2
    assert (y[0], y[1]) == (6, 3)
    assert list(load(model).run({"x": X})) == ["total:0", "class"]


def test_outputs_chooses(two: zl.Session) -> None:
    assert list(two.run({"x": X}, outputs=["size"])) == ["size"]
    assert two.run({"x": X}, outputs="total") == {"total": 6}
    assert list(two.run({"x": X}, outputs=["size", "total"])) == ["total", "size"]
    assert list(two.run({"x": X})) == ["total", "size"]
    with pytest.raises(zl.InvalidArgument, match="'other'") as caught:
        two.run({"x": X}, outputs=["other"])
    assert caught.value.subject == "other"
    with pytest.raises(zl.InvalidArgument, match="no output"):
        two.run({"x": X}, outputs=[])


def test_choice_of_outputs_does_not_stick(two: zl.Session) -> None:
    for outputs in (["size"], None, ["total"], None, ["size", "total"]):
        y = two.run({"x": X}, outputs=outputs)
        assert set(y) == set(outputs or ["size", "total"])
        assert y.get("size", 3) == 3
        assert y.get("total", 6) == 6


@pytest.mark.parametrize("size", [3, 5000])
def test_out_takes_the_result(load: Load, size: int) -> None:
    session = load(small.identity())
    x, out = np.arange(size, dtype=np.float32), np.zeros(size, np.float32)
    for _ in range(3):
        x += 1
        y = session.run({"x": x}, out={"y": out})
        assert y["y"] is out
        np.testing.assert_array_equal(out, x)
    kept = out.copy()
    session(x + 1)
    np.testing.assert_array_equal(out, kept)  # the next call does not write there


def test_out_for_some_outputs(two: zl.Session) -> None:
    size = np.zeros((), np.int64)
    y = two.run({"x": X}, out={"size": size})
    assert y["size"] is size
    assert (int(size), float(y["total"])) == (3, 6)
    y = two.run({"x": X}, out={"size": size}, outputs=["size"])
    assert list(y) == ["size"]


def test_out_of_data_dependent_size(load: Load) -> None:
    session = load(small.nonzero())
    x = np.array([1, 0, 1, 0], np.float32)
    out = np.zeros((1, 2), np.int64)
    session.run({"x": x}, out={"y": out})
    np.testing.assert_array_equal(out, [[0, 2]])
    wrong = np.full((1, 3), 7, np.int64)
    with pytest.raises(zl.Error):
        session.run({"x": x}, out={"y": wrong})
    np.testing.assert_array_equal(session(x), [[0, 2]])


def test_bound_outputs(load: Load) -> None:
    session = load(small.add((2,)))
    y = np.zeros(2, np.float32)
    a = np.ones(2, np.float32)
    binding = session.bind(a, b=(2,), out={"y": y})
    binding.inputs["b"][...] = [10, 20]
    result = binding()
    assert result["y"] is y
    np.testing.assert_array_equal(y, [11, 21])
    np.testing.assert_array_equal(binding.run()["y"], [11, 21])


def test_binding_maps_are_read_only(load: Load) -> None:
    binding = load(small.relu()).bind()
    for view in (binding.inputs, binding.outputs):
        with pytest.raises(TypeError):
            view["x"] = np.zeros((1, 4), np.float32)
    with pytest.raises(zl.InvalidArgument, match="without arguments"):
        binding(np.zeros((1, 4), np.float32))


def test_metadata_and_latency(load: Load) -> None:
    model = small.relu()
    model.producer_name, model.doc_string, model.model_version = "maker", "about", 7
    entry = model.metadata_props.add()
    entry.key, entry.value = "labels", "a,b"
    session = load(model)
    assert session.metadata["producer"] == "maker"
    assert session.metadata["description"] == "about"
    assert session.metadata["version"] == 7
    assert session.metadata["graph_name"] == "graph"
    assert session.metadata["custom"] == {"labels": "a,b"}
    assert session.latency()["timed_runs"] == 0
    for _ in range(50):
        session(np.zeros((1, 4), np.float32))
    latency = session.latency()
    assert latency["timed_runs"] > 0
    assert 0 < latency["p50_us"] <= latency["p99_us"] <= latency["max_us"]


def test_inputs_are_not_changed(load: Load) -> None:
    x = np.array([[-1, 2, -3, 4]], np.float32)
    kept = x.copy()
    load(small.relu())(x)
    np.testing.assert_array_equal(x, kept)


def test_called_with_empty_keywords(load: Load) -> None:
    """As executors and partials call what they are given."""
    session = load(small.relu())
    x = np.ones((1, 4), np.float32)
    with ThreadPoolExecutor(1) as pool:
        np.testing.assert_array_equal(pool.submit(session, {"x": x}).result()["y"], x)
        np.testing.assert_array_equal(pool.submit(session.bind(x)).result()["y"], x)
