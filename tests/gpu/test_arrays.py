"""Arrays of torch and CuPy in and out of engines: in place, and in order with their streams.

Each order test puts tens of milliseconds of work before the write (or the read), so that a missing
wait gives a wrong result and not a lucky one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

import zerolane as zl
from tests.gpu import engines, needs
from tests.gpu.cuda_table import TO_DEVICE
from tests.models import small

WIDTH = 512
ROWS = 1024
TURNS = 5


def model() -> onnx.ModelProto:
    """x f32 [N,512] -> y: np.roll(x, 1, -1), exact for whole numbers."""
    return small.matmul_chain(length=1, size=WIDTH)


@pytest.fixture
def session(backend: str) -> zl.Session:
    ranges = {"x": ((1, WIDTH), (ROWS, WIDTH), (ROWS, WIDTH))}
    return engines.load(engines.build(model(), backend, shapes=ranges))


class Torch:
    """What the tests need of an array library; `now` is its current stream."""

    def __init__(self) -> None:
        self.module = needs.torch()

    def array(self, values: Any) -> Any:
        return self.module.as_tensor(np.ascontiguousarray(values)).cuda()

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        return self.module.full(shape, float(value), device="cuda")

    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(array.cpu().numpy())

    def stream(self) -> Any:
        """Made current by `with`."""
        return self.module.cuda.stream(self.module.cuda.Stream())

    def delay(self) -> None:
        self.module.cuda._sleep(50_000_000)

    def fill(self, array: Any, value: float) -> None:
        array.fill_(value)

    def wait(self) -> None:
        self.module.cuda.synchronize()

    def address(self, array: Any) -> int:
        return int(array.data_ptr())

    def is_own(self, array: Any) -> bool:
        return isinstance(array, self.module.Tensor) and bool(array.is_cuda)


class Cupy:
    def __init__(self) -> None:
        self.module = needs.cupy()
        self._spin = self.module.RawKernel(
            r"""
            extern "C" __global__ void spin(long long cycles) {
              long long start = clock64();
              while (clock64() - start < cycles) {}
            }
            """,
            "spin",
        )

    def array(self, values: Any) -> Any:
        return self.module.asarray(np.ascontiguousarray(values))

    def full(self, shape: tuple[int, ...], value: float) -> Any:
        return self.module.full(shape, value, dtype=np.float32)

    def numpy(self, array: Any) -> np.ndarray[Any, Any]:
        return np.asarray(self.module.asnumpy(array))

    def stream(self) -> Any:
        return self.module.cuda.Stream(non_blocking=True)

    def delay(self) -> None:
        self._spin((1,), (1,), (np.int64(50_000_000),))

    def fill(self, array: Any, value: float) -> None:
        array.fill(value)

    def wait(self) -> None:
        self.module.cuda.Device().synchronize()

    def address(self, array: Any) -> int:
        return int(array.data.ptr)

    def is_own(self, array: Any) -> bool:
        return isinstance(array, self.module.ndarray)


@pytest.fixture(params=[Torch, Cupy])
def xp(request: pytest.FixtureRequest) -> Any:
    make: Callable[[], Any] = request.param
    return make()


def whole(rows: int = ROWS, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    rng = np.random.default_rng(seed)
    return rng.integers(-100, 101, (rows, WIDTH)).astype(np.float32)


def rolled(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.roll(x, 1, axis=-1)


def test_the_same_kind_comes_back(session: zl.Session, xp: Any) -> None:
    x = whole()
    y = session(xp.array(x))
    assert xp.is_own(y)
    np.testing.assert_array_equal(xp.numpy(y), rolled(x))
    named = session({"x": xp.array(x)})
    assert xp.is_own(named["y"])
    np.testing.assert_array_equal(xp.numpy(named["y"]), rolled(x))


def test_results_are_the_callers(session: zl.Session, xp: Any) -> None:
    """A later call does not write into the result of an earlier one."""
    given = [whole(16, seed) for seed in range(8)]
    results = [session(xp.array(x)) for x in given]
    for x, y in zip(given, results, strict=True):
        np.testing.assert_array_equal(xp.numpy(y), rolled(x))


def test_out_is_written_in_place(session: zl.Session, xp: Any) -> None:
    x = whole()
    out = xp.full((ROWS, WIDTH), -1)
    y = session.run({"x": xp.array(x)}, out={"y": out})["y"]
    assert y is out
    np.testing.assert_array_equal(xp.numpy(out), rolled(x))


def test_bound_memory_is_used_in_place(session: zl.Session, xp: Any) -> None:
    x_array, y_array = xp.full((ROWS, WIDTH), 0), xp.full((ROWS, WIDTH), 0)
    binding = session.bind(x=x_array, out={"y": y_array})
    assert xp.address(binding.inputs["x"]) == xp.address(x_array)
    assert xp.address(binding.outputs["y"]) == xp.address(y_array)
    for value in range(TURNS):
        xp.fill(x_array, value)
        binding()
        assert (xp.numpy(y_array) == value).all()


def test_bound_on_the_device_with_outputs_of_ours(session: zl.Session, xp: Any) -> None:
    x_array = xp.array(whole())
    binding = session.bind(x=x_array)
    for seed in range(TURNS):
        x = whole(ROWS, seed)
        x_array[...] = xp.array(x)
        binding()
        assert xp.is_own(binding.outputs["y"])
        np.testing.assert_array_equal(xp.numpy(binding.outputs["y"]), rolled(x))


def test_inputs_filled_asynchronously_on_a_side_stream(session: zl.Session, xp: Any) -> None:
    """The write is still behind a long kernel when the call is made, and it must be seen."""
    for value in range(1, TURNS + 1):
        x_array = xp.full((ROWS, WIDTH), 0)
        xp.wait()
        with xp.stream():
            xp.delay()
            xp.fill(x_array, value)
            y = session(x_array)
        assert (xp.numpy(y) == value).all()


def test_bound_inputs_filled_asynchronously(session: zl.Session, xp: Any) -> None:
    """The stream that is current at the call counts, not the one at binding."""
    x_array = xp.full((ROWS, WIDTH), 0)
    binding = session.bind(x=x_array)
    for value in range(1, TURNS + 1):
        with xp.stream():
            xp.delay()
            xp.fill(x_array, value)
            binding()
        xp.wait()
        assert (xp.numpy(binding.outputs["y"]) == value).all()


def test_an_input_may_be_overwritten_after_the_call(session: zl.Session, xp: Any) -> None:
    """Reuse in the caller's own stream order, at once, with no wait in between."""
    x_array = xp.full((ROWS, WIDTH), 0)
    with xp.stream():
        for value in range(1, 20):
            xp.fill(x_array, value)
            y = session(x_array)
            xp.fill(x_array, -1)
            assert (xp.numpy(y) == value).all()


def test_an_output_still_read_elsewhere_is_not_overwritten_early(
    session: zl.Session, xp: Any
) -> None:
    """A slow reader on the caller's stream comes before the next call's write to that memory."""
    x_array, y_array = xp.full((ROWS, WIDTH), 1), xp.full((ROWS, WIDTH), 0)
    binding = session.bind(x=x_array, out={"y": y_array})
    with xp.stream():
        binding()
        xp.delay()
        seen = y_array + 0
        xp.fill(x_array, 2)
        binding()
        late = y_array + 0
        assert (xp.numpy(seen) == 1).all()
        assert (xp.numpy(late) == 2).all()


@pytest.mark.parametrize("view", ["transposed", "strided", "offset"])
def test_views_that_are_not_dense(session: zl.Session, xp: Any, view: str) -> None:
    """Copied on the device, in stream order; refused where copying is not allowed."""
    base = whole(2 * WIDTH)[:, :]
    array = xp.array(base)
    take = {
        "transposed": lambda a: a[:WIDTH].T,
        "strided": lambda a: a[::3],
        "offset": lambda a: a[1:200],
    }[view]
    np.testing.assert_array_equal(xp.numpy(session(take(array))), rolled(take(base)))


def test_views_are_refused_without_copies(backend: str, xp: Any) -> None:
    ranges = {"x": ((1, WIDTH), (ROWS, WIDTH), (ROWS, WIDTH))}
    session = engines.load(engines.build(model(), backend, shapes=ranges), copy="never")
    array = xp.array(whole())
    with pytest.raises(zl.Error):
        session(array[::2])
    np.testing.assert_array_equal(xp.numpy(session(array)), rolled(whole()))


def test_host_and_device_together(backend: str, xp: Any) -> None:
    ranges = dict.fromkeys(("a", "b"), ((1,), (64,), (4096,)))
    engine = engines.build(small.add(("N",)), backend, shapes=ranges)
    session = engines.load(engine)
    a, b = np.arange(64, dtype=np.float32), np.full(64, 0.5, np.float32)
    names = [spec.name for spec in session.inputs]
    for first, second in ((xp.array(a), b), (a, xp.array(b)), (xp.array(a), xp.array(b))):
        y = session.run(dict(zip(names, (first, second), strict=True)))
        got = next(iter(y.values()))
        got = got if isinstance(got, np.ndarray) else xp.numpy(got)
        np.testing.assert_array_equal(got, a + b)


def test_wrong_dtype_and_shape_are_refused(session: zl.Session, xp: Any) -> None:
    with pytest.raises(zl.InvalidArgument):
        session(xp.array(whole().astype(np.int32)))
    with pytest.raises(zl.ShapeMismatch):
        session(xp.array(np.zeros((4, WIDTH + 1), np.float32)))


def test_the_next_library_needs_no_wait(session: zl.Session) -> None:
    """torch in, CuPy takes the result over on a stream of its own, and back."""
    torch, cupy = Torch(), Cupy()
    x = whole()
    with torch.stream():
        torch.delay()
        y = session(torch.array(x))
        with cupy.stream():
            taken = cupy.module.from_dlpack(y)
            again = session(taken)
            back = torch.module.from_dlpack(again)
        np.testing.assert_array_equal(torch.numpy(back), rolled(rolled(x)))


def test_our_own_tensors(backend: str) -> None:
    """Memory of zerolane on the device, without any array library."""
    from zerolane import _native

    session = engines.load(engines.build(small.relu((1, 4)), backend))
    x = _native.empty((1, 4), "float32", "cuda:0")
    assert x.device == "cuda:0"
    given = np.array([[-1, 2, -3, 4]], np.float32)
    needs.table().copy(x.address, given.ctypes.data, given.nbytes, TO_DEVICE, None)
    needs.table().stream_synchronize(0, None)
    y = session(x)
    back = np.from_dlpack(_OnHost(y))
    np.testing.assert_array_equal(back, [[0, 2, 0, 4]])


class _OnHost:
    """A tensor of ours that hands out a copy on the host."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __dlpack__(self, **given: Any) -> Any:
        given.pop("copy", None)
        given.pop("dl_device", None)
        return self._tensor.__dlpack__(dl_device=(1, 0), copy=True, **given)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)
