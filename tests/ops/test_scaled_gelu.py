"""ScaledGelu: values of the reference and of torch, in every element type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import zerolane as zl
from tests.ops.build import one_node
from zerolane.ops.reference.scaled_gelu import scaled_gelu

# Of the result, or of 1 where it is smaller: near 0 the last place of float16 is absolute.
TOLERANCE = {"float64": 1e-15, "float32": 6e-7, "float16": 5e-4}
FORMS = ["none", "tanh"]


def everywhere(count: int, dtype: str) -> NDArray[Any]:
    return np.linspace(-12, 12, count).astype(dtype)


@pytest.mark.parametrize("approximate", FORMS)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("count", [0, 1, 3, 7, 8, 15, 17, 63, 129, 10007])
def test_values_are_the_references(dtype: str, approximate: str, count: int) -> None:
    op = zl.ops.ScaledGelu(alpha=1.25, scale=-0.75, approximate=approximate)
    x = everywhere(count, dtype)
    got = op(x)
    assert got.dtype == x.dtype
    wanted = scaled_gelu(x, **op.attributes)
    tolerance = TOLERANCE[dtype]
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("approximate", FORMS)
def test_values_are_torchs(approximate: str) -> None:
    torch = pytest.importorskip("torch")
    x = everywhere(5003, "float32")
    wanted = torch.nn.functional.gelu(torch.from_numpy(x), approximate=approximate).numpy()
    got = zl.ops.ScaledGelu(approximate=approximate)(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("approximate", FORMS)
def test_bfloat16_is_float32_rounded(approximate: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(everywhere(2003, "float32")).bfloat16()
    op = zl.ops.ScaledGelu(alpha=0.5, approximate=approximate)
    got = op(x)
    assert got.dtype == torch.bfloat16
    wanted = torch.from_numpy(op(x.float().numpy())).bfloat16()
    assert torch.equal(got.view(torch.int16), wanted.view(torch.int16))


def test_the_negative_tail_keeps_its_digits() -> None:
    x = np.linspace(-13, -5, 1001).astype(np.float32)
    wanted = scaled_gelu(x, alpha=1, scale=1, approximate="none")
    np.testing.assert_allclose(zl.ops.ScaledGelu()(x), wanted, rtol=1.5e-6, atol=0)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("approximate", FORMS)
def test_limits(dtype: str, approximate: str) -> None:
    x = np.array([np.inf, -np.inf, np.nan, 0, -0.0], dtype)
    got = zl.ops.ScaledGelu(approximate=approximate)(x)
    np.testing.assert_array_equal(got, np.array([np.inf, 0, np.nan, 0, 0], dtype))


@pytest.mark.parametrize("shape", [(), (3, 0, 2), (2, 3, 5, 7)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    got = zl.ops.ScaledGelu()(x)
    assert got.shape == shape


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_in_onnxruntime(dtype: str) -> None:
    pytest.importorskip("onnx")
    attributes: dict[str, Any] = {"alpha": 1.5, "scale": 2.0, "approximate": "tanh"}
    model = one_node("zerolane::ScaledGelu", {"x": (dtype, ["N", 3])}, ["y"], **attributes)
    x = everywhere(33, dtype).reshape(11, 3)
    np.testing.assert_array_equal(zl.load(model)(x), zl.ops.ScaledGelu(**attributes)(x))


def test_wrong_attributes_are_refused() -> None:
    with pytest.raises(zl.InvalidArgument, match="expected one of 'none', 'tanh'"):
        zl.ops.ScaledGelu(approximate="sigmoid")
    with pytest.raises(zl.InvalidArgument, match="alpha"):
        zl.ops.ScaledGelu(alpha=float("inf"))
