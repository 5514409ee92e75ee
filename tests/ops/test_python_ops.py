"""`@zl.op`: ops whose body is a Python function."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import numpy as np
import pytest

import zerolane as zl
from tests.ops.build import one_node

Matrix = Annotated[np.ndarray, "float32|float64[N, C]"]
Row = Annotated[np.ndarray, "float32|float64[C]"]


@zl.op("py::Affine")
def affine(
    x: Matrix, w: Row, b: Row | None = None, *, alpha: float = 1.0, names: str = "plain"
) -> Matrix:
    """alpha * x * w + b"""
    assert names in ("plain", "odd")
    out = alpha * x * w + (0 if b is None else b)
    return out.astype(x.dtype)


@zl.op("py::Stack", outputs=("stacked", "count"))
def stack(
    *xs: Annotated[np.ndarray, "int64[..., K]"], twice: bool = False
) -> tuple[
    Annotated[np.ndarray, "int64[..., max(K, 2) * 2 - 1]"], Annotated[np.ndarray, "int64[]"]
]:
    total = sum(xs) * (2 if twice else 1)
    width = max(total.shape[-1], 2) * 2 - 1
    wide = np.zeros((*total.shape[:-1], width), np.int64)
    wide[..., : total.shape[-1]] = total
    return wide, np.int64(len(xs))


@zl.op("py::Positive", outputs=("values", "places"))
def positive(
    x: Annotated[np.ndarray, "float32[N]"],
) -> tuple[Annotated[np.ndarray, "float32[K<=N]"], Annotated[np.ndarray, "int64[K<=N, 1]"]]:
    return x[x > 0], np.nonzero(x > 0)[0][:, None]


@zl.op("py::Faulty")
def faulty(
    x: Annotated[np.ndarray, "float32[N]"], *, how: int
) -> Annotated[np.ndarray, "float32[N]"]:
    if how == 0:
        raise ValueError("not today")
    return [x, x.astype(np.float64), x[1:], (x, x), "text"][how]  # type: ignore[return-value]


def test_direct_calls() -> None:
    x, w = np.ones((2, 3), np.float32), np.float32([1, 2, 3])
    assert zl.ops.call("py::Affine", x, w, alpha=2.0).tolist() == [[2, 4, 6]] * 2
    assert zl.ops.Op("py::Affine")(x, w, w).tolist() == [[2, 4, 6]] * 2
    assert zl.ops.call("py::Affine", x.astype(float), w.astype(float)).dtype == "float64"
    assert affine(x, w).tolist() == [[1, 2, 3]] * 2  # the function is as it was
    assert "alpha * x * w + b" in str(zl.ops.definition("py::Affine"))


def test_shapes_follow_the_annotations() -> None:
    x = np.arange(6).reshape(1, 2, 3)
    stacked, count = zl.ops.call("py::Stack", x, x, twice=True)
    assert stacked.shape == (1, 2, 5)
    assert stacked[0, 1].tolist() == [12, 16, 20, 0, 0]
    assert count == 2
    with pytest.raises(zl.ShapeMismatch, match=r"leading extents \(\.\.\.\) are 2 and 1"):
        zl.ops.call("py::Stack", x, x[:, :1].copy())
    with pytest.raises(zl.ShapeMismatch, match="the extents 'C' are 3 and 2"):
        zl.ops.call("py::Affine", np.ones((2, 3)), np.ones(2))
    with pytest.raises(zl.ShapeMismatch, match="rank 1, expected 2"):
        zl.ops.call("py::Affine", np.ones(3), np.ones(3))


def test_sizes_that_data_decides() -> None:
    values, places = zl.ops.call("py::Positive", np.float32([1, -1, 2]))
    assert values.tolist() == [1, 2]
    assert places.tolist() == [[0], [2]]


def test_in_onnx_runtime() -> None:
    pytest.importorskip("onnx")
    spec: dict[str, Any] = {"x": ("float32", ["N", 3]), "w": ("float32", [3])}
    s = zl.load(one_node("py::Affine", spec, ["y"], alpha=3.0))
    assert s.outputs[0].shape == ("N", 3)
    assert s(np.ones((2, 3), np.float32), np.float32([1, 2, 3])).tolist() == [[3, 6, 9]] * 2
    s = zl.load(one_node("py::Positive", {"x": ("float32", ["N"])}, ["v", "p"]))
    assert [v.tolist() for v in s(np.float32([1, -1, 2]))] == [[1, 2], [[0], [2]]]
    s = zl.load(one_node("py::Faulty", {"x": ("float32", ["N"])}, ["y"], how=0))
    with pytest.raises(zl.Error, match=r"ValueError: not today"):
        s(np.float32([1, 2]))


def test_parallel_runs_do_not_wait_for_each_other_for_ever() -> None:
    """The caller gives the GIL away, whatever was asked for."""
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("Affine", ["x", "w"], [f"y{i}"], domain="py", name=f"n{i}")
        for i in range(6)
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]),
        ],
        [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, [2, 3]) for i in range(6)],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("py", 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=imports).SerializeToString()
    s = zl.load(model, execution_mode="parallel", inter_threads=3, gil="hold")
    x, w = np.ones((2, 3), np.float32), np.ones(3, np.float32)
    done = []

    def work() -> None:
        for _ in range(50):
            done.append(s(x, w)[5].tolist() == x.tolist())

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [True] * 150
    assert s.bind(x=x, w=w, gil="hold")()["y0"].tolist() == x.tolist()


@pytest.mark.parametrize(
    ("how", "part"),
    [
        (0, "ValueError: not today"),
        (1, "output 0 is float64, expected float32"),
        (2, "output 0 has shape [1], expected [2]"),
        (3, "it returned 2 arrays, expected 1"),
        (4, "output 0 is <U4, expected float32"),
    ],
)
def test_faults_of_the_function_are_told(how: int, part: str) -> None:
    with pytest.raises(zl.Error) as caught:
        zl.ops.call("py::Faulty", np.float32([1, 2]), how=how)
    assert part in str(caught.value)
    assert "py::Faulty" in str(caught.value)


def test_defining_again_replaces() -> None:
    for factor in (2, 3):

        @zl.op("py::Again")
        def again(
            x: Annotated[np.ndarray, "float32[N]"], *, by: int = factor
        ) -> Annotated[np.ndarray, "float32[N]"]:
            return x * np.float32(by)

        assert zl.ops.call("py::Again", np.float32([1])).tolist() == [factor]


def _bad_name(x: Row) -> Row: ...
def _no_extents(x: np.ndarray) -> Row: ...
def _unknown_dtype(x: Annotated[np.ndarray, "float33[C]"]) -> Row: ...
def _unbound(x: Row) -> Annotated[np.ndarray, "float32|float64[M]"]: ...
def _expression(x: Annotated[np.ndarray, "float32[N + 1]"]) -> Row: ...
def _call(x: Row) -> Annotated[np.ndarray, "float32|float64[abs(C)]"]: ...
def _default(x: Row, y: Row = 3) -> Row: ...  # type: ignore[assignment]
def _attribute(x: Row, *, a: dict[str, int]) -> Row: ...
def _any_attribute(x: Row, **more: int) -> Row: ...
def _undecided(x: Row) -> Annotated[np.ndarray, "int8|int16[C]"]: ...


@pytest.mark.parametrize(
    ("function", "name", "part"),
    [
        (_bad_name, "NoDomain", "expected 'domain::Op'"),
        (_no_extents, "py::Bad", "expected element types and extents"),
        (_unknown_dtype, "py::Bad", "'float33'"),
        (_unbound, "py::Bad", "'M', which no input has"),
        (_expression, "py::Bad", "'N + 1', expected a name or a number"),
        (_call, "py::Bad", "'abs(C)'"),
        (_default, "py::Bad", "an input with the default 3"),
        (_attribute, "py::Bad", "expected int, float, bool"),
        (_any_attribute, "py::Bad", "takes any attribute"),
        (_undecided, "py::Bad", "that no required input decides"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_annotations_that_cannot_be_read(function: Any, name: str, part: str) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.op(name)(function)
    assert part in str(caught.value)
