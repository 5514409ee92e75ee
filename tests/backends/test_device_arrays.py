"""Arrays in GPU memory, in and out, in the order of their producers' and consumers' streams.

On the stand-in for CUDA a stream is a thread, and the arrays here are filled late: a run, or a
reader, that is not ordered behind the filling finds the numbers from before.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.fakes.cuda import gpu
from tests.fakes.tensorrt import libraries
from tests.models import small
from zerolane import _native

LATE = 30.0  # ms
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(autouse=True)
def on_a_gpu(backend: Backend) -> None:
    if not backend.device.startswith("cuda"):
        pytest.skip("this row runs on the host; the rows on a device are started by test_stand_ins")


@pytest.fixture
def relu(load: Callable[..., zl.Session]) -> zl.Session:
    return load(small.relu((2, 4)))


def expected(x: Any = X) -> Any:
    return np.maximum(x, 0)


def shifted(step: int = 1) -> Any:
    """Other numbers each time."""
    return X + np.float32(0.125 * step)


# In


def test_asynchronously_filled_input(relu: zl.Session) -> None:
    """The case of the public reports: the memory is bound while its producer still fills it."""
    for step in range(10):
        x = gpu.Array(shifted(step), delay_ms=LATE, before=-9)
        np.testing.assert_array_equal(gpu.take(relu(x)), expected(shifted(step)))


@pytest.mark.parametrize("legacy", [False, True], ids=["versioned", "legacy"])
def test_the_producer_gets_our_stream(relu: zl.Session, legacy: bool) -> None:
    x = gpu.Array(X, delay_ms=LATE, legacy=legacy)
    np.testing.assert_array_equal(gpu.take(relu(x)), expected())
    assert len(x.streams) == 1
    assert isinstance(x.streams[0], int)
    assert x.streams[0] > 2
    assert x.streams[0] != x.stream.handle


def test_array_interface(relu: zl.Session) -> None:
    x = gpu.Interface(gpu.Array(X, delay_ms=LATE, before=-9))
    y = relu(x)
    assert y.device == "cuda:0"
    np.testing.assert_array_equal(gpu.take(y), expected())
    strided = gpu.Interface(gpu.Array(np.repeat(X, 2, axis=1), delay_ms=LATE, before=-9, step=2))
    np.testing.assert_array_equal(gpu.take(relu(strided)), expected())


def test_strided_arrays_are_copied_on_the_device(
    relu: zl.Session, load: Callable[..., zl.Session]
) -> None:
    wide = np.repeat(X, 2, axis=1)
    x = gpu.Array(wide, delay_ms=LATE, before=-9, step=2)
    np.testing.assert_array_equal(gpu.take(relu(x)), expected())
    with pytest.raises(zl.InvalidArgument, match="not row-major contiguous"):
        load(small.relu((2, 4)), copy="never")(x)
    with pytest.raises(zl.InvalidArgument, match="in place"):
        relu.bind(x=x)
    with pytest.raises(zl.InvalidArgument, match="in place"):
        relu.run({"x": gpu.Array(X)}, out={"y": x})


def test_another_gpu_is_refused(relu: zl.Session) -> None:
    with pytest.raises(zl.DeviceError, match=r"cuda:1.*runs on cuda:0.*copy it to cuda:0"):
        relu(gpu.Array(X, device=1))
    np.testing.assert_array_equal(relu(X), expected())


def test_wrong_types_and_shapes_are_refused(relu: zl.Session) -> None:
    for wrong in (X.astype(np.float64), X[:1]):
        with pytest.raises(zl.InvalidArgument):
            relu(gpu.Array(wrong, delay_ms=LATE))
    np.testing.assert_array_equal(gpu.take(relu(gpu.Array(X))), expected())


def test_submitted_calls(relu: zl.Session) -> None:
    futures = [relu.submit(gpu.Array(shifted(step), delay_ms=LATE, before=-9)) for step in range(8)]
    for step, future in enumerate(futures):
        np.testing.assert_array_equal(gpu.take(future.result(timeout=30)), expected(shifted(step)))


def test_both_places_in_one_call(load: Callable[..., zl.Session]) -> None:
    """The first input says where the results go."""
    add = load(small.add((2, 4)))
    late = gpu.Array(X, delay_ms=LATE, before=-9)
    first = add(late, X)
    assert first.device == "cuda:0"
    np.testing.assert_array_equal(gpu.take(first), X + X)
    late.write(shifted(), LATE)
    second = add(X, late)
    assert isinstance(second, np.ndarray)
    np.testing.assert_array_equal(second, X + shifted())


# Out


def test_the_same_kind_of_array_comes_out(relu: zl.Session) -> None:
    assert isinstance(relu(X), np.ndarray)
    y = relu(gpu.Array(X))
    assert isinstance(y, _native.Tensor)
    assert (y.device, y.shape, y.dtype) == ("cuda:0", (2, 4), "float32")
    named = relu.run({"x": gpu.Array(X)})["y"]
    np.testing.assert_array_equal(gpu.take(named), expected())


def test_a_result_is_an_input(relu: zl.Session) -> None:
    y = relu(gpu.Array(X, delay_ms=LATE, before=-9))
    np.testing.assert_array_equal(gpu.take(relu(y)), expected())


def test_out_on_the_device(relu: zl.Session) -> None:
    y = gpu.Array(np.full_like(X, 7), delay_ms=LATE)  # still being written when the run begins
    given = relu.run({"x": gpu.Array(X, delay_ms=LATE, before=-9)}, out={"y": y})["y"]
    assert given is y
    np.testing.assert_array_equal(y.read(), expected())
    host = np.empty_like(X)
    relu.run({"x": gpu.Array(shifted())}, out={"y": host})
    np.testing.assert_array_equal(host, expected(shifted()))
    relu.run({"x": X}, out={"y": y})
    np.testing.assert_array_equal(y.read(), expected())
    with pytest.raises(zl.InvalidArgument, match="read-only"):
        relu.run({"x": X}, out={"y": gpu.Array(X, read_only=True)})


def test_results_that_data_sizes(load: Callable[..., zl.Session]) -> None:
    nonzero = load(small.nonzero())
    for count in (3, 1, 4):
        x = np.zeros(6, np.float32)
        x[:count] = 1
        y = nonzero(gpu.Array(x, delay_ms=LATE))
        assert y.device == "cuda:0"
        assert y.shape == (1, count)


def test_memory_lives_until_its_consumer_is_done(relu: zl.Session) -> None:
    """A reader's work is still queued when it lets go of the result: the memory is not reused."""
    cuda = libraries.cuda()
    y = relu(gpu.Array(X))
    reader = gpu.Stream()
    taken = gpu.Taken(y, reader)
    address = taken.address
    assert address == y.address
    del y
    cuda.hold(reader)
    found = taken.read_async()
    del taken
    gc.collect()
    others = [relu(gpu.Array(shifted(step))) for step in range(5)]
    assert address not in [other.address for other in others]
    cuda.release(reader)
    reader.synchronize()
    np.testing.assert_array_equal(found, expected())
    # Its work is done: the memory serves again.
    assert address in [other.address for other in [relu(gpu.Array(X)) for _ in range(20)]]


def test_memory_comes_back(relu: zl.Session) -> None:
    x = gpu.Array(X)
    addresses = set()
    for _ in range(50):
        y = relu(x)
        addresses.add(y.address)
        gpu.take(y)
        del y
    assert len(addresses) < 10
    gc.collect()
    assert gpu.held() == 0


def test_capsules_of_a_tensor() -> None:
    y = _native.empty([2, 3], "float32", "cuda:0")
    assert y.__dlpack_device__() == (2, 0)
    y.__dlpack__(stream=-1)
    y.__dlpack__(stream=1)
    y.__dlpack__(stream=2, max_version=(1, 0))
    with pytest.raises(zl.InvalidArgument, match="stream is 0"):
        y.__dlpack__(stream=0)
    with pytest.raises(zl.DeviceError, match="was asked for"):
        y.__dlpack__(dl_device=(2, 1))
    with pytest.raises(zl.DeviceError, match="without a copy"):
        y.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(zl.InvalidArgument, match="device"):
        _native.empty([2], "float32", "cuda")


def test_a_copy_on_the_host(relu: zl.Session) -> None:
    y = relu(gpu.Array(X, delay_ms=LATE, before=-9))

    class OnHost:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

        def __dlpack__(self, **asked: Any) -> Any:
            return y.__dlpack__(dl_device=(1, 0), max_version=(1, 0))

    np.testing.assert_array_equal(np.from_dlpack(OnHost()), expected())  # type: ignore[arg-type]


def test_the_users_of_a_tensor_are_waited_for(relu: zl.Session) -> None:
    """Who took a tensor may write it: the next run on it comes after that."""
    x = _native.empty([2, 4], "float32", "cuda:0")
    writer = gpu.Stream()
    capsule = x.__dlpack__(stream=writer.handle)
    writer.fill(x.address, np.full_like(X, -9))
    writer.synchronize()
    writer.delay(LATE)
    writer.fill(x.address, X)
    np.testing.assert_array_equal(gpu.take(relu(x)), expected())
    del capsule


# Fixed memory


def test_bound_arrays_are_used_in_place(relu: zl.Session) -> None:
    x = gpu.Array(X, delay_ms=LATE, before=-9)
    binding = relu.bind(x=x)
    assert binding.inputs["x"] is x
    y = binding.outputs["y"]
    assert y.device == "cuda:0"
    for step in range(10):
        x.write(shifted(step), LATE)
        assert binding()["y"] is y
        np.testing.assert_array_equal(gpu.take(y), expected(shifted(step)))


def test_bound_outputs_on_the_device(relu: zl.Session) -> None:
    y = gpu.Array(X)
    binding = relu.bind(x=(2, 4), out={"y": y})
    for step in range(5):
        binding.inputs["x"][...] = shifted(step)
        y.write(np.full_like(X, 7), LATE)  # its owner still writes when the run is asked for
        assert binding()["y"] is y
        np.testing.assert_array_equal(y.read(), expected(shifted(step)))


def test_a_reader_of_a_bound_output_is_waited_for(relu: zl.Session) -> None:
    x = gpu.Array(X)
    binding = relu.bind(x=x)
    y = binding()["y"]
    reader = gpu.Stream()
    capsule = y.__dlpack__(stream=reader.handle)
    found = np.empty_like(X)
    reader.delay(LATE)
    gpu.read_async(reader, y.address, found)
    x.write(shifted(3))
    binding()
    reader.synchronize()
    np.testing.assert_array_equal(found, expected())
    del capsule


def test_the_producer_is_let_go(relu: zl.Session) -> None:
    before = gpu.held()
    for _ in range(5):
        relu(gpu.Array(X))
        binding = relu.bind(x=gpu.Array(X))
        binding()
        del binding
        with pytest.raises(zl.Error):
            relu(gpu.Array(X[:1]))
    gc.collect()
    assert gpu.held() == before
