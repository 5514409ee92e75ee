"""A Python function among native stages: what it gets, what it may keep, what it may return."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxruntime", reason="models run in ONNX Runtime")

import zerolane as zl
from tests import child
from tests.pipeline.parts import tiny

SIZES = [0, 1, 7, 3000]


def ones(size: int, start: float = 1) -> NDArray[np.float32]:
    return np.full(size, start, np.float32)


def between(function: Any, **wiring: Any) -> zl.Pipeline:
    """relu, the function, identity."""
    return zl.Pipeline(
        [tiny("relu", ("N",)), zl.Stage(function, **wiring), tiny("identity", "float32", ("M",))]
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("position", ["first", "middle", "last"])
def test_what_it_keeps_stays_as_it_was(size: int, position: str) -> None:
    kept: list[NDArray[np.float32]] = []

    def keep(y: NDArray[np.float32]) -> NDArray[np.float32]:
        assert not y.flags.writeable
        kept.append(y)
        return y

    relu = tiny("relu", ("N",))
    stages: list[Any] = [relu, tiny("identity", "float32", ("M",))]
    stages.insert({"first": 0, "middle": 1, "last": 2}[position], keep)
    pipeline = zl.Pipeline(stages, inputs=None if position != "first" else {"y": "float32"})
    results = [pipeline(ones(size, start)) for start in (1.0, 2.0, 3.0)]
    for start, array, result in zip((1.0, 2.0, 3.0), kept, results, strict=True):
        np.testing.assert_array_equal(array, ones(size, start))
        np.testing.assert_array_equal(result, ones(size, start))
        result[...] = -1  # the caller's own
        np.testing.assert_array_equal(array, ones(size, start))


@pytest.mark.parametrize("size", SIZES)
def test_a_buffer_that_it_returns_again_and_again_is_not_the_callers(size: int) -> None:
    buffer = np.empty(size, np.float32)

    def fill(y: NDArray[np.float32]) -> NDArray[np.float32]:
        buffer[...] = y * 2
        return buffer

    pipeline = zl.Pipeline([tiny("relu", ("N",)), fill])
    first, second = pipeline(ones(size)), pipeline(ones(size, 5))
    np.testing.assert_array_equal(first, ones(size, 2))
    np.testing.assert_array_equal(second, ones(size, 10))


def test_results_of_its_own_are_not_copied() -> None:
    addresses = []

    def make(y: NDArray[np.float32]) -> NDArray[np.float32]:
        made: NDArray[np.float32] = (y + 1)[None]
        addresses.append(made.ctypes.data)
        return made

    result = zl.Pipeline([tiny("relu", ("N",)), make])(ones(3000))
    assert result.ctypes.data == addresses[0]
    assert result.flags.writeable


RETURNS: list[tuple[str, Any, dict[str, Any], Any]] = [
    ("strided", lambda y: np.repeat(y, 2)[::2], {}, [1, 1, 1]),
    ("a list", lambda y: [float(v) for v in y], {"outputs": [zl.TensorSpec("z", "float32", None)]},
     [1, 1, 1]),
    ("fewer", lambda y: y[:1], {}, [1]),
    ("a tuple of one", lambda y: (y,), {}, [1, 1, 1]),
    ("a dict", lambda y: {"z": y + 1}, {"outputs": ["z"]}, [2, 2, 2]),
    ("byte-swapped", lambda y: y.astype(">f4"), {}, [1, 1, 1]),
    ("of a subclass", lambda y: y.view(np.recarray), {}, [1, 1, 1]),
]  # fmt: skip


@pytest.mark.parametrize("row", RETURNS, ids=lambda row: row[0])
def test_what_it_may_return(row: tuple[str, Any, dict[str, Any], Any]) -> None:
    _, function, wiring, expected = row
    np.testing.assert_array_equal(between(function, **wiring)(ones(3)), expected)


def test_a_torch_tensor_may_be_returned() -> None:
    torch = pytest.importorskip("torch")
    pipeline = between(lambda y: torch.from_numpy(y.copy()) + 1)
    np.testing.assert_array_equal(pipeline(ones(3)), ones(3, 2))


def test_strings_lists_and_dicts() -> None:
    def words(x: NDArray[np.float32]) -> NDArray[Any]:
        return np.array([f"w{v:.0f}" for v in x])

    strings = zl.Pipeline([tiny("relu", ("N",)), words, lambda words: words])
    assert strings(ones(3, 4)).tolist() == ["w4"] * 3
    count = zl.Pipeline([tiny("sequence_output"), lambda rows: np.array(len(rows))])
    assert count(np.ones((3, 2), np.float32)) == 3
    keys = zl.Pipeline([tiny("map_output"), lambda maps: np.array(sorted(maps[0]))])
    assert keys(np.ones((2, 3), np.float32)).tolist() == [10, 20, 30]


FAILS: list[tuple[str, Any, dict[str, Any], type[Exception], str]] = [
    ("a ValueError", lambda y: int("x"), {}, zl.InvalidArgument, "ValueError: invalid literal"),
    ("another error", lambda y: dict[str, int]()["k"], {}, zl.BackendError, "KeyError: 'k' (line"),
    ("an error of ours", lambda y: zl.load("nowhere.onnx"), {}, zl.NotFound, "nowhere.onnx"),
    ("no memory", lambda y: np.empty(2**50), {}, zl.OutOfMemory, "Unable to allocate"),
    ("two for one", lambda y: (y, y), {}, zl.InvalidArgument, "2 results, expected 1"),
    ("one for two", lambda y: y, {"outputs": ["a", "x"]}, zl.InvalidArgument, "expected 2"),
    ("no such key", lambda y: {}, {"outputs": ["x"]}, zl.InvalidArgument, "no 'x'"),
    ("nothing", lambda y: None, {}, zl.InvalidArgument, "there is nothing for it"),
    ("an object", lambda y: object(), {}, zl.InvalidArgument, ""),
    ("another type", lambda y: y.astype(int), {"outputs": [zl.TensorSpec("z", "float32", None)]},
     zl.InvalidArgument, "dtype is int64, expected float32"),
    ("another shape", lambda y: y, {"outputs": [zl.TensorSpec("z", "float32", (5,))]},
     zl.ShapeMismatch, "shape is [3], expected [5]"),
]  # fmt: skip


@pytest.mark.parametrize("row", FAILS, ids=lambda row: row[0])
def test_failures_name_the_stage(
    row: tuple[str, Any, dict[str, Any], type[Exception], str],
) -> None:
    _, function, wiring, kind, part = row
    pipeline = between(function, name="mine", **wiring)
    for _ in range(2):
        with pytest.raises(kind) as error:
            pipeline(ones(3))
        assert part in str(error.value)
        assert "stage" in str(error.value)


def test_an_interrupt_in_it_interrupts_the_caller() -> None:
    code = """
    import numpy as np
    import zerolane as zl
    from tests.pipeline.parts import tiny
    def stop(y):
        raise KeyboardInterrupt
    pipeline = zl.Pipeline([tiny("relu", ("N",)), stop])
    try:
        try:
            pipeline(np.ones(3, np.float32))
        except zl.Cancelled as error:
            assert "KeyboardInterrupt" in str(error)
        while True:  # Python's own handler comes between two of its instructions
            pass
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert child.run(code).strip() == "interrupted"


def test_the_interpreter_may_exit_while_it_runs() -> None:
    code = """
    import threading
    import numpy as np
    import zerolane as zl
    from tests.pipeline.parts import tiny
    running = threading.Event()
    def slow(y):
        running.set()
        return y + sum(range(5000))
    pipeline = zl.Pipeline([tiny("relu", ("N",)), slow])
    x = np.ones(3, np.float32)
    def call():
        while True:
            pipeline(x)
    for _ in range(2):
        threading.Thread(target=call, daemon=True).start()
    futures = [pipeline.submit(x) for _ in range(20)]
    running.wait()
    print("left")
    """
    for _ in range(3):
        assert child.run(code).strip() == "left"
