"""Shapes from text, and seeded random inputs."""

from __future__ import annotations

import numpy as np
import pytest

import zerolane as zl
from tests.python.messages import assert_three_parts
from zerolane.measure.random_inputs import complete_inputs, parse_shapes, random_inputs


def spec(
    name: str, dtype: str = "float32", shape: tuple[int | str | None, ...] | None = ("N", 3)
) -> zl.TensorSpec:
    return zl.TensorSpec(name, dtype, shape, f"tensor({dtype})")


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("x:1x3x224x224,y:1x10", {"x": (1, 3, 224, 224), "y": (1, 10)}),
        ("x:5", {"x": (5,)}),
        ("x:0x4", {"x": (0, 4)}),
        ("x:scalar", {"x": ()}),
        ("input:0:2x2", {"input:0": (2, 2)}),
        ("'a,b':1x2, c:3", {"a,b": (1, 2), "c": (3,)}),
    ],
)
def test_parse_shapes(text: str, shapes: dict[str, tuple[int, ...]]) -> None:
    assert parse_shapes(text) == shapes


@pytest.mark.parametrize(
    "text", ["", "x", "x:", ":1", "x:1x", "x:-1", "x:1,,y:2", "x:1,x:2", "x:1.5", "'x:1", "x:N"]
)
def test_bad_shapes_are_refused(text: str) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        parse_shapes(text)
    assert_three_parts(str(caught.value))


def test_dynamic_dimensions_are_one_unless_given() -> None:
    specs = [spec("x", shape=("N", None, 3)), spec("y", shape=("N", "M"))]
    shapes = {k: v.shape for k, v in random_inputs(specs).items()}
    assert shapes == {"x": (1, 1, 3), "y": (1, 1)}
    shapes = {k: v.shape for k, v in random_inputs(specs, shapes="x:4x2x3").items()}
    assert shapes == {"x": (4, 2, 3), "y": (4, 1)}
    assert random_inputs([spec("z", shape=None)])["z"].shape == (1,)
    assert random_inputs([spec("z", shape=None)], shapes={"z": (2, 2)})["z"].shape == (2, 2)


def test_values_depend_on_seed_and_name_only() -> None:
    x, y = spec("x"), spec("y")
    first = random_inputs([x, y], seed=3)
    again = random_inputs([y, x], seed=3)
    for name in ("x", "y"):
        np.testing.assert_array_equal(first[name], again[name])
    assert not np.array_equal(first["x"], first["y"])
    assert not np.array_equal(first["x"], random_inputs([x], seed=4)["x"])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint64", "int64"])
def test_integers_are_small(dtype: str) -> None:
    values = random_inputs([spec("x", dtype)], shapes={"x": (1000, 3)})["x"]
    assert values.dtype == dtype
    assert values.min() == 0
    assert values.max() == 9


@pytest.mark.parametrize(
    "dtype",
    ["float16", "float64", "bfloat16", "float8_e4m3fn", "float8_e8m0fnu", "bool", "complex64"],
)
def test_every_dtype_has_different_finite_values(dtype: str) -> None:
    if dtype.startswith(("bfloat", "float8")):
        pytest.importorskip("ml_dtypes", reason="NumPy lacks the type")
    values = random_inputs([spec("x", dtype)], shapes={"x": (50, 3)})["x"]
    assert values.dtype.name == dtype
    assert values.shape == (50, 3)
    assert np.isfinite(values.astype(np.complex64)).all()
    assert len(np.unique(values.astype(np.complex64))) > 1


def test_strings() -> None:
    values = random_inputs([spec("x", "string")], shapes={"x": (20, 3)})["x"]
    assert values.shape == (20, 3)
    assert all(isinstance(item, str) for item in values.ravel())


@pytest.mark.parametrize(
    ("shapes", "error"),
    [
        ({"x": (1, 4)}, zl.ShapeMismatch),
        ({"x": (1,)}, zl.ShapeMismatch),
        ({"nope": (1,)}, zl.InvalidArgument),
        ({"x": (10**17, 3)}, zl.OutOfMemory),
    ],
)
def test_shapes_that_do_not_fit(shapes: dict[str, tuple[int, ...]], error: type) -> None:
    with pytest.raises(error) as caught:
        random_inputs([spec("x")], shapes=shapes)
    assert_three_parts(str(caught.value))


def test_only_tensors_can_be_random() -> None:
    rows = zl.TensorSpec("rows", "float32", None, "sequence(tensor(float32))")
    with pytest.raises(zl.Unsupported, match="rows"):
        random_inputs([rows])


@pytest.mark.parametrize("seed", [-1, 1.5, "0"])
def test_bad_seed(seed: object) -> None:
    with pytest.raises(zl.InvalidArgument, match="seed"):
        random_inputs([spec("x")], seed=seed)  # type: ignore[arg-type]


def test_given_inputs_are_kept_and_the_rest_made() -> None:
    pytest.importorskip("onnx", reason="models are built with onnx")
    from tests.models import small

    session = zl.load(small.add((2, 2)).SerializeToString())
    b = np.arange(4, dtype=np.float32).reshape(2, 2).T
    values = complete_inputs(session, {"b": b})
    np.testing.assert_array_equal(values["b"], b)
    assert values["b"].flags.c_contiguous
    assert values["a"].shape == (2, 2)
    with pytest.raises(zl.InvalidArgument, match="'c'"):
        complete_inputs(session, {"c": b})
