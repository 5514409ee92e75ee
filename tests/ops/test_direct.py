"""Direct calls of ops: every kind that the kit offers, on arrays of every kind."""

from __future__ import annotations

import gc
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from zerolane import _native

pytestmark = pytest.mark.usefixtures("test_ops")


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (7,), (3, 0, 2), (5, 3), (2, 1, 3, 1, 2, 1)])
def test_types_and_shapes(dtype: str, shape: tuple[int, ...]) -> None:
    x = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    op = zl.ops.Op("test::Scale", version=1, factor=3.0)
    got = op(x)
    assert got.dtype == x.dtype
    assert got.shape == shape
    np.testing.assert_array_equal(got, x * 3)


def test_attributes() -> None:
    op = zl.ops.Op(
        "test::Scale",
        version=1,
        factor=2,
        times=np.int64(2),
        negate=True,
        mode="square",
        offsets=(0.5, 1),
        steps=[],
    )
    assert op(np.float32([1, 2])).tolist() == [-(5.5**2), -(9.5**2)]
    assert op.attributes == {
        "factor": 2.0,
        "times": 2,
        "negate": 1,
        "mode": "square",
        "offsets": [0.5, 1.0],
        "steps": [],
    }
    assert repr(op).startswith("test::Scale(factor=2.0, times=2")


def test_one_number_serves_as_a_list() -> None:
    op = zl.ops.Op("test::Scale", version=1, offsets=2, steps=3)
    assert op.attributes["offsets"] == [2.0]
    assert op.attributes["steps"] == [3]


@pytest.mark.parametrize(
    ("attributes", "part"),
    [
        ({"factor": 101}, "it is 101, expected a number from -100 to 100"),
        ({"factor": float("nan")}, "it is nan"),
        ({"factor": "2"}, "it is a string, expected a float"),
        ({"times": 1.0}, "it is a float, expected an integer"),
        ({"times": 11}, "expected a number from 0 to 10"),
        ({"times": 2**70}, "64 bits"),
        ({"negate": 2}, "from 0 to 1"),
        ({"mode": "other"}, "expected one of 'plain', 'square'"),
        ({"offsets": [1.0] * 4}, "it has 4 numbers, expected 0 to 3"),
        ({"steps": [1, 51]}, "it is 51"),
        ({"steps": "ab"}, "it is a string, expected a list of integers"),
        ({"steps": [1, 2.5]}, "it is a list of floats, expected a list of integers"),
        ({"steps": [1, "b"]}, "it is a list, expected a number, text, or a list of numbers"),
        ({"steps": None}, "NoneType"),
        ({"factr": 1}, "there is no attribute 'factr', the op has 'factor', 'times'"),
    ],
)
def test_wrong_attributes_are_refused(attributes: dict[str, Any], part: str) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.ops.Op("test::Scale", version=1, **attributes)
    assert part in str(caught.value)
    assert caught.value.subject in (*attributes, "test::Scale")


def test_versions_stand_side_by_side() -> None:
    x = np.float32([1])
    assert zl.ops.Op("test::Scale", version=1)(x).tolist() == [2]
    assert zl.ops.Op("test::Scale", version=2)(x).tolist() == [2]
    assert zl.ops.Op("test::Scale")(x).tolist() == [1002]
    assert zl.ops.call("test::Scale", x).tolist() == [1002]
    assert zl.ops.definition("test::Scale", 2).version == 1
    assert zl.ops.definition("test::Scale").version == 3


def test_variadic_inputs() -> None:
    op = zl.ops.Op("test::AddAll")
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    assert (op(x) == x).all()
    assert (op(x, x, x, x) == 4 * x).all()
    with pytest.raises(zl.InvalidArgument, match="0 inputs were given, expected 1 or more"):
        op()
    with pytest.raises(zl.InvalidArgument, match="is of float32, expected int64 like input 'x'"):
        op(x, x.astype(np.float32))
    with pytest.raises(zl.ShapeMismatch, match="the extents of the inputs are 3 and 2"):
        op(x, x[:, :2].copy())
    with pytest.raises(zl.InvalidArgument, match="was left out"):
        op(x, None)


def test_optional_inputs_and_named_outputs() -> None:
    op = zl.ops.Op("test::Affine")
    x, w, b = np.ones((2, 3)), np.array([1.0, 2, 3]), np.array([10.0, 20, 30])
    with_b = op(x, b, w)
    assert with_b.y.tolist() == [[11, 22, 33]] * 2
    assert with_b.total == 132
    assert op(x, None, w).total == 12
    with pytest.raises(zl.InvalidArgument, match="2 inputs were given, expected 3"):
        op(x, b)
    with pytest.raises(zl.InvalidArgument, match="input 'w' was left out"):
        op(x, b, None)
    with pytest.raises(zl.ShapeMismatch, match="rank 1, expected 2"):
        op(w, b, w)
    with pytest.raises(zl.ShapeMismatch, match="the columns of x and b are 3 and 2"):
        op(x, b[:2].copy(), w)


@pytest.mark.parametrize("count", [0, 1, 8, 1000])
def test_sizes_that_data_decides(count: int) -> None:
    x = np.random.default_rng(count).normal(size=count).astype(np.float32)
    op = zl.ops.Op("test::Above", threshold=0.5)
    for _ in range(2):
        values, places, mean = op(x)
        np.testing.assert_array_equal(values, x[x > 0.5])
        np.testing.assert_array_equal(places[:, 0], np.nonzero(x > 0.5)[0])
        assert mean == pytest.approx(x[x > 0.5].mean() if (x > 0.5).any() else 0, rel=1e-5)


def test_two_types() -> None:
    op = zl.ops.Op("test::Mix")
    for t in ("float32", "float64"):
        for i in ("int32", "int64", "uint8"):
            y, j = op(np.ones(3, t), np.array([4, 5], i))
            assert y.dtype == t
            assert j.dtype == i
            assert y.tolist() == [5, 5, 5]
            assert j.tolist() == [5, 6]
    with pytest.raises(zl.InvalidArgument, match="is of int8, expected int32, int64 or uint8"):
        op(np.ones(3, "float32"), np.ones(3, "int8"))


def test_state_constants_and_scratch() -> None:
    op = zl.ops.Op("test::Lookup", table=[1.0, 2.0, 3.0])
    assert op(np.array([2, 0, 1, 1])).tolist() == [9, 1, 4, 4]
    assert op(np.array([2] * 5000)).tolist() == [9] * 5000
    with pytest.raises(zl.InvalidArgument, match="index 3 is outside of a table of 3"):
        op(np.array([3]))
    with pytest.raises(zl.InvalidArgument, match="attribute 'table' is missing"):
        zl.ops.Op("test::Lookup")
    with pytest.raises(zl.InvalidArgument, match="begins with a negative number"):
        zl.ops.Op("test::Lookup", table=[-1.0])


@pytest.mark.parametrize(("n", "m", "d"), [(7, 3, 2), (6, 9, 4), (0, 5, 3), (1, 1, 1), (7, 2, -2)])
def test_arithmetic_on_extents(n: int, m: int, d: int) -> None:
    wanted = (n // d, -(-n // d), max(n, m), min(n, 3), n * m)
    op = zl.ops.Op("test::Extents", divisor=d)
    x = np.zeros((n, m), np.float32)
    if min(wanted) < 0:
        with pytest.raises(zl.ShapeMismatch, match="would be negative"):
            op(x)
        return
    assert op(x).shape == wanted


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
        (11, zl.OutOfMemory, "more elements than memory can hold"),
        (12, zl.InternalError, "output that is not there"),
        (13, zl.OutOfMemory, "out of memory"),
        (14, zl.InternalError, "made no memory for output 0"),
        (15, zl.InternalError, "the body failed"),
        (16, zl.InternalError, "no std::exception"),
        (17, zl.InternalError, "another element type than the body reads"),
        (18, zl.InternalError, "has memory already"),
    ],
)
def test_failures_of_an_op_are_typed(how: int, error: type[zl.Error], part: str) -> None:
    op = zl.ops.Op("test::Faulty", how=how)
    with pytest.raises(error) as caught:
        op(np.zeros(3, np.float32))
    assert part in str(caught.value)
    assert "test::Faulty" in str(caught.value)


@pytest.mark.parametrize(("how", "part"), [(1, "init failed"), (2, "no std::exception")])
def test_failures_of_making_an_op_are_typed(how: int, part: str) -> None:
    with pytest.raises(zl.InternalError, match=part):
        zl.ops.Op("test::Faulty", how=how)


def test_what_the_op_cannot_use_in_place_is_copied() -> None:
    op = zl.ops.Op("test::Scale", version=1)
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    frozen = base.copy()
    frozen.flags.writeable = False
    shifted = np.frombuffer(b"\0" + base.tobytes(), np.float32, offset=1).reshape(4, 6)
    for x in (base.T, base[::2], base[:, ::-1], frozen, base.astype(">f4"), shifted):
        np.testing.assert_array_equal(op(x), np.ascontiguousarray(x, "<f4") * 2)
    assert op([1.0, 2.0]).tolist() == [2, 4]
    assert op(3.0).tolist() == 6


def test_results_are_the_callers() -> None:
    op = zl.ops.Op("test::Scale", version=1)
    first = op(np.ones(3, np.float32))
    second = op(np.zeros(3, np.float32))
    assert first.tolist() == [2, 2, 2]
    assert second.tolist() == [0, 0, 0]
    values = zl.ops.Op("test::Above")(np.ones(5, np.float32)).values
    gc.collect()
    assert values.tolist() == [1] * 5


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(4, dtype=torch.float32)
    y = zl.ops.Op("test::Scale", version=1)(x)
    assert isinstance(y, torch.Tensor)
    assert y.tolist() == [0, 2, 4, 6]
    values = zl.ops.Op("test::Above", threshold=1.0)(x).values
    assert isinstance(values, torch.Tensor)
    assert values.tolist() == [2, 3]


def test_many_threads_share_an_op() -> None:
    op = zl.ops.Op("test::Lookup", table=[float(i) for i in range(100)])
    wrong: list[object] = []

    def work(seed: int) -> None:
        index = np.random.default_rng(seed).integers(0, 100, 200 + seed)
        for _ in range(300):
            if not (op(index) == index.astype(np.float32) ** 2).all():
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_ops_travel_by_pickle() -> None:
    op = pickle.loads(pickle.dumps(zl.ops.Op("test::Scale", version=1, factor=4.0)))
    assert op(np.float32([1])).tolist() == [4]


def test_inputs_by_name_are_refused() -> None:
    op: Any = zl.ops.Op("test::Scale", version=1)
    with pytest.raises(zl.InvalidArgument, match="given by name"):
        op(x=np.float32([1]))


def test_definitions_tell_all() -> None:
    text = str(zl.ops.definition("test::Scale", 1))
    assert "input x: float32 | float64 | float16 | int32  any shape" in text
    assert "attribute factor: float = 2.0  what to multiply by" in text
    assert "test::Scale" in zl.ops.names()
    assert zl.ops.AddAll.name == "test::AddAll"
    with pytest.raises(AttributeError, match="did you mean 'test::AddAll'"):
        _ = zl.ops.ADDALL
    assert any(library.name == "test_ops" for library in zl.ops.loaded())


def test_a_made_op_needs_its_constructor() -> None:
    bare = _native.Op.__new__(_native.Op)
    with pytest.raises(TypeError):
        bare(np.float32([1]))
