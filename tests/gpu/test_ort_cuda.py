"""ONNX Runtime's CUDA provider on a real GPU, with torch as producer and consumer."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from zerolane import _native

torch = pytest.importorskip("torch", reason="torch is not installed")
if "ZEROLANE_TEST_STAND_IN" in os.environ:
    pytest.skip("this process has a stand-in for the GPU", allow_module_level=True)
if not torch.cuda.is_available():
    pytest.skip("torch finds no GPU", allow_module_level=True)
try:
    _native.empty([1], "float32", "cuda:0")
    zl.load(small.relu().SerializeToString(), backend="onnxruntime", device="cuda:0")
except zl.Unavailable as error:
    pytest.skip(f"ONNX Runtime has no CUDA here: {error}", allow_module_level=True)

SIZE = 512
LENGTH = 8


def load(model: Any, **fields: Any) -> zl.Session:
    return zl.load(model.SerializeToString(), backend="onnxruntime", device="cuda:0", **fields)


@pytest.fixture(scope="module")
def chain() -> zl.Session:
    return load(small.matmul_chain(LENGTH, SIZE))


def numbers(seed: int) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).integers(-8, 8, (64, SIZE)) * np.float32(1))


def expected(x: Any) -> Any:
    return torch.roll(x, LENGTH, -1)


@pytest.mark.parametrize("own_stream", [False, True], ids=["default", "own"])
def test_asynchronously_filled_inputs(chain: zl.Session, own_stream: bool) -> None:
    """The public reports of wrong results (microsoft/onnxruntime issues 26609 and 32673): the
    input's memory is still being written, on a stream that the library knows nothing of, when the
    run is asked for. Nothing here synchronises."""
    stream = torch.cuda.Stream() if own_stream else torch.cuda.default_stream()
    source = [numbers(seed).pin_memory() for seed in range(50)]
    x = torch.full((64, SIZE), -99.0, device="cuda:0")
    wrong = 0
    with torch.cuda.stream(stream):
        for values in source:
            x.fill_(-99)
            torch.cuda._sleep(2_000_000)  # about a millisecond before the values arrive
            x.copy_(values, non_blocking=True)
            y = chain(x)
            assert y.device == x.device
            wrong += int(not torch.equal(y.cpu(), expected(values)))
    assert wrong == 0


def test_bound_inputs_filled_asynchronously(chain: zl.Session) -> None:
    x = torch.zeros((64, SIZE), device="cuda:0")
    binding = chain.bind(x=x)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for seed in range(50):
            values = numbers(seed).pin_memory()
            torch.cuda._sleep(2_000_000)
            x.copy_(values, non_blocking=True)
            assert torch.equal(binding()["y"].cpu(), expected(values))


def test_results_outlive_their_release(chain: zl.Session) -> None:
    """A reader's work is still queued when it lets go of the result, and other runs follow."""
    x = numbers(0).cuda()
    kept = torch.empty((64, SIZE), device="cuda:0")
    for _ in range(20):
        y = chain(x)
        torch.cuda._sleep(20_000_000)
        kept.copy_(y)
        del y
        for seed in range(3):
            chain(numbers(seed + 1))
        assert torch.equal(kept.cpu(), expected(numbers(0)))


def test_host_and_device_agree(chain: zl.Session) -> None:
    x = numbers(5)
    on_host = chain(x)
    assert on_host.device.type == "cpu"
    assert torch.equal(on_host, chain(x.cuda()).cpu())
    strided = torch.repeat_interleave(x, 2, dim=1).cuda()[:, ::2]
    assert torch.equal(chain(strided).cpu(), expected(x))
    with pytest.raises(zl.InvalidArgument):
        load(small.matmul_chain(LENGTH, SIZE), copy="never")(strided)


def test_out_is_written_in_place(chain: zl.Session) -> None:
    y = torch.empty((64, SIZE), device="cuda:0")
    given = chain.run({"x": numbers(6).cuda()}, out={"y": y})["y"]
    assert given is y
    assert torch.equal(y.cpu(), expected(numbers(6)))


def test_sizes_from_data() -> None:
    nonzero = load(small.nonzero())
    y = nonzero(torch.tensor([0.0, 1, 2, 0, 3], device="cuda:0"))
    assert y.cpu().tolist() == [[1, 2, 4]]


def test_the_stream_of_the_caller() -> None:
    stream = torch.cuda.Stream()
    session = load(
        small.matmul_chain(LENGTH, SIZE),
        providers=[("CUDA", {"user_compute_stream": stream.cuda_stream})],
    )
    with torch.cuda.stream(stream):
        assert torch.equal(session(numbers(7).cuda()).cpu(), expected(numbers(7)))


def test_graphs_see_new_values() -> None:
    session = load(
        small.matmul_chain(LENGTH, SIZE), providers=[("CUDA", {"enable_cuda_graph": True})]
    )
    x = torch.zeros((64, SIZE), device="cuda:0")
    binding = session.bind(x=x)
    for seed in range(10):
        x.copy_(numbers(seed))
        assert torch.equal(binding()["y"].cpu(), expected(numbers(seed)))
        other = numbers(seed + 100).cuda()  # other memory, between the replays
        assert torch.equal(session(other).cpu(), expected(other.cpu()))


def test_empty_and_changing_shapes(chain: zl.Session) -> None:
    for rows in (1, 64, 3, 0, 7):
        x = torch.ones((rows, SIZE), device="cuda:0")
        assert tuple(chain(x).shape) == (rows, SIZE)
