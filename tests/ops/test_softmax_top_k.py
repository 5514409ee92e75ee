"""SoftmaxTopK: values, order and ties of the reference; probabilities of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.softmax_top_k import softmax_top_k

TOLERANCE = {"float32": 5e-6, "float16": 1e-3}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    ("shape", "k"),
    [
        ((1,), 1),
        ((1000,), 5),
        ((3, 7), 7),
        ((2, 3, 65), 3),
        ((0, 10), 5),
        ((2, 129), 60),
        ((5, 16411), 16),
        ((1, 3001), 3001),
    ],
)
@pytest.mark.parametrize("kind", ["normal", "equal ones", "NaN", "infinite", "sorted"])
def test_values_are_the_references(dtype: str, shape: tuple[int, ...], k: int, kind: str) -> None:
    rng = np.random.default_rng(3)
    x = 3 * rng.standard_normal(shape)
    if kind == "equal ones":
        x = np.round(x)
    if kind == "NaN":
        x[rng.random(shape) < 0.3] = np.nan
    if kind == "infinite":
        x[rng.random(shape) < 0.5] = -np.inf
    if kind == "sorted":
        x.sort(axis=-1)
    x = x.astype(dtype)
    op = zl.ops.SoftmaxTopK(k=k, temperature=1.5)
    got = op(x)
    with np.errstate(invalid="ignore"):
        probabilities, indices = softmax_top_k(x, **op.attributes)
    assert got.probabilities.dtype == dtype
    assert got.indices.dtype == np.int64
    np.testing.assert_array_equal(got.indices, indices)
    np.testing.assert_allclose(
        got.probabilities, probabilities, rtol=TOLERANCE[dtype], atol=6e-8, equal_nan=True
    )


def test_values_are_torchs() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(np.random.default_rng(1).permutation(7000).reshape(7, 1000) / 500.0)
    for logits in (x.float(), x.bfloat16()):
        got = zl.ops.SoftmaxTopK(k=9)(logits)
        assert got.probabilities.dtype == logits.dtype
        probabilities = torch.softmax(logits.float(), -1)
        wanted = torch.gather(probabilities, -1, got.indices)
        assert torch.allclose(got.probabilities.float(), wanted, rtol=4e-3)
        # bfloat16 makes many equal: the kth largest is the same number.
        assert torch.equal(
            torch.gather(logits, -1, got.indices), torch.topk(logits, 9, dim=-1).values
        )


def test_both_zeros_are_equal() -> None:
    got = zl.ops.SoftmaxTopK(k=4)(np.array([-0.0, 0.0, -0.0, 0.0], np.float32))
    assert got.indices.tolist() == [0, 1, 2, 3]
    assert got.probabilities.tolist() == [0.25] * 4


def test_temperature_sharpens() -> None:
    x = np.array([1, 2, 3], np.float32)
    cold = zl.ops.SoftmaxTopK(k=1, temperature=1e-6)(x)
    assert cold.probabilities.tolist() == [1]
    assert cold.indices.tolist() == [2]
    warm = zl.ops.SoftmaxTopK(k=3, temperature=1e6)(x)
    np.testing.assert_allclose(warm.probabilities, [1 / 3] * 3, rtol=1e-5)


def test_more_than_there_are_is_refused() -> None:
    op = zl.ops.SoftmaxTopK(k=5)
    for shape in ((4,), (3, 0), (2, 1)):
        with pytest.raises(zl.ShapeMismatch, match=r"classes, expected k = 5 to"):
            op(np.zeros(shape, np.float32))
    with pytest.raises(zl.ShapeMismatch, match="rank 0"):
        op(np.float32(1))
    for wrong in ({"k": 0}, {"k": -1}, {"k": 2**32}, {"temperature": 0.0}, {"temperature": -1.0}):
        with pytest.raises(zl.InvalidArgument):
            zl.ops.SoftmaxTopK(**wrong)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("k", [3, 70])
def test_in_onnxruntime(dtype: str, k: int) -> None:
    pytest.importorskip("onnx")
    model = one_node(
        "zerolane::SoftmaxTopK", {"x": (dtype, ["N", "T", 101])}, ["p", "i"], k=k, temperature=2.0
    )
    s = zl.load(model)
    assert [output.shape for output in s.outputs] == [("N", "T", k)] * 2
    x = np.random.default_rng(0).standard_normal((2, 5, 101)).astype(dtype)
    for got, wanted in zip(s(x), zl.ops.SoftmaxTopK(k=k, temperature=2.0)(x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_too_few_classes_fail_the_run() -> None:
    pytest.importorskip("onnx")
    inputs: dict[str, Any] = {"x": ("float32", ["N", "C"])}
    s = zl.load(one_node("zerolane::SoftmaxTopK", inputs, ["p", "i"], k=5))
    assert s(np.zeros((2, 5), np.float32))[1].tolist() == [[0, 1, 2, 3, 4]] * 2
    with pytest.raises(zl.ShapeMismatch, match="there are 4 classes, expected k = 5 to"):
        s(np.zeros((2, 4), np.float32))
