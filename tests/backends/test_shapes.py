"""Dynamic shapes, sizes that depend on data, nothing at all, and scalars."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

Load = Callable[..., zl.Session]


def test_shapes_change_from_call_to_call(load: Load) -> None:
    session = load(small.dynamic_dims())
    rng = np.random.default_rng(0)
    for n, m in rng.integers(0, 40, (200, 2)).tolist():
        x = rng.standard_normal((n, m, 3), np.float32)
        np.testing.assert_array_equal(session(x), 2 * x)
        np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)


def test_results_of_earlier_calls_keep_their_values(load: Load) -> None:
    """Neither small (staged) nor large results share memory with the next call's."""
    session = load(small.dynamic_dims())
    for shape in ((2, 5, 3), (40, 100, 3)):
        xs = [np.full(shape, i, np.float32) for i in range(10)]
        ys = [session(x) for x in xs]
        for x, y in zip(xs, ys, strict=True):
            np.testing.assert_array_equal(y, 2 * x)


def test_unknown_rank(load: Load) -> None:
    session = load(small.unknown_rank())
    assert session.inputs[0].shape is None
    for shape in ((), (3,), (2, 3, 4), (0, 2), (2, 1, 3)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        y = session(x)
        assert y.shape == shape
        np.testing.assert_array_equal(y, np.abs(x))
        binding = session.bind(x=x)
        np.testing.assert_array_equal(binding()["y"], np.abs(x))


def test_specs_name_dynamic_dimensions(load: Load) -> None:
    spec = load(small.dynamic_dims()).inputs[0]
    assert (spec.name, spec.dtype, spec.shape) == ("x", "float32", ("N", None, 3))


@pytest.mark.parametrize("size", [0, 1, 7, 64, 5000])
def test_output_size_depends_on_data(load: Load, size: int) -> None:
    session = load(small.nonzero())
    binding = session.bind(x=(size,))
    rng = np.random.default_rng(size)
    for density in (0.0, 0.3, 1.0):
        x = (rng.random(size) < density).astype(np.float32)
        want = np.flatnonzero(x)[None]
        binding.inputs["x"][...] = x
        for y in (session(x), session.run({"x": x})["y"], binding()["y"]):
            assert y.dtype == np.int64
            np.testing.assert_array_equal(y, want)
        np.testing.assert_array_equal(session.submit(x).result(timeout=30), want)


def test_output_of_data_dependent_size_is_a_new_array_each_run(load: Load) -> None:
    binding = load(small.nonzero()).bind(x=(4,))
    assert binding.outputs["y"] is None
    binding.inputs["x"][...] = [1, 0, 1, 0]
    first = binding()["y"]
    binding.inputs["x"][...] = [0, 1, 1, 1]
    second = binding()["y"]
    assert binding.outputs["y"] is second
    np.testing.assert_array_equal(first, [[0, 2]])
    np.testing.assert_array_equal(second, [[1, 2, 3]])


@pytest.mark.parametrize("rows", [0, 1, 3, 2000])
def test_rows_are_doubled(load: Load, rows: int) -> None:
    session = load(small.doubled_rows())
    x = np.random.default_rng(0).standard_normal((rows, 4), np.float32)
    want = np.concatenate([x, x])
    np.testing.assert_array_equal(session(x), want)
    np.testing.assert_array_equal(session.bind(x=x)()["y"], want)
    out = np.empty((2 * rows, 4), np.float32)
    session.run({"x": x}, out={"y": out})
    np.testing.assert_array_equal(out, want)


def test_scalar_outputs(load: Load) -> None:
    session = load(small.sum_and_size())
    for size in (0, 1, 5):
        x = np.ones(size, np.float32)
        y = session(x)
        assert y.total.shape == y.size.shape == ()
        assert (y.total.dtype, y.size.dtype) == (np.float32, np.int64)
        assert (float(y.total), int(y.size)) == (size, size)
        bound = session.bind(x=x)()
        assert (bound["total"], bound["size"]) == (size, size)


def test_zero_size_shapes_between_others(load: Load) -> None:
    session = load(small.dynamic_dims())
    for shape in ((2, 2, 3), (0, 2, 3), (2, 0, 3), (0, 0, 3), (2, 2, 3)):
        x = np.ones(shape, np.float32)
        y = session(x)
        assert y.shape == shape
        assert (y == 2).all()


def test_binding_shapes(load: Load) -> None:
    """A shape is a tuple, a list or, for rank one, a number; inputs of fixed shape need none."""
    session = load(small.identity())
    for shape in ((5,), [5], 5):
        binding = session.bind(x=shape)
        assert binding.inputs["x"].shape == (5,)
        assert (binding.inputs["x"] == 0).all()
    assert load(small.relu()).bind().inputs["x"].shape == (1, 4)
    with pytest.raises(zl.InvalidArgument, match="dynamic shape"):
        session.bind()
    with pytest.raises(zl.InvalidArgument, match="negative"):
        session.bind(x=(-1,))
    with pytest.raises(zl.ShapeMismatch):
        session.bind(x=(5, 1))


def test_a_model_that_declares_its_output_wrongly(load: Load) -> None:
    """The declared size is a hint: the result has the size that the model computes."""
    model = small.doubled_rows()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    session = load(model)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for _ in range(3):
        np.testing.assert_array_equal(session(x), np.concatenate([x, x]))
    np.testing.assert_array_equal(session.bind(x=x)()["y"], np.concatenate([x, x]))
    np.testing.assert_array_equal(session.submit(x).result(30), np.concatenate([x, x]))


def test_a_binding_of_a_model_that_declares_its_output_wrongly(load: Load) -> None:
    model = small.doubled_rows()
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    binding = load(model).bind(x=x)
    for _ in range(2):
        np.testing.assert_array_equal(binding()["y"], np.concatenate([x, x]))
