"""Every element type through every way of calling, values kept bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import BACKENDS, Backend
from tests.models import small
from zerolane import _native
from zerolane._arrays import numpy_dtype

Load = Callable[..., zl.Session]

# ONNX's short names of the types whose zerolane names are ml_dtypes' names.
NAMES = {
    "float8e4m3fn": "float8_e4m3fn",
    "float8e4m3fnuz": "float8_e4m3fnuz",
    "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz",
    "float8e8m0": "float8_e8m0fnu",
    "float4e2m1": "float4_e2m1fn",
}
PACKED = ("int4", "uint4", "int2", "uint2", "float4e2m1")
PLAIN = sorted(set(small.ELEMENT_TYPES) - {"string", *PACKED})
ROWS = [
    (backend, element)
    for backend in BACKENDS
    for element in PLAIN
    if element not in backend.refused
]
REFUSED = [(backend, element) for backend in BACKENDS for element in sorted(backend.refused)]
every_type = pytest.mark.parametrize(("backend", "element"), ROWS, indirect=["backend"], ids=str)
SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4, 5), (0,), (3, 0, 2)]


def sample(element: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Random bits of the type; bools are 0 and 1."""
    dtype = numpy_dtype(NAMES.get(element, element))
    bits = np.random.default_rng(0).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    if element == "bool":
        bits &= 1
    return np.ascontiguousarray(bits).view(dtype).reshape(shape)


def same_bits(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_type
def test_values_pass_unchanged(backend: Backend, element: str, shape: tuple[int, ...]) -> None:
    session = backend.load(small.identity(element, [f"d{i}" for i in range(len(shape))]))
    assert session.inputs[0].dtype == session.outputs[0].dtype == NAMES.get(element, element)
    x = sample(element, shape)
    assert same_bits(session(x), x)
    assert same_bits(session(x=x), x)
    assert same_bits(session.run({"x": x})["y"], x)
    out = np.zeros_like(x)
    assert session.run({"x": x}, out={"y": out})["y"] is out
    assert same_bits(out, x)
    binding = session.bind(x=shape)
    binding.inputs["x"][...] = x
    assert same_bits(binding()["y"], x)
    assert same_bits(session.submit(x).result(timeout=30), x)


@every_type
def test_large_values_pass_unchanged(backend: Backend, element: str) -> None:
    """Above the size that calls stage: bound in place."""
    x = sample(element, (10007,))
    session = backend.load(small.identity(element))
    assert same_bits(session(x), x)
    assert same_bits(session.bind(x=x)()["y"], x)


@pytest.mark.parametrize(("backend", "element"), REFUSED, indirect=["backend"], ids=str)
def test_a_type_without_operators_is_refused_by_name(backend: Backend, element: str) -> None:
    """The name of the type or, where the backend knows the type, of the operator it lacks."""
    with pytest.raises(zl.Error, match=f"{element}|Identity") as caught:
        backend.load(small.identity(element))
    assert not isinstance(caught.value, zl.InternalError)


@pytest.mark.parametrize("element", PACKED)
def test_packed_types_are_refused_by_name(load: Load, element: str) -> None:
    """NumPy has no packed 4-bit or 2-bit array, and unpacked ones must not be misread."""
    name = NAMES.get(element, element)
    session = load(small.passthrough(element))
    assert session.inputs[0].dtype == name
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="it has the unpacked types")
    for x in (np.zeros(4, getattr(ml_dtypes, name)), [1, 0, 1, 0], np.zeros(4, np.int8)):
        with pytest.raises(zl.Error, match=name):
            session(x)
    with pytest.raises(zl.Error, match=name):
        session.bind(x=(4,))


@pytest.mark.parametrize("element", ["int4", "uint4"])
def test_packed_types_pass_through_dlpack(backend: Backend, load: Load, element: str) -> None:
    if backend.family is not None:
        pytest.skip("TensorRT takes no packed inputs")
    tensor = _native.empty([5], element)
    assert tensor.nbytes == 3
    ctypes.memmove(tensor.address, bytes([0x21, 0x43, 0x05]), 3)
    result = load(small.cast(element, "int8"))(tensor)
    np.testing.assert_array_equal(np.asarray(result), np.array([1, 2, 3, 4, 5], np.int8))


def test_numpy_scalars_and_python_numbers(load: Load) -> None:
    session = load(small.add(shape=()))
    y = session(np.float32(1.5), 2)
    assert y.shape == ()
    assert y.dtype == np.float32
    assert y == 3.5
    assert session(1.5, np.array(2, np.float32)) == 3.5
