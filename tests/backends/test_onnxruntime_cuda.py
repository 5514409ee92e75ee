"""What the CUDA provider of ONNX Runtime is asked for, on its stand-in: stream, memory, graphs."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.fakes.cuda import gpu
from tests.fakes.onnxruntime import stand_in
from tests.models import small

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
GRAPHS = [("CUDA", {"enable_cuda_graph": True})]


@pytest.fixture(autouse=True)
def cuda_provider(backend: Backend) -> None:
    if backend.name != "onnxruntime" or backend.device == "cpu":
        pytest.skip("test_stand_ins starts a process where ONNX Runtime has the CUDA provider")


@pytest.fixture
def tells_places(backend: Backend) -> None:
    if "1.22" in zl.load(small.relu().SerializeToString()).why["onnxruntime"]:
        pytest.skip("this release does not tell where inputs and outputs are: no graphs")


def counted(name: str, work: Any) -> int:
    before = stand_in.count(name)
    work()
    return stand_in.count(name) - before


def test_runs_on_the_stream_of_the_caller(backend: Backend) -> None:
    mine = gpu.Stream()
    session = backend.load(
        small.relu((2, 4)), providers=[("CUDA", {"user_compute_stream": mine.handle})]
    )
    assert counted("runs", lambda: session(X)) == 1
    x = gpu.Array(np.full_like(X, -9))
    mine.delay(30)
    mine.fill(x.address, X)  # on the caller's stream: no other order is needed
    np.testing.assert_array_equal(gpu.take(session(gpu.Interface(x))), np.maximum(X, 0))


def test_a_stream_that_is_no_number(backend: Backend) -> None:
    with pytest.raises(zl.InvalidArgument, match="user_compute_stream"):
        backend.load(small.relu(), providers=[("CUDA", {"user_compute_stream": "mine"})])


@pytest.mark.usefixtures("tells_places")
def test_a_binding_is_captured_once_and_replayed(backend: Backend) -> None:
    session = backend.load(small.relu((2, 4)), providers=GRAPHS)
    x = gpu.Array(X)
    binding = session.bind(x=x)
    binding()

    def runs() -> None:
        for step in range(10):
            x.write(X + step, 5)
            np.testing.assert_array_equal(gpu.take(binding()["y"]), np.maximum(X + step, 0))

    replays = stand_in.count("replays")
    assert counted("graphs", runs) == 1
    assert stand_in.count("replays") - replays >= 8


@pytest.mark.usefixtures("tells_places")
def test_bindings_of_host_memory_are_captured(backend: Backend) -> None:
    binding = backend.load(small.relu((2, 4)), providers=GRAPHS).bind(x=(2, 4))

    def runs() -> None:
        for step in range(10):
            binding.inputs["x"][...] = X + step
            np.testing.assert_array_equal(binding()["y"], np.maximum(X + step, 0))

    assert counted("replays", runs) >= 7


def test_other_memory_is_never_replayed(backend: Backend) -> None:
    """The conftest's count of violations sees a replay for other addresses or shapes."""
    session = backend.load(small.dynamic_dims(), providers=GRAPHS)
    rng = np.random.default_rng(3)
    for _ in range(60):
        x = rng.standard_normal((int(rng.integers(1, 4)), 2, 3), np.float32)
        np.testing.assert_array_equal(session(x), 2 * x)
        np.testing.assert_array_equal(gpu.take(session(gpu.Array(x, delay_ms=1))), 2 * x)


def test_one_run_at_a_time_with_graphs(backend: Backend) -> None:
    session = backend.load(small.relu((2, 4)), providers=GRAPHS)
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            binding = session.bind(x=(2, 4))
            for step in range(20):
                binding.inputs["x"][...] = X * seed + step
                np.testing.assert_array_equal(binding()["y"], np.maximum(X * seed + step, 0))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_inputs_that_are_read_on_the_host(backend: Backend) -> None:
    """Numbers of 64 bits: their memory on the device is brought over in order."""
    model = small.identity("int64")
    session = backend.load(model)
    values = np.arange(6)
    np.testing.assert_array_equal(session(values), values)
    late = gpu.Array(values, delay_ms=30, before=-9)
    np.testing.assert_array_equal(gpu.take(session(late)), values)
    binding = session.bind(x=late)
    late.write(values * 2, 30)
    np.testing.assert_array_equal(gpu.take(binding()["y"]), values * 2)


@pytest.mark.usefixtures("tells_places")
def test_out_of_device_memory(backend: Backend) -> None:
    from tests.fakes.tensorrt import libraries

    session = backend.load(small.relu((512, 512)))
    x = np.ones((512, 512), np.float32)
    libraries.cuda().set_memory(1)
    try:
        with pytest.raises(zl.OutOfMemory):
            session(x)
    finally:
        libraries.cuda().heal()
    np.testing.assert_array_equal(session(x), x)
