"""Memory that a binding on a GPU makes itself: pinned, copied from and to without a second copy."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.fakes.cuda import gpu
from tests.fakes.tensorrt import libraries
from tests.models import small
from zerolane import _native

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
CALLS = 12
Load = Callable[..., zl.Session]


@pytest.fixture(autouse=True)
def on_a_gpu(backend: Backend) -> None:
    if not backend.device.startswith("cuda"):
        pytest.skip("this row runs on the host; the rows on a device are started by test_stand_ins")


def address(array: Any) -> int:
    return int(array.ctypes.data)


def pinned_buffers() -> int:
    gc.collect()
    return int(_native.cuda_memory(0)["pinned"]["buffers"])


def test_copies_go_to_and_from_the_arrays(load: Load, tmp_path: Path) -> None:
    before = pinned_buffers()
    binding = load(small.relu((2, 4))).bind(x=(2, 4))
    x, y = binding.inputs["x"], binding.outputs["y"]
    assert gpu.is_pinned(address(x))
    assert gpu.is_pinned(address(y))
    assert not gpu.is_pinned(address(X))
    assert (x == 0).all()
    assert pinned_buffers() == before + 2  # the arrays, and no staging
    cuda = libraries.cuda()
    names = ("copies_to_device", "copies_to_host", "copies_on_host", "copies_on_device")
    counts = {name: cuda[name] for name in names}
    of_arrays = cuda.copies_of(address(x)), cuda.copies_of(address(y))
    with zl.trace(tmp_path / "t.json"):
        for step in range(CALLS):
            x[...] = X + step
            np.testing.assert_array_equal(binding()["y"], np.maximum(X + step, 0))
    assert (cuda.copies_of(address(x)), cuda.copies_of(address(y))) == (
        of_arrays[0] + CALLS,
        of_arrays[1] + CALLS,
    )
    assert {name: cuda[name] - counts[name] for name in names} == {
        "copies_to_device": CALLS,
        "copies_to_host": CALLS,
        "copies_on_host": 0,
        "copies_on_device": 0,
    }
    spans = [
        event["name"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    ]
    assert "run" in spans
    assert "copy" not in spans  # each copy by the processor has one


def test_arrays_of_the_caller_are_staged_unless_pinned(load: Load, tmp_path: Path) -> None:
    binding = load(small.relu((2, 4))).bind(x=X.copy(), out={"y": np.empty_like(X)})
    x, y = binding.inputs["x"], binding.outputs["y"]
    cuda = libraries.cuda()
    copies = cuda.copies_of(address(x)), cuda.copies_of(address(y))
    with zl.trace(tmp_path / "t.json"):
        np.testing.assert_array_equal(binding()["y"], np.maximum(X, 0))
    assert (cuda.copies_of(address(x)), cuda.copies_of(address(y))) == copies
    spans = [
        event["name"] for event in json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    ]
    assert spans.count("copy") == 2
    # The arrays of one binding serve another as they are.
    session = load(small.relu((2, 4)))
    first = session.bind(x=(2, 4))
    second = session.bind(x=first.inputs["x"], out={"y": first.outputs["y"]})
    shared = address(first.inputs["x"])
    before = cuda.copies_of(shared)
    first.inputs["x"][...] = X
    np.testing.assert_array_equal(second()["y"], np.maximum(X, 0))
    assert cuda.copies_of(shared) == before + 1


def test_the_memory_lives_as_long_as_an_array_over_it(load: Load) -> None:
    session = load(small.relu((2, 4)))
    before = pinned_buffers()
    binding = session.bind(x=(2, 4))
    binding.inputs["x"][...] = X
    row = binding()["y"][1:]
    del binding
    assert pinned_buffers() == before + 1
    others = [session.bind(x=(2, 4)) for _ in range(4)]
    for other in others:
        other.inputs["x"][...] = 9
        other()
    np.testing.assert_array_equal(row, np.maximum(X, 0)[1:])
    del row, others, other
    assert pinned_buffers() == before


def test_calls_and_bindings_take_turns(load: Load) -> None:
    """Staging and direct copies of one session do not mix up."""
    session = load(small.dynamic_dims())
    binding = session.bind(x=(3, 2, 3))
    for step in range(6):
        x = np.full((1 + step % 4, 2, 3), step, np.float32)
        binding.inputs["x"][...] = step + 0.5
        np.testing.assert_array_equal(session(x), 2 * x)
        np.testing.assert_array_equal(binding()["y"], np.full((3, 2, 3), 2 * step + 1, np.float32))


def test_no_memory_can_be_pinned(load: Load) -> None:
    session = load(small.relu((2, 400, 1000)))
    cuda = libraries.cuda()
    cuda.fail("host_allocate", cuda.OUT_OF_MEMORY, times=1000)
    try:
        with pytest.raises(zl.OutOfMemory):
            session.bind(x=(2, 400, 1000))
    finally:
        cuda.heal()
    binding = session.bind(x=(2, 400, 1000))
    binding.inputs["x"][...] = 5
    assert (binding()["y"] == 5).all()


def test_memory_is_given_back(load: Load) -> None:
    """`trim_pool` covers what is cached on the device and pinned; bindings in use stay usable."""
    session = load(small.relu((512, 512)))
    kept = session.bind(x=(512, 512))
    kept.inputs["x"][...] = 1
    kept()
    bindings = [session.bind(x=(512, 512)) for _ in range(4)]
    big = session(gpu.Array(np.ones((512, 512), np.float32)))
    for binding in bindings:
        binding()
    del bindings, binding, big
    gc.collect()
    cached = _native.pool_stats()["devices"]["cuda:0"]
    assert cached["tensors"]["bytes_cached"] > 0
    assert cached["pinned"]["bytes_cached"] > 0
    cuda = libraries.cuda()
    free, pinned = cached["free_bytes"], cuda["live_pinned_blocks"]
    _native.trim_pool()
    stats = _native.pool_stats()
    assert stats["bytes_cached"] == 0
    for pool in ("device", "tensors", "pinned"):
        assert stats["devices"]["cuda:0"][pool]["bytes_cached"] == 0
    assert stats["devices"]["cuda:0"]["free_bytes"] >= free + (1 << 20)
    assert cuda["live_pinned_blocks"] <= pinned - 8
    for step in range(4):
        kept.inputs["x"][...] = step
        assert (kept()["y"] == step).all()
        _native.trim_pool()
