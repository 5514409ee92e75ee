"""Which optimization profile serves a call, and what is said where none does."""

from __future__ import annotations

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from tests.trt.engines import Fake

ONE = {"x": ((1, 1, 3), (2, 2, 3), (4, 4, 3))}
TWO = {"x": ((8, 8, 3), (16, 8, 3), (64, 8, 3))}


def test_every_profile_is_used(fake: Fake) -> None:
    session = fake.load(small.dynamic_dims(), profiles=[ONE, TWO])
    for shape in ((1, 1, 3), (8, 8, 3), (4, 2, 3), (64, 8, 3), (1, 4, 3)):
        x = np.ones(shape, np.float32)
        np.testing.assert_array_equal(session(x), 2 * x)


@pytest.mark.parametrize("shape", [(5, 5, 3), (0, 1, 3), (1, 5, 3), (65, 8, 3)])
def test_a_shape_outside_of_all_names_their_ranges(fake: Fake, shape: tuple[int, ...]) -> None:
    session = fake.load(small.dynamic_dims(), profiles=[ONE, TWO])
    x = np.ones(shape, np.float32)
    with pytest.raises(zl.ShapeMismatch) as caught:
        session(x)
    text = str(caught.value)
    for part in ("'x' is", "[1, 1, 3]..[4, 4, 3]", "[8, 8, 3]..[64, 8, 3]", "best [16, 8, 3]"):
        assert part in text
    assert caught.value.subject == "x"
    with pytest.raises(zl.ShapeMismatch):
        session.bind(x=shape)()
    good = np.ones((2, 2, 3), np.float32)
    np.testing.assert_array_equal(session(good), 2 * good)


def test_facts_tell_the_profiles(fake: Fake) -> None:
    session = fake.load(small.dynamic_dims(), profiles=[ONE, TWO])
    facts = session.engine_facts()
    assert facts["profiles"] == [ONE, TWO]
    assert facts["library"].endswith(fake.family.version)
    assert facts["activation_bytes"] == [4096, 4096]


def test_shapes_are_given_to_load(fake: Fake) -> None:
    content = small.dynamic_dims().SerializeToString()
    session = zl.load(content, backend=fake.family.backend, shapes=ONE)
    assert session.engine_facts()["profiles"] == [ONE]
    with pytest.raises(zl.InvalidArgument, match="shapes="):
        zl.load(content, backend="onnxruntime", shapes=ONE)
    with pytest.raises(zl.InvalidArgument, match="built already"):
        zl.load(fake.engine(small.relu()), shapes=ONE)


def test_a_shape_tensor(fake: Fake) -> None:
    """An input whose values decide a shape lives on the host and is part of what is set."""
    from onnx import TensorProto, helper

    node = helper.make_node("Expand", ["x", "size"], ["y"])
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3]),
            helper.make_tensor_value_info("size", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 3])],
    )
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    session = fake.load(model, values={"size": ((1, 3), (2, 3), (8, 3))})
    x = np.array([[1, 2, 3]], np.float32)
    for count in (1, 4, 4, 8, 1):
        np.testing.assert_array_equal(session(x, np.array([count, 3])), np.repeat(x, count, 0))
    with pytest.raises(zl.ShapeMismatch, match=r"values \{1, 3\}\.\.\{8, 3\}"):
        session(x, np.array([9, 3]))
    size = np.array([2, 3])
    binding = session.bind(x=x, size=size)
    for count in (2, 2, 2, 5, 2):
        size[0] = count
        np.testing.assert_array_equal(binding()["y"], np.repeat(x, count, 0))
