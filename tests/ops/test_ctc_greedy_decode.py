"""CtcGreedyDecode and its flat form: paths of the reference, lengths, layouts, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.ctc_greedy_decode import ctc_greedy_decode
from zerolane.ops.reference.ctc_greedy_decode_flat import ctc_greedy_decode_flat


def spoken(shape: tuple[int, int, int], dtype: str, seed: int = 0) -> NDArray[Any]:
    """[N, T, C]: classes that stay for some steps, sixteenths, so that many are equal."""
    rng = np.random.default_rng(seed)
    x = np.round(16 * np.repeat(rng.normal(-2, 1, shape), 3, axis=1)[:, : shape[1]]) / 16
    x[rng.random(shape) < 0.02] = np.nan
    x[rng.random(shape) < 0.02] = -np.inf
    return np.asarray(x).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize(
    "shape", [(0, 5, 3), (2, 0, 3), (1, 1, 1), (3, 7, 2), (2, 301, 29), (5, 64, 131)]
)
@pytest.mark.parametrize("layout", ["NTC", "TNC"])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_paths_are_the_references(
    dtype: str, shape: tuple[int, int, int], layout: str, with_lengths: bool
) -> None:
    x = spoken(shape, dtype)
    if layout == "TNC":
        x = np.ascontiguousarray(x.transpose(1, 0, 2))
    inputs = [x]
    if with_lengths:
        inputs.append(np.random.default_rng(5).integers(0, shape[1] + 1, shape[0]))
    for blank, merge_repeats in ((0, True), (-1, True), (shape[2] - 1, False)):
        given: dict[str, Any] = {"blank": blank, "merge_repeats": merge_repeats, "layout": layout}
        op = zl.ops.CtcGreedyDecode(**given)
        got = op(*inputs)
        labels, counts, scores = ctc_greedy_decode(*inputs, **op.attributes)
        np.testing.assert_array_equal(got.labels, labels)
        np.testing.assert_array_equal(got.label_lengths, counts)
        np.testing.assert_allclose(got.scores, scores, rtol=1e-6, atol=1e-6)
        flat = zl.ops.CtcGreedyDecodeFlat(**given)(*inputs)
        values, row_splits, _ = ctc_greedy_decode_flat(*inputs, **op.attributes)
        np.testing.assert_array_equal(flat.values, values)
        np.testing.assert_array_equal(flat.row_splits, row_splits)
        np.testing.assert_array_equal(flat.scores, got.scores)


def test_a_word() -> None:
    blank = 3
    path = [0, 0, blank, 0, 1, 1, 1, blank, blank, 2, 1]
    x = np.log(np.full((1, len(path), 4), 0.1, np.float32))
    x[0, np.arange(len(path)), path] = np.log(0.7)
    got = zl.ops.CtcGreedyDecode(blank=blank)(x)
    assert got.labels.tolist() == [[0, 0, 1, 2, 1, *[-1] * 6]]
    assert got.label_lengths.tolist() == [5]
    np.testing.assert_allclose(got.scores, [len(path) * np.log(0.7)], rtol=1e-6)


def test_bfloat16_of_torch() -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(spoken((3, 41, 17), "float32"))  # sixteenths: exact in bfloat16
    got = zl.ops.CtcGreedyDecode()(x.bfloat16())
    wanted = zl.ops.CtcGreedyDecode()(x)
    assert torch.equal(got.labels, wanted.labels)


def test_wrong_inputs_are_refused() -> None:
    op = zl.ops.CtcGreedyDecode(blank=4)
    with pytest.raises(zl.ShapeMismatch, match=r"with the blank among them, is 4, expected 5 to"):
        op(np.zeros((1, 2, 4), np.float32))
    with pytest.raises(zl.ShapeMismatch, match="expected 6 to"):
        zl.ops.CtcGreedyDecode(blank=-6)(np.zeros((1, 2, 5), np.float32))
    with pytest.raises(zl.ShapeMismatch, match="rank 2, expected 3"):
        op(np.zeros((2, 4), np.float32))
    x = np.zeros((2, 3, 5), np.float32)
    with pytest.raises(zl.ShapeMismatch, match="sequences and of lengths are 2 and 3"):
        op(x, np.zeros(3, np.int64))
    for wrong in (-1, 4, 2**40):
        with pytest.raises(zl.InvalidArgument, match=f"length 1 is {wrong}, expected 0 to the 3"):
            op(x, np.array([3, wrong]))
        with pytest.raises(zl.InvalidArgument, match=f"length 1 is {wrong}"):
            zl.ops.CtcGreedyDecodeFlat()(x, np.array([3, wrong]))
    with pytest.raises(zl.InvalidArgument, match="'NTC', 'TNC'"):
        zl.ops.CtcGreedyDecode(layout="TCN")


@pytest.mark.parametrize("with_lengths", [True, False])
def test_in_onnxruntime(with_lengths: bool) -> None:
    pytest.importorskip("onnx")
    x = spoken((3, 50, 11), "float32")
    lengths = np.array([50, 0, 17])
    given = (x, lengths) if with_lengths else (x,)
    inputs: dict[str, Any] = {
        "x": ("float32", ["N", "T", 11]),
        "lengths": ("int64", ["N"]) if with_lengths else None,
    }
    s = zl.load(one_node("zerolane::CtcGreedyDecode", inputs, ["labels", "counts", "scores"]))
    assert [output.shape for output in s.outputs] == [("N", "T"), ("N",), ("N",)]
    for got, wanted in zip(s(*given), zl.ops.CtcGreedyDecode()(*given), strict=True):
        np.testing.assert_array_equal(got, wanted)
    s = zl.load(one_node("zerolane::CtcGreedyDecodeFlat", inputs, ["values", "splits", "scores"]))
    for got, wanted in zip(s(*given), zl.ops.CtcGreedyDecodeFlat()(*given), strict=True):
        np.testing.assert_array_equal(got, wanted)
