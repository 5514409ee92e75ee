"""The same ops inside ONNX Runtime: what the direct call gives, a model of one node gives too."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.ops.build import one_node
from zerolane.runtimes.onnxruntime import open_library

pytest.importorskip("onnx")
pytestmark = pytest.mark.usefixtures("test_ops")


@pytest.fixture(autouse=True)
def _onnxruntime() -> None:
    try:
        open_library()
    except zl.Unavailable as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 0, 2), (5, 3)])
def test_types_and_shapes(dtype: str, shape: tuple[int, ...]) -> None:
    dims = [f"d{i}" for i in range(len(shape))]
    s = zl.load(one_node("test::Scale", {"x": (dtype, dims)}, ["y"], factor=3.0))
    assert s.outputs[0].dtype == dtype
    assert s.outputs[0].shape == tuple(dims)  # names are handed on
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    np.testing.assert_array_equal(s(x), zl.ops.Op("test::Scale", version=1, factor=3.0)(x))


@pytest.mark.parametrize("shape", [None, []])
def test_unknown_ranks_and_scalars(shape: list[int] | None) -> None:
    s = zl.load(one_node("test::Scale", {"x": ("float64", shape)}, ["y"]))
    assert s.outputs[0].dtype == "float64"
    assert s(np.float64(4)) == 8
    if shape is None:
        assert s.outputs[0].shape is None
        assert s(np.ones((2, 3))).tolist() == [[2, 2, 2]] * 2


def test_attributes_of_every_type() -> None:
    given: dict[str, Any] = {
        "factor": 0.5,
        "times": 2,
        "negate": 1,
        "mode": "square",
        "offsets": [0.5, 1.0],
        "steps": [4, 5, 6],
    }
    x = np.float32([1, 2, 3])
    s = zl.load(one_node("test::Scale", {"x": ("float32", [3])}, ["y"], **given))
    np.testing.assert_array_equal(s(x), zl.ops.Op("test::Scale", version=1, **given)(x))


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"factor": 101.0}, "it is 101, expected a number from -100 to 100"),
        ({"factor": "2"}, "it is a string, expected a float"),
        ({"times": 1.5}, "it is a float, expected an integer"),
        ({"mode": "other"}, "expected one of 'plain', 'square'"),
        ({"offsets": [1.0] * 4}, "it has 4 numbers, expected 0 to 3"),
    ],
)
def test_wrong_attributes_fail_the_load(attributes: dict[str, Any], part: str) -> None:
    with pytest.raises(zl.Error) as caught:
        zl.load(one_node("test::Scale", {"x": ("float32", [3])}, ["y"], **attributes))
    assert part in str(caught.value)
    assert "test::Scale" in str(caught.value)


def test_the_version_is_that_of_the_model() -> None:
    x = np.float32([1])
    for version, wanted in ((1, 2), (2, 2), (3, 1002), (7, 1002)):
        model = one_node("test::Scale", {"x": ("float32", [1])}, ["y"], version=version)
        assert zl.load(model)(x).tolist() == [wanted]


def test_variadic_inputs() -> None:
    names = ["a", "b", "c"]
    s = zl.load(one_node("test::AddAll", {name: ("int64", ["N", 3]) for name in names}, ["y"]))
    assert s.outputs[0].shape == ("N", 3)
    x = np.arange(6).reshape(2, 3)
    assert (s(x, x, x) == 3 * x).all()
    with pytest.raises(zl.ShapeMismatch, match="the extents of the inputs are 2 and 1"):
        s(x, x, x[:1].copy())


def test_optional_inputs_and_outputs() -> None:
    x, w, b = np.ones((2, 3)), np.array([1.0, 2, 3]), np.array([10.0, 20, 30])
    spec: dict[str, Any] = {
        "x": ("float64", ["N", 3]),
        "b": ("float64", [3]),
        "w": ("float64", [3]),
    }
    y, total = zl.load(one_node("test::Affine", spec, ["y", "total"]))(x, b, w)
    assert y.tolist() == [[11, 22, 33]] * 2
    assert total == 132
    left_out = spec | {"b": None}
    y, total = zl.load(one_node("test::Affine", left_out, ["y", "total"]))(x, w)
    assert total == 12
    assert zl.load(one_node("test::Affine", left_out, ["y"]))(x, w).tolist() == [[1, 2, 3]] * 2


@pytest.mark.parametrize("count", [0, 1, 8, 1000])
def test_sizes_that_data_decides(count: int) -> None:
    s = zl.load(one_node("test::Above", {"x": ("float32", ["N"])}, ["v", "p", "m"], threshold=0.5))
    assert [len(output.shape or ()) for output in s.outputs] == [1, 2, 0]
    x = np.random.default_rng(count).normal(size=count).astype(np.float32)
    for got, wanted in zip(s(x), zl.ops.Op("test::Above", threshold=0.5)(x), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_two_types() -> None:
    for t in ("float32", "float64"):
        for i in ("int32", "int64", "uint8"):
            s = zl.load(one_node("test::Mix", {"x": (t, ["N"]), "i": (i, ["M"])}, ["y", "j"]))
            assert [output.dtype for output in s.outputs] == [t, i]
            y, j = s(np.ones(3, t), np.array([4, 5], i))
            assert y.tolist() == [5, 5, 5]
            assert j.tolist() == [5, 6]


def test_state_constants_and_scratch() -> None:
    s = zl.load(one_node("test::Lookup", {"i": ("int64", ["N"])}, ["y"], table=[1.0, 2.0, 3.0]))
    assert s(np.array([2, 0, 1, 1])).tolist() == [9, 1, 4, 4]
    with pytest.raises(zl.InvalidArgument, match=r"index 3 is outside of a table of 3"):
        s(np.array([3]))
    with pytest.raises(zl.Error, match="attribute 'table' is missing"):
        zl.load(one_node("test::Lookup", {"i": ("int64", ["N"])}, ["y"]))


def test_shapes_are_inferred() -> None:
    s = zl.load(one_node("test::Extents", {"x": ("float32", ["N", 5])}, ["y"]))
    assert s.outputs[0].shape == (None,) * 5
    s = zl.load(one_node("test::Extents", {"x": ("float32", [7, 5])}, ["y"]))
    assert s.outputs[0].shape == (3, 4, 7, 3, 35)
    assert s(np.zeros((7, 5), np.float32)).shape == (3, 4, 7, 3, 35)


@pytest.mark.parametrize(
    ("how", "error", "part"),
    [
        (3, zl.Unsupported, "no scratch today"),
        (4, zl.OutOfMemory, "bytes of scratch memory"),
        (5, zl.ShapeMismatch, "this shape is not to be had"),
        (6, zl.InternalError, "did not set output 0"),
        (7, zl.ShapeMismatch, "expected one with axis 9"),
        (8, zl.ShapeMismatch, "divided by zero"),
        (9, zl.ShapeMismatch, "overflows"),
        (10, zl.ShapeMismatch, "would be negative"),
        (12, zl.InternalError, "output that is not there"),
        (13, zl.OutOfMemory, "out of memory"),
        (14, zl.InternalError, "made no memory for output 0"),
        (15, zl.InternalError, "the body failed"),
        (16, zl.InternalError, "no std::exception"),
        (17, zl.InternalError, "another element type than the body reads"),
        (18, zl.InternalError, "has memory already"),
    ],
)
def test_failures_of_a_run_are_typed(how: int, error: type[zl.Error], part: str) -> None:
    s = zl.load(one_node("test::Faulty", {"x": ("float32", ["N"])}, ["y"], how=how))
    for _ in range(2):
        with pytest.raises(error) as caught:
            s(np.zeros(3, np.float32))
        assert part in str(caught.value)
        assert "node 'node' (test::Faulty) of model in memory" in str(caught.value)


@pytest.mark.parametrize("how", [1, 2])
def test_failures_of_a_load_are_typed(how: int) -> None:
    with pytest.raises(zl.Error) as caught:
        zl.load(one_node("test::Faulty", {"x": ("float32", ["N"])}, ["y"], how=how))
    assert "test::Faulty" in str(caught.value)


def test_an_op_that_nobody_defined_is_named() -> None:
    with pytest.raises(zl.NotFound, match=r"nowhere::Nothing.*zl\.ops\.load"):
        zl.load(one_node("nowhere::Nothing", {"x": ("float32", [1])}, ["y"]))
    with pytest.raises(zl.NotFound, match=r"test::Nothing"):
        zl.load(one_node("test::Nothing", {"x": ("float32", [1])}, ["y"]))


def test_many_threads_run_one_node() -> None:
    table = [float(i) for i in range(100)]
    s = zl.load(one_node("test::Lookup", {"i": ("int64", ["N"])}, ["y"], table=table))
    wrong: list[int] = []

    def work(seed: int) -> None:
        index = np.random.default_rng(seed).integers(0, 100, 200 + seed)
        for _ in range(200):
            if not (s(index) == index.astype(np.float32) ** 2).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ops_in_subgraphs_and_functions() -> None:
    import onnx
    from onnx import TensorProto, helper, parser

    branch = [
        helper.make_graph(
            [helper.make_node("Scale", ["x"], [name], domain="test", factor=factor)],
            name,
            [],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N"])],
        )
        for name, factor in (("a", 3.0), ("b", 5.0))
    ]
    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1])],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"])],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("test", 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=imports)
    s = zl.load(model.SerializeToString())
    x = np.float32([1, 2])
    assert s(np.bool_(True), x).tolist() == [3, 6]
    assert s(np.bool_(False), x).tolist() == [5, 10]
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18, "test": 1, "own": 1]>
        g (float[N] x) => (float[N] y) { y = own.Double (x) }
        <domain: "own", opset_import: ["": 18, "test": 1]>
        Double (x) => (y) { y = test.Scale <factor: float = 2.0> (x) }"""
    )
    assert isinstance(model, onnx.ModelProto)
    assert zl.load(model.SerializeToString())(x).tolist() == [2, 4]
