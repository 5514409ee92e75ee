"""Every bad call is told by type, code, subject and text, and leaves the session usable."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

GOOD = np.arange(6, dtype=np.float32).reshape(1, 2, 3)


def three_parts(error: zl.Error) -> None:
    """What was being done: found against expected; what to do."""
    doing, colon, rest = str(error).partition(": ")
    found, semicolon, remedy = rest.rpartition("; ")
    assert colon
    assert semicolon
    assert doing.strip()
    assert found.strip()
    assert remedy.strip()
    assert "\n\n" not in str(error)


@dataclass(frozen=True)
class Bad:
    """A call that must fail."""

    name: str
    call: Callable[[zl.Session], Any]
    error: type[zl.Error]
    subject: str
    says: tuple[str, ...]


def read_only(shape: tuple[int, ...] = (1, 2, 3)) -> np.ndarray[Any, Any]:
    array = np.zeros(shape, np.float32)
    array.flags.writeable = False
    return array


def x(value: object) -> Callable[[zl.Session], Any]:
    return lambda s: s(value)


INVALID, SHAPE, UNSUPPORTED = zl.InvalidArgument, zl.ShapeMismatch, zl.Unsupported
MODEL = "model in memory"

CALLS = [
    Bad("wrong name", lambda s: s.run({"z": GOOD}), INVALID, "z", ("no input 'z'", "'x'", MODEL)),
    Bad("wrong keyword", lambda s: s(z=GOOD), INVALID, "z", ("no input 'z'",)),
    Bad("name of another type", lambda s: s.run({5: GOOD}), INVALID, "5", ("no input '5'",)),
    Bad("no input", lambda s: s(), INVALID, "x", ("not given", "'x'", "[N, ?, 3]")),
    Bad("no input in a dict", lambda s: s.run({}), INVALID, "x", ("not given",)),
    Bad("none for an input", lambda s: s.run({"x": None}), INVALID, "x", ("not given",)),
    Bad("too many", lambda s: s(GOOD, GOOD), INVALID, "", ("2 inputs were given", "has 1: 'x'")),
    Bad("twice", lambda s: s(GOOD, x=GOOD), INVALID, "x", ("given twice",)),
    Bad("dtype", x(GOOD.astype(np.float64)), INVALID, "x", ("float64", "expected float32")),
    Bad("integers", x(GOOD.astype(np.int64)), INVALID, "x", ("int64", "float32", ".astype")),
    Bad("bool", x(GOOD > 1), INVALID, "x", ("bool", "float32")),
    Bad("complex", x(GOOD.astype(np.complex64)), INVALID, "x", ("complex64", "float32")),
    Bad("rank", x(GOOD[0]), SHAPE, "x", ("[2, 3]", "[N, ?, 3]")),
    Bad("higher rank", x(GOOD[None]), SHAPE, "x", ("[1, 1, 2, 3]", "[N, ?, 3]")),
    Bad("fixed size", x(GOOD[..., :2].copy()), SHAPE, "x", ("[1, 2, 2]", "[N, ?, 3]")),
    Bad("object array", x(np.array([None])), INVALID, "x", ("object", "float32")),
    Bad("object numbers", x(GOOD.astype(object)), INVALID, "x", ("object", "float32")),
    Bad("strings", x(np.array(["a"])), INVALID, "x", ("<U1", "float32")),
    Bad("datetime", x(np.zeros(3, "M8[s]")), INVALID, "x", ("datetime64", "float32")),
    Bad("timedelta", x(np.zeros(3, "m8[s]")), INVALID, "x", ("timedelta64", "float32")),
    Bad("record", x(np.zeros(3, [("a", "f4")])), INVALID, "x", ("float32",)),
    Bad("long double", x(np.zeros(3, np.longdouble)), zl.Error, "x", ("float32",)),
    Bad("masked", x(np.ma.masked_array(GOOD, GOOD > 2)), UNSUPPORTED, "x", ("masked", ".filled")),
    Bad("no array", x(object()), INVALID, "x", ("object", "float32")),
    Bad("text", x("hello"), INVALID, "x", ("str", "float32")),
    Bad("set", x({1.0, 2.0}), INVALID, "x", ("set", "float32")),
    Bad("ragged list", x([[1.0], [1.0, 2.0]]), INVALID, "x", ("list", "float32")),
    Bad("generator", x(v for v in (1.0, 2.0)), INVALID, "x", ("generator", "float32")),
    Bad("complex list", x([[[1j, 2, 3]]]), INVALID, "x", ("complex", "float32")),
    Bad("module", x(np), INVALID, "x", ("module", "float32")),
    Bad("sequence of none", x([[[None, 1, 2]]]), INVALID, "x", ("list", "float32")),
    Bad(
        "read-only out",
        lambda s: s.run({"x": GOOD}, out={"y": read_only()}),
        INVALID,
        "y",
        ("read-only", "output 'y'"),
    ),
    Bad(
        "out of another shape",
        lambda s: s.run({"x": GOOD}, out={"y": np.zeros((1, 2, 4), np.float32)}),
        SHAPE,
        "y",
        ("[1, 2, 4]", "[N, ?, 3]"),
    ),
    Bad(
        "out of another dtype",
        lambda s: s.run({"x": GOOD}, out={"y": np.zeros((1, 2, 3))}),
        INVALID,
        "y",
        ("float64", "float32"),
    ),
    Bad(
        "strided out",
        lambda s: s.run({"x": GOOD}, out={"y": np.zeros((1, 2, 6), np.float32)[..., ::2]}),
        INVALID,
        "y",
        ("contiguous",),
    ),
    Bad(
        "list as out",
        lambda s: s.run({"x": GOOD}, out={"y": [[[0.0] * 3] * 2]}),
        INVALID,
        "y",
        ("list",),
    ),
    Bad("none as out", lambda s: s.run({"x": GOOD}, out={"y": None}), INVALID, "y", ("None",)),
    Bad(
        "out for no output",
        lambda s: s.run({"x": GOOD}, out={"q": GOOD}),
        INVALID,
        "q",
        ("no output 'q'", "'y'"),
    ),
    Bad("bind to no input", lambda s: s.bind(z=(1, 2, 3)), INVALID, "z", ("no input 'z'", "'x'")),
    Bad("bind without shape", lambda s: s.bind(), INVALID, "x", ("dynamic shape", "[N, ?, 3]")),
    Bad("bind a wrong shape", lambda s: s.bind(x=(1, 2, 4)), SHAPE, "x", ("[1, 2, 4]",)),
    Bad("bind a wrong rank", lambda s: s.bind(x=5), SHAPE, "x", ("[5]", "[N, ?, 3]")),
    Bad("bind a negative size", lambda s: s.bind(x=(-1, 2, 3)), INVALID, "x", ("negative",)),
    Bad(
        "bind a wrong dtype",
        lambda s: s.bind(x=GOOD.astype(np.float16)),
        INVALID,
        "x",
        ("float16", "float32"),
    ),
    Bad(
        "bind a strided array",
        lambda s: s.bind(x=np.asfortranarray(np.zeros((4, 5, 3), np.float32))),
        INVALID,
        "x",
        ("row-major",),
    ),
    Bad("bind a list of floats", lambda s: s.bind(x=[1.5, 2.0]), INVALID, "x", ("list",)),
    Bad("bind None", lambda s: s.bind(x=None), INVALID, "x", ()),
    Bad(
        "bind twice",
        lambda s: s.bind(GOOD, x=GOOD),
        INVALID,
        "",
        ("once",),
    ),
    Bad("bind too many", lambda s: s.bind(GOOD, GOOD), INVALID, "", ("2 positional",)),
    Bad(
        "bind read-only out",
        lambda s: s.bind(x=GOOD, out={"y": read_only()}),
        INVALID,
        "y",
        ("read-only",),
    ),
    Bad(
        "bind out of another shape",
        lambda s: s.bind(x=GOOD, out={"y": np.zeros((1, 2, 4), np.float32)}),
        SHAPE,
        "y",
        ("[1, 2, 4]",),
    ),
    Bad(
        "bind out for no output",
        lambda s: s.bind(x=GOOD, out={"q": GOOD}),
        INVALID,
        "q",
        ("no output 'q'",),
    ),
    Bad("run on a list", lambda s: s.run([GOOD]), INVALID, "inputs", ("list", "dict")),
    Bad("run on None", lambda s: s.run(None), INVALID, "inputs", ("NoneType", "dict")),
    Bad(
        "list of outputs as out",
        lambda s: s.run({"x": GOOD}, out=[GOOD]),
        INVALID,
        "out",
        ("list", "dict"),
    ),
    Bad(
        "bind a list as out",
        lambda s: s.bind(GOOD, out=[GOOD]),
        INVALID,
        "out",
        ("list", "dict"),
    ),
    Bad(
        "number of outputs",
        lambda s: s.run({"x": GOOD}, outputs=1),
        INVALID,
        "outputs",
        ("1", "['y']"),
    ),
    Bad(
        "text as deadline",
        lambda s: s.run({"x": GOOD}, deadline_ms="5"),
        INVALID,
        "deadline_ms",
        ("'5'", "milliseconds"),
    ),
    Bad(
        "text as timeout",
        lambda s: s.submit(GOOD).result(timeout="5"),
        INVALID,
        "timeout",
        ("'5'", "seconds"),
    ),
    Bad("unknown output", lambda s: s.run({"x": GOOD}, outputs=["q"]), INVALID, "q", ("'y'",)),
]


@pytest.fixture(scope="module")
def session() -> zl.Session:
    """x f32 [N, ?, 3] -> y = 2 x."""
    return zl.load(small.dynamic_dims().SerializeToString())


def check_usable(session: zl.Session) -> None:
    np.testing.assert_array_equal(session(GOOD), 2 * GOOD)


@pytest.mark.parametrize("bad", CALLS, ids=lambda bad: bad.name)
def test_bad_call(session: zl.Session, bad: Bad) -> None:
    with pytest.raises(bad.error) as caught:
        bad.call(session)
    error = caught.value
    assert type(error) is bad.error or bad.error is zl.Error
    assert error.code == type(error).code
    for text in bad.says:
        assert text in str(error)
    assert error.subject == bad.subject or bad.subject == ""
    three_parts(error)
    check_usable(session)


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.run(5),
        lambda s: s.run([("x", GOOD)], out=5),
        lambda s: s.run({"x": GOOD}, out=[GOOD]),
        lambda s: s.run({"x": GOOD}, outputs=5),
        lambda s: s.run({"x": GOOD}, outputs=[5]),
        lambda s: s.run({"x": GOOD}, deadline_ms="soon"),
        lambda s: s.bind(x=GOOD, out=5),
        lambda s: s.bind(x=GOOD, gil=5),
        lambda s: s.submit(x=GOOD, deadline_ms=[]),
        lambda s: s.bind(x=(2**70, 1, 3)),
        lambda s: s.bind(x=("a", 1, 3)),
    ],
)
def test_arguments_of_another_type(session: zl.Session, call: Callable[[zl.Session], Any]) -> None:
    with pytest.raises((zl.InvalidArgument, zl.OutOfMemory, TypeError, ValueError)):
        call(session)
    check_usable(session)


def test_a_dict_subclass_and_odd_keys(session: zl.Session) -> None:
    class Named(dict[str, Any]):
        pass

    np.testing.assert_array_equal(session(Named(x=GOOD))["y"], 2 * GOOD)

    class Text(str):
        __slots__ = ()

    np.testing.assert_array_equal(session.run({Text("x"): GOOD})["y"], 2 * GOOD)


def test_same_symbol_with_different_sizes() -> None:
    """Two inputs that share a named dimension but not its size: an error, not a wrong result."""
    session = zl.load(small.add(("N",)).SerializeToString())
    a, b = np.ones(4, np.float32), np.ones(3, np.float32)
    for call in (lambda: session(a, b), lambda: session.submit(a, b).result(30)):
        with pytest.raises(zl.Error) as caught:
            call()
        assert not isinstance(caught.value, zl.InternalError)
    np.testing.assert_array_equal(session(a, a), 2 * a)
    # Broadcasting makes this one valid for the model, whatever it declares.
    np.testing.assert_array_equal(session(a, b[:1]), 2 * a)
    np.testing.assert_array_equal(session(b[:1], a), 2 * a)


def test_a_run_that_fails_tells_where() -> None:
    session = zl.load(small.sequence_input().SerializeToString())
    with pytest.raises(zl.Error, match="ConcatFromSequence") as caught:
        session([np.ones((1, 2), np.float32), np.ones((1, 3), np.float32)])
    three_parts(caught.value)
    np.testing.assert_array_equal(session([np.ones((1, 2), np.float32)]), [[1, 1]])


def test_errors_pickle(session: zl.Session) -> None:
    import pickle

    with pytest.raises(zl.InvalidArgument) as caught:
        session(z=1)
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is zl.InvalidArgument
    assert (str(again), again.subject, again.code) == (str(caught.value), "z", "invalid_argument")


def test_an_error_of_an_array_object_comes_through(session: zl.Session) -> None:
    class Faulty:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            raise MemoryError("mine")

    class Worse:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("mine")

    for value in (Faulty(), Worse()):
        with pytest.raises((MemoryError, RuntimeError, zl.InvalidArgument)):
            session(value)
    check_usable(session)


def test_ctrl_c_inside_an_array_object_comes_through(session: zl.Session) -> None:
    class Interrupted:
        def __dlpack__(self, **options: Any) -> Any:
            raise KeyboardInterrupt

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(KeyboardInterrupt):
        session(Interrupted())
    check_usable(session)
