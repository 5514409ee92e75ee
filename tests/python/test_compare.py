"""`zl.compare`."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests.models import small, task_checks  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.measure.compare import compare_outputs  # noqa: E402
from zerolane.measure.difference import OutputDifference  # noqa: E402


def difference(a: Any, b: Any, atol: float = 1e-5, rtol: float = 1e-5) -> OutputDifference:
    (row,) = compare_outputs({"y": a}, {"y": b}, atol=atol, rtol=rtol).outputs
    return row


def test_equal_models_agree() -> None:
    model = small.control_policy().SerializeToString()
    result = zl.compare(zl.load(model), model)
    assert result.ok
    assert result.outputs[0].elements == 12
    assert result.outputs[0].worst is None
    assert "agree" in str(result)


def test_session_against_a_function() -> None:
    session = zl.load(small.dynamic_dims().SerializeToString())
    result = zl.compare(session, lambda x: {"y": x["x"] * 2}, shapes="x:4x5x3")
    assert result.ok
    assert result.outputs[0].shape == ((4, 5, 3), (4, 5, 3))
    wrong = zl.compare(session, lambda x: {"y": x["x"] * 2.1}, shapes="x:4x5x3")
    assert not wrong.ok
    assert "DIFFER" in str(wrong)
    assert not wrong.as_dict()["ok"]
    json.dumps(wrong.as_dict())


@pytest.mark.parametrize("name", task_checks.TRAINED)
def test_trained_models_against_their_case_files(name: str) -> None:
    expected = task_checks.case_outputs(name)
    session = zl.load(task_checks.FOLDER / f"{name}.onnx")
    result = zl.compare(
        lambda inputs: session.run(inputs, outputs=list(expected)),
        lambda _: expected,
        task_checks.case_inputs(name),
        atol=1e-4,
        rtol=1e-4,
    )
    assert result.ok, result
    assert {row.name for row in result.outputs} == set(expected)


def test_worst_element_and_counts() -> None:
    a = np.zeros((2, 3), np.float32)
    b = a.copy()
    a[1, 2], b[1, 2] = 1.5, 1.0
    a[0, 1] = 0.25
    row = difference(a, b)
    assert not row.ok
    assert row.mismatches == 2
    assert row.elements == 6
    assert row.max_abs == 0.5
    assert row.max_rel == 0.5
    assert row.worst is not None
    assert (row.worst.index, row.worst.a, row.worst.b) == ((1, 2), 1.5, 1.0)
    assert "[1, 2]" in str(row)


def test_tolerance_is_relative_to_the_reference() -> None:
    assert difference(np.array([101.0]), np.array([100.0]), atol=0, rtol=0.01).ok
    assert not difference(np.array([100.0]), np.array([98.0]), atol=1, rtol=0.01).ok
    assert difference(np.array([1.5]), np.array([1.0]), atol=0.5, rtol=0).ok


def test_the_worst_is_one_out_of_tolerance() -> None:
    row = difference(np.array([1001.0, 1.5]), np.array([1000.0, 1.0]), atol=0, rtol=0.01)
    assert row.mismatches == 1
    assert row.max_abs == 1
    assert row.worst is not None
    assert row.worst.index == (1,)


def test_nan_and_infinity() -> None:
    nan, inf = np.nan, np.inf
    assert difference(np.array([nan, inf, -inf]), np.array([nan, inf, -inf])).ok
    for a, b in ((nan, 1.0), (1.0, nan), (inf, -inf), (inf, 1.0), (1.0, inf)):
        row = difference(np.array([0.0, a]), np.array([0.0, b]), atol=10, rtol=10)
        assert row.mismatches == 1, (a, b)
        assert row.max_abs == inf
        assert row.worst is not None
        assert row.worst.index == (1,)
    assert difference(np.array([nan, 1, 2]), np.array([nan, nan, 2])).nans == (1, 2)


def test_integers_are_exact() -> None:
    big = np.array([2**63 - 1, -(2**63)], np.int64)
    assert difference(big, big).ok
    row = difference(big, big + np.array([-1, 1]), rtol=0.5)
    assert row.mismatches == 2
    assert row.max_abs == 1
    assert difference(np.array([3], np.int8), np.array([4], np.int8), atol=1).ok
    wide = difference(np.array([127], np.int8), np.array([-128], np.int8))
    assert wide.max_abs == 255


@pytest.mark.parametrize(
    ("a", "b", "ok"),
    [
        (np.array([True, False]), np.array([True, False]), True),
        (np.array([True, False]), np.array([True, True]), False),
        (np.array(["a", "b"], object), np.array(["a", "b"]), True),
        (np.array(["a", "b"], object), np.array(["a", "c"], object), False),
        (np.float32(2), np.float32(2), True),
        (np.zeros((0, 3)), np.zeros((0, 3)), True),
        (np.array([1 + 2j]), np.array([1 + 2j]), True),
        (np.array([1 + 2j]), np.array([1 - 2j]), False),
        ([np.zeros(2), np.ones(1)], [np.zeros(2), np.ones(1)], True),
        ([], [], True),
        ({"a": 1.0, "b": 2.0}, {"b": 2.0, "a": 1.0}, True),
        ([{"a": 1.0}, {"a": 2.0}], [{"a": 1.0}, {"a": 3.0}], False),
    ],
)
def test_kinds_of_values(a: Any, b: Any, ok: bool) -> None:
    assert compare_outputs({"y": a}, {"y": b}, atol=1e-5, rtol=1e-5).ok is ok


@pytest.mark.parametrize(
    ("a", "b", "note"),
    [
        (np.zeros(3), np.zeros(4), "shapes differ: [3] and [4]"),
        (np.zeros(3), np.zeros(3, np.int64), "dtypes differ: float64 and int64"),
        ([np.zeros(1)], [np.zeros(1)] * 2, "lengths differ"),
        ({"a": 1.0}, {"b": 1.0}, "keys differ"),
        (np.zeros(1), {"a": 1.0}, "kinds differ: array and map"),
    ],
)
def test_values_that_cannot_be_compared(a: Any, b: Any, note: str) -> None:
    result = compare_outputs({"y": a}, {"y": b}, atol=1, rtol=1)
    assert not result.ok
    assert note in str(result)


def test_two_float_types_differ_but_are_measured() -> None:
    row = difference(np.array([1.25], np.float16), np.array([1.0], np.float32))
    assert not row.ok
    assert row.max_abs == 0.25
    assert "dtypes differ: float16 and float32; max abs 0.25" in str(row)


def test_an_output_on_one_side_only() -> None:
    result = compare_outputs({"y": np.ones(2)}, {"z": ["a"]}, atol=0, rtol=0)
    assert [(row.name, row.note) for row in result.outputs] == [
        ("y", "only a has it"),
        ("z", "only b has it"),
    ]
    assert not result.ok


def test_torch_outputs() -> None:
    torch = pytest.importorskip("torch", reason="compares torch tensors")
    assert difference(torch.ones(2), np.ones(2, np.float32)).ok


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda f: zl.compare(f, f), "inputs"),
        (lambda f: zl.compare(1, f, {}), "int"),
        (lambda f: zl.compare(f, f, {}, atol=-1), "atol"),
        (lambda f: zl.compare(f, f, {}, rtol=float("nan")), "rtol"),
        (lambda f: zl.compare(f, lambda x: 3, {}), "dict"),
    ],
)
def test_wrong_arguments(call: Any, word: str) -> None:
    with pytest.raises(zl.InvalidArgument, match=word) as caught:
        call(lambda x: {"y": np.ones(1)})
    assert_three_parts(str(caught.value))
