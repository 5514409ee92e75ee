"""Who feeds whom, and what is said where that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxruntime", reason="models run in ONNX Runtime")

import zerolane as zl
from tests.pipeline.parts import tiny
from tests.python.messages import assert_three_parts


def same(x: NDArray[Any]) -> Any:
    return x


def relu() -> zl.Session:
    return tiny("relu", ("N",))


def gelu() -> zl.ops.Op:
    op: zl.ops.Op = zl.ops.ScaledGelu()
    return op


def test_two_outputs_to_two_inputs_by_name_before_order() -> None:
    def give(x: NDArray[Any]) -> Any:
        return x + 1, x + 2

    def by_name(second: NDArray[Any], first: NDArray[Any]) -> Any:
        return first * 10 + second

    def by_order(a: NDArray[Any], b: NDArray[Any]) -> Any:
        return a * 10 + b

    def one_of_each(b: NDArray[Any], first: NDArray[Any]) -> Any:
        return first * 10 + b

    two = zl.Stage(give, outputs=["first", "second"])
    for take in (by_name, by_order, one_of_each):
        pipeline = zl.Pipeline([two, take], inputs={"x": "float32"})
        assert pipeline(np.zeros(1, np.float32)) == 12


def test_an_optional_output_of_an_op_is_there_when_it_is_named() -> None:
    letterbox = zl.ops.Letterbox(size=[8, 16])
    assert [s.name for s in zl.Pipeline([letterbox]).outputs] == ["planes"]
    both = zl.Pipeline([letterbox], outputs=["transform", "planes"])
    transform, planes = both(np.zeros((4, 4, 3), np.uint8))
    np.testing.assert_array_equal(transform, letterbox(np.zeros((4, 4, 3), np.uint8))[1])
    assert planes.shape == (1, 3, 8, 16)


def test_stages_in_any_order_run_in_that_of_their_wires() -> None:
    pipeline = zl.Pipeline(
        [
            zl.Stage(same, name="last", inputs=["middle"], outputs=["end"]),
            zl.Stage(gelu(), inputs=["start"], outputs=["middle"]),
            zl.Stage(relu(), name="first", inputs=["x"], outputs=["start"]),
        ],
        outputs=["end"],
    )
    assert pipeline.stages == ("first", "ScaledGelu", "last")
    x = np.array([-1, 2], np.float32)
    np.testing.assert_array_equal(pipeline(x), gelu()(np.maximum(x, 0)))


def test_inputs_in_the_order_declared() -> None:
    def add(a: NDArray[Any], b: NDArray[Any]) -> Any:
        return a - b

    pipeline = zl.Pipeline(
        [zl.Stage(add, inputs=["left", "right"])],
        inputs={"right": "int64", "left": zl.TensorSpec("left", "float32", (2,))},
    )
    assert [(s.name, s.dtype, s.shape) for s in pipeline.inputs] == [
        ("right", "int64", None),
        ("left", "float32", (2,)),
    ]
    one = np.ones(2, np.int64)
    np.testing.assert_array_equal(pipeline(one, np.zeros(2, np.float32)), [-1, -1])


def test_arguments_with_a_default_may_be_left_out() -> None:
    def scale(x: NDArray[Any], factor: Any = 3, shift: Any = 1) -> Any:
        return x * factor + shift

    x = np.array([2], np.float32)
    assert zl.Pipeline([relu(), scale])(x) == 7
    by_name = zl.Pipeline(
        [zl.Stage(scale, inputs={"shift": "s", "x": "x"})], inputs={"x": "float32", "s": "float32"}
    )
    assert by_name(x, x) == 8


def test_names_that_two_stages_use_are_told_apart() -> None:
    pipeline = zl.Pipeline(
        [
            zl.Stage(relu(), name="a", inputs=["x"]),
            zl.Stage(relu(), name="b", inputs=["a.y"]),
        ],
        outputs={"before": "a.y", "after": "b.y"},
    )
    assert [s.name for s in pipeline.outputs] == ["before", "after"]
    assert zl.Pipeline([gelu(), gelu(), gelu()]).stages == (
        "ScaledGelu",
        "ScaledGelu_2",
        "ScaledGelu_3",
    )


def stage(what: Any, **wiring: Any) -> zl.Stage:
    return zl.Stage(what, **wiring)


def two(x: NDArray[Any]) -> Any:
    return x, x


def join(a: NDArray[Any], b: NDArray[Any]) -> Any:
    return a + b


WRONG: list[tuple[str, Callable[[], Any], str]] = [
    ("no list", lambda: zl.Pipeline(relu()), "expected a list of at least one stage"),  # type: ignore[arg-type]
    ("empty", lambda: zl.Pipeline([]), "expected a list of at least one stage"),
    ("a path", lambda: zl.Pipeline(["model.onnx"]), "load a model with zl.load"),
    ("no attributes", lambda: zl.Pipeline([zl.ops.Letterbox]), "write zl.ops.Letterbox(...)"),
    ("a string of inputs", lambda: stage(same, inputs="x"), "give inputs=['x']"),
    ("a stage of a stage", lambda: stage(stage(same)), "give what it runs"),
    ("no device", lambda: stage(gelu(), device="cuda:0"), "expected 'auto' or 'cpu'"),
    ("a device of a function", lambda: stage(same, device="cpu"), "which is no op"),
    ("names of a function", lambda: zl.Pipeline([relu(), stage(same, outputs={"y": "z"})]),
     "give a list of names"),
    ("one to two", lambda: zl.Pipeline([relu(), join]), 'inputs={"a": ..., "b": ...}'),
    ("two to one", lambda: zl.Pipeline([stage(two, outputs=["a", "b"]), relu()]),
     "which goes where is not clear"),
    ("same name", lambda: zl.Pipeline([stage(relu(), name="a"), stage(relu(), name="a")]),
     "name them apart"),
    ("same tensor", lambda: zl.Pipeline([stage(relu(), outputs=["t"]),
                                         stage(relu(), outputs=["t"])]),
     "both call an output 't'"),
    ("no such input", lambda: zl.Pipeline([stage(relu(), inputs={"z": "x"})]), "no input 'z'"),
    ("too many", lambda: zl.Pipeline([stage(relu(), inputs=["x", "y"])]), "one name an input"),
    ("missing", lambda: zl.Pipeline([relu(), stage(join, inputs={"a": "y"})]), "leave out 'b'"),
    ("no such output", lambda: zl.Pipeline([stage(relu(), outputs={"z": "y"})]), "no output 'z'"),
    ("many outputs", lambda: zl.Pipeline([stage(relu(), outputs=["a", "b"])]),
     "one name an output"),
    ("ambiguous", lambda: zl.Pipeline([stage(relu(), name="a"), stage(relu(), name="b"),
                                       stage(same, inputs=["y"])]), "write 'a.y' or 'b.y'"),
    ("not declared", lambda: zl.Pipeline([stage(relu(), inputs=["imgae"])], inputs=["image"]),
     "check the name, or declare it"),
    ("not read", lambda: zl.Pipeline([relu()], inputs=["x", "z"]), "no stage reads the input 'z'"),
    ("no output", lambda: zl.Pipeline([relu()], outputs=["z"]), "the stages give 'y'"),
    ("no outputs", lambda: zl.Pipeline([relu()], outputs=[]), "name at least one output"),
    ("output twice", lambda: zl.Pipeline([relu()], outputs={"a": "y", "b": "y"}), "name it once"),
    ("feeds nothing", lambda: zl.Pipeline([stage(relu(), name="idle", inputs=["x"]),
                                           stage(relu(), inputs=["x"])]), "stage 'idle'"),
    ("a cycle", lambda: zl.Pipeline([stage(join, name="a", inputs=["x", "c"]),
                                     stage(same, name="b", inputs=["a"]),
                                     stage(same, name="c", inputs=["b"])]), "in a cycle: "),
    ("itself", lambda: zl.Pipeline([stage(join, name="a", inputs=["x", "a"])]), "a <- a"),
    ("no dtype", lambda: zl.Pipeline([same]), 'inputs={"x": "uint8"}'),
    ("bad dtype", lambda: zl.Pipeline([same], inputs={"x": "floaty"}), "'floaty'"),
    ("bad spec", lambda: zl.Pipeline([same], inputs={"x": 3}), "expected an element type"),  # type: ignore[dict-item]
    ("dtype of an op", lambda: zl.Pipeline([gelu()], inputs={"x": "int32"}), "stage 'ScaledGelu'"),
    ("dtypes", lambda: zl.Pipeline([stage(tiny("nonzero"), name="n"), stage(relu(), name="r")]),
     "input 'x' of stage 'r' of pipeline pipeline: output 'y' of stage 'n' is a tensor(int64)"),
    ("dtypes of an input", lambda: zl.Pipeline(
        [stage(relu(), inputs=["x"], name="a"),
         stage(tiny("identity", "int64"), inputs=["x"], name="b"),
         stage(join, inputs=["a.y", "b.y"])]), "the pipeline's input 'x' is a tensor(float32)"),
    ("sequence to an op", lambda: zl.Pipeline([tiny("sequence_output"), gelu()]),
     "a sequence(tensor(float32)), expected a tensor"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "part"), [row[1:] for row in WRONG], ids=[row[0] for row in WRONG]
)
def test_what_is_wrong_is_said_with_what_to_write(make: Callable[[], Any], part: str) -> None:
    with pytest.raises((zl.InvalidArgument, zl.Unsupported)) as error:
        make()
    assert part in str(error.value)
    assert_three_parts(str(error.value))


def test_shapes_that_do_not_fit_are_found_when_it_is_made() -> None:
    planes = zl.ops.Letterbox(size=[8, 16])
    with pytest.raises(zl.ShapeMismatch, match=r"stage 'Letterbox' is \[\?, \?, 8, 16\]"):
        zl.Pipeline([planes, tiny("relu", (1, 3, 16, 8))])


def test_shapes_that_are_not_known_are_checked_by_each_run() -> None:
    pipeline = zl.Pipeline([relu(), lambda y: y[None], tiny("relu", (1, 4))])
    assert pipeline(np.ones(4, np.float32)).shape == (1, 4)
    with pytest.raises(zl.ShapeMismatch, match=r"running stage .* of pipeline"):
        pipeline(np.ones(5, np.float32))
    for reader in (relu(), gelu()):
        pipeline = zl.Pipeline([relu(), lambda y: y.astype(np.float64), reader])
        with pytest.raises(zl.InvalidArgument, match=r"running stage .* dtype is float64"):
            pipeline(np.ones(4, np.float32))
