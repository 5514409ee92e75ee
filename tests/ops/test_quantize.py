"""Quantize, Dequantize, DynamicQuantize: the bits of ONNX Runtime and of the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.dequantize import dequantize
from zerolane.ops.reference.dynamic_quantize import dynamic_quantize
from zerolane.ops.reference.quantize import quantize

SHAPES: list[tuple[tuple[int, ...], int | None]] = [
    ((), None),
    ((0,), None),
    ((67,), None),
    ((67,), 0),
    ((5, 13), 1),
    ((5, 13), -2),
    ((2, 3, 17), 1),
    ((2, 3, 65), 1),
    ((2, 300), -1),
    ((2, 0, 3), 2),
    ((3, 0), 1),
    ((1, 7, 5, 9), 1),
    ((3, 1, 4), 1),
]


def numbers(
    shape: tuple[int, ...], axis: int | None, dtype: str, integer: str
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Elements, scales and zero points: ties, NaN and infinities among them."""
    rng = np.random.default_rng(9)
    x = np.round(50 * rng.standard_normal(shape) * 4) / 4
    special = rng.random(shape)
    x = np.where(special < 0.02, np.nan, np.where(special > 0.98, np.inf, x))
    x = np.where(special > 0.99, -np.inf, x)
    scales = () if axis is None else (shape[axis],)
    scale = np.where(rng.random(scales) < 0.5, 0.5, rng.uniform(0.1, 2, scales))
    info = np.iinfo(integer)
    zero_point = rng.integers(info.min, info.max + 1, scales)
    return (
        np.asarray(x).astype(dtype),
        np.asarray(scale).astype(dtype),
        np.asarray(zero_point).astype(integer),
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("integer", ["int8", "uint8"])
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_bits_are_the_references(
    dtype: str, integer: str, shape: tuple[int, ...], axis: int | None
) -> None:
    x, scale, zero_point = numbers(shape, axis, dtype, integer)
    at = 1 if axis is None else axis
    got = zl.ops.Quantize(axis=at)(x, scale, zero_point)
    assert got.dtype == integer
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(got, quantize(x, scale, zero_point, axis=at))
    op = zl.ops.Dequantize(axis=at)
    for zero in (zero_point, None):
        back = op(got, scale) if zero is None else op(got, scale, zero)
        assert back.dtype == dtype
        np.testing.assert_array_equal(back, dequantize(got, scale, zero, axis=at))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("integer", ["int8", "uint8"])
@pytest.mark.parametrize(("shape", "axis"), [s for s in SHAPES if 0 not in s[0]])
def test_bits_are_onnxruntimes(
    dtype: str, integer: str, shape: tuple[int, ...], axis: int | None
) -> None:
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    from onnx import ValueInfoProto, helper

    x, scale, zero_point = numbers(shape, axis, dtype, integer)
    at = 1 if axis is None else axis
    if axis is None and len(shape) < 2:
        at = 0

    def run(op: str, first: NDArray[Any]) -> NDArray[Any]:
        given = {"x": first, "s": scale, "z": zero_point}
        graph = helper.make_graph(
            [helper.make_node(op, list(given), ["y"], axis=at)],
            "graph",
            [
                helper.make_tensor_value_info(
                    name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
                )
                for name, array in given.items()
            ],
            [ValueInfoProto(name="y")],
        )
        # The first version that takes float16.
        imports = [helper.make_opsetid("", 19)]
        model = helper.make_model(graph, ir_version=9, opset_imports=imports)
        session = ort.InferenceSession(
            model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        result: NDArray[Any] = session.run(None, given)[0]
        return result

    wanted = run("QuantizeLinear", x)
    with np.errstate(all="ignore"):
        got = zl.ops.Quantize(axis=at)(x, scale, zero_point)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(
        zl.ops.Dequantize(axis=at)(got, scale, zero_point), run("DequantizeLinear", wanted)
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (63,), (3, 5, 67)])
def test_a_scale_from_the_data(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(9 * np.random.default_rng(2).standard_normal(shape)).astype(dtype)
    if x.size > 40:
        x.reshape(-1)[[3, 11, 12]] = [np.nan, np.inf, -np.inf]
    got = zl.ops.DynamicQuantize()(x)
    wanted, scale = dynamic_quantize(x)
    assert got.y.dtype == np.int8
    assert got.scale.dtype == dtype
    assert got.scale == scale
    np.testing.assert_array_equal(got.y, wanted)
    finite = np.isfinite(x)
    error = np.abs(got.y[finite] * np.float64(got.scale) - x[finite])
    assert error.max(initial=0) <= 0.51 * np.float64(scale)


def test_nothing_but_zeros_has_scale_one() -> None:
    got = zl.ops.DynamicQuantize()(np.zeros((3, 5), np.float32))
    assert got.scale == 1
    assert not got.y.any()


def test_wrong_inputs_are_refused() -> None:
    x = np.zeros((2, 3, 4), np.float32)
    op = zl.ops.Quantize(axis=1)
    one, three = np.ones(1, np.float32), np.ones(3, np.float32)
    with pytest.raises(zl.ShapeMismatch, match="along the axis and of the scale are 3 and 4"):
        op(x, np.ones(4, np.float32), np.zeros(4, np.int8))
    with pytest.raises(zl.ShapeMismatch, match="the scale and the zero point are 3 and 1"):
        op(x, three, np.zeros(1, np.int8))
    with pytest.raises(zl.ShapeMismatch, match="input 2 has rank 0, expected 1"):
        op(x, three, np.int8(0))
    with pytest.raises(zl.ShapeMismatch, match="the scale has rank 2, expected 0 or 1"):
        op(x, np.ones((1, 3), np.float32), np.zeros((1, 3), np.int8))
    with pytest.raises(zl.ShapeMismatch, match="expected one with axis 3"):
        zl.ops.Quantize(axis=3)(x, three, np.zeros(3, np.int8))
    with pytest.raises(zl.InvalidArgument, match="float16"):
        op(x, one.astype(np.float16), np.zeros(1, np.int8))
    with pytest.raises(zl.InvalidArgument, match="axis"):
        zl.ops.Quantize(axis=2**40)
    # One scale is for all, whatever the axis.
    assert zl.ops.Quantize(axis=3)(x, one, np.zeros(1, np.int8)).shape == x.shape


@pytest.mark.parametrize("integer", ["int8", "uint8"])
def test_in_onnxruntime(integer: str) -> None:
    pytest.importorskip("onnx")
    x, scale, zero_point = numbers((4, 3, 7), 1, "float32", integer)
    three: Any = ("float32", [3])
    inputs = {"x": ("float32", ["N", 3, "W"]), "s": three, "z": (integer, [3])}
    s = zl.load(one_node("zerolane::Quantize", inputs, ["y"], axis=1))
    assert s.outputs[0].dtype == integer
    assert s.outputs[0].shape == ("N", 3, "W")
    y = s(x, scale, zero_point)
    np.testing.assert_array_equal(y, zl.ops.Quantize(axis=1)(x, scale, zero_point))
    back: dict[str, Any] = {"x": (integer, ["N", 3, "W"]), "s": three}
    s = zl.load(one_node("zerolane::Dequantize", back, ["y"], axis=1))
    np.testing.assert_array_equal(s(y, scale), zl.ops.Dequantize(axis=1)(y, scale))
    s = zl.load(one_node("zerolane::DynamicQuantize", {"x": ("float32", None)}, ["y", "scale"]))
    for got, wanted in zip(s(x), zl.ops.DynamicQuantize()(x), strict=True):
        np.testing.assert_array_equal(got, wanted)
