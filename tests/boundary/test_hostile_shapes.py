"""Arrays that claim more than there is: refused, never followed."""

from __future__ import annotations

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from zerolane import _native

HUGE = (2**40, 2**20, 3)
ONE = np.ones((1, 1, 3), np.float32)


@pytest.fixture(scope="module")
def session() -> zl.Session:
    return zl.load(small.dynamic_dims().SerializeToString())


def check_usable(session: zl.Session) -> None:
    np.testing.assert_array_equal(session(ONE), 2 * ONE)


def test_a_giant_of_zero_strides(session: zl.Session) -> None:
    for shape in (HUGE, (2**50, 1, 3), (1, 2**45, 3)):
        try:
            giant = np.broadcast_to(ONE, shape)
        except ValueError:
            continue  # NumPy itself refuses
        for call in (
            lambda x: session(x),
            lambda x: session.run({"x": x}),
            lambda x: session.submit(x).result(30),
            lambda x: session.bind(x=x),
        ):
            with pytest.raises((zl.OutOfMemory, zl.InvalidArgument)):
                call(giant)
        check_usable(session)


def test_giants_without_elements(session: zl.Session) -> None:
    """No element, so no memory: a right result or a typed error, either way no crash."""
    for shape in ((0, 2**59, 3), (2**59, 0, 3), (2**31, 0, 3), (0, 2**31 - 1, 3)):
        x = np.empty(shape, np.float32)
        try:
            y = session(x)
        except zl.Error as error:
            assert not isinstance(error, zl.InternalError)  # noqa: PT017
        else:
            assert y.shape == shape
        check_usable(session)


@pytest.mark.parametrize("size", [2**31, 2**40, 2**60, 2**62, 2**63 - 1])
def test_bind_to_a_giant_shape(session: zl.Session, size: int) -> None:
    for shape in ((size, 1, 3), (1, size, 3), (size, size, 3)):
        if size == 2**31 and shape != (size, size, 3):
            continue  # 24 GiB might be there
        with pytest.raises((zl.OutOfMemory, zl.InvalidArgument, MemoryError)):
            session.bind(x=shape)
        check_usable(session)


@pytest.mark.parametrize("size", [2**63, 2**64, 2**200])
def test_bind_to_sizes_beyond_64_bits(session: zl.Session, size: int) -> None:
    with pytest.raises((zl.OutOfMemory, zl.InvalidArgument)):
        session.bind(x=(size, 1, 3))
    check_usable(session)


def test_a_bound_giant_of_no_elements(session: zl.Session) -> None:
    try:
        binding = session.bind(x=(0, 2**61, 3))
        binding()
    except (zl.Error, MemoryError, ValueError) as error:
        assert not isinstance(error, zl.InternalError)  # noqa: PT017
    check_usable(session)


def test_native_tensors_of_giant_shapes() -> None:
    for shape in ([2**62], [2**40, 2**40], [2**63 - 1, 2]):
        with pytest.raises(zl.OutOfMemory):
            _native.empty(shape, "float32")
    with pytest.raises(zl.InvalidArgument):
        _native.empty([-1], "float32")
    with pytest.raises(zl.Unsupported):
        _native.empty([1] * 33, "float32")
    with pytest.raises(zl.InvalidArgument):
        _native.empty([1], "float31")
    assert _native.empty([0, 2**62], "float32").nbytes == 0


def test_a_model_that_asks_for_too_much() -> None:
    """The output is too large for any machine: an error of the run, and nothing else is lost."""
    import onnx
    from onnx import TensorProto, helper

    node = helper.make_node("Expand", ["x", "shape"], ["y"])
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, ["R"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    assert isinstance(model, onnx.ModelProto)
    session = zl.load(model.SerializeToString())
    x = np.ones(1, np.float32)
    for size in (2**44, 2**60, 2**62):
        with pytest.raises(zl.Error) as caught:
            session(x, np.array([size]))
        assert isinstance(caught.value, zl.OutOfMemory | zl.BackendError | zl.InvalidArgument)
    assert session(x, np.array([3])).tolist() == [1, 1, 1]


def test_dimension_names_do_not_promise_sizes() -> None:
    """The predicted size of an output is huge, the true one small: no memory is taken for it."""
    model = small.relu((1, 4))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2**40
    try:
        session = zl.load(model.SerializeToString())
        y = session(np.ones((1, 4), np.float32))
    except (zl.Error, MemoryError) as error:
        assert not isinstance(error, zl.InternalError)  # noqa: PT017
    else:
        assert y.shape == (1, 4)


def test_negative_and_zero_dimensions_in_a_model() -> None:
    for value in (-1, -(2**63), 0, 2**63 - 1):
        model = small.relu((1, 4))
        for info in (*model.graph.input, *model.graph.output):
            info.type.tensor_type.shape.dim[0].dim_value = value
        try:
            session = zl.load(model.SerializeToString())
            session.bind() if session.inputs[0].shape == (value, 4) and value == 0 else None
            session(np.ones((1, 4), np.float32))
        except (zl.Error, MemoryError) as error:
            assert not isinstance(error, zl.InternalError)  # noqa: PT017


def test_a_model_of_a_huge_fixed_input() -> None:
    model = small.relu((2**40, 2**20))
    try:
        session = zl.load(model.SerializeToString())
    except zl.Error:
        return
    with pytest.raises((zl.OutOfMemory, MemoryError, zl.InvalidArgument)):
        session.bind()
