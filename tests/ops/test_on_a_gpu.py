"""Direct calls on arrays of a GPU, on the stand-in for CUDA: order, memory, sizes from data.

A process of its own for each test: the library of CUDA is opened once a process. Such a pass
proves the logic; tests/gpu is for the hardware.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import child
from tests.fakes.tensorrt import libraries
from tests.ops.build import ROOT, compile_ops, ops_library

reason = libraries.missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

BEFORE = """
import sys
import numpy as np
import zerolane as zl
from tests.fakes.cuda import gpu
zl.ops.load(sys.argv[1])
zl.ops.load(sys.argv[2])

def fails(error, part, call):
    try:
        call()
    except error as caught:
        assert part in str(caught), caught
    else:
        raise AssertionError(f"{part!r} was not raised")
"""


@pytest.fixture(scope="module")
def gpu_ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_ops(
        Path(__file__).with_name("cuda_library.cpp"),
        tmp_path_factory.mktemp("gpu_ops"),
        *("-std=c++20", f"-I{ROOT / 'cpp'}", "-ldl"),
    )


def run(gpu_ops: Path, body: str) -> None:
    env = {"ZEROLANE_CUDA_LIBRARY": str(libraries.cuda_library())}
    child.run(BEFORE + body, gpu_ops, ops_library(), env=env, timeout=60)


def test_arrays_on_the_gpu_stay_there(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
op = zl.ops.Op("gpu::Lookup", table=[1.0, 3.0, 9.0])
for dtype in (np.int32, np.int64):
    for count in (0, 1, 7, 5000):
        index = np.arange(count, dtype=dtype)
        x = gpu.Array(index, delay_ms=20, before=-1)  # filled late: the call waits in its order
        y = op(x)
        assert y.device == "cuda:0", y.device
        np.testing.assert_array_equal(gpu.take(y), np.float32([1, 3, 9])[index % 3])
assert zl.ops.call("gpu::Lookup", gpu.Interface(gpu.Array(np.arange(3)))).shape == (3,)
""",
    )


def test_sizes_that_data_decides(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
op = zl.ops.Op("gpu::Above")
for count in (0, 1, 9, 1000):
    x = np.random.default_rng(count).normal(size=count).astype(np.float32)
    values, places = op(gpu.Array(x, delay_ms=20))
    np.testing.assert_array_equal(gpu.take(values), x[x > 0])
    np.testing.assert_array_equal(gpu.take(places)[:, 1], np.nonzero(x > 0)[0])
""",
    )


def test_threads_share_an_op(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
import threading
op = zl.ops.Op("gpu::Lookup", table=[1.0, 3.0, 9.0])
wrong = []

def work(seed):
    index = np.random.default_rng(seed).integers(0, 3, 50 + seed)
    for _ in range(40):
        y = gpu.take(op(gpu.Array(index, delay_ms=1, before=-1)))
        if not (y == np.float32([1, 3, 9])[index]).all():
            wrong.append(seed)

threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert wrong == []
""",
    )


def test_what_cannot_be_done_is_told(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
x = gpu.Array(np.zeros(3, np.float32))
fails(zl.Unsupported, "has no CUDA body", lambda: zl.ops.Op("test::Scale", version=1)(x))
fails(zl.Unsupported, "has a CUDA body alone", lambda: zl.ops.Op("gpu::Broken")(np.zeros(3, "f4")))
fails(zl.DeviceError, "returned status 98", lambda: zl.ops.Op("gpu::Broken")(x))
add = zl.ops.Op("test::AddAll")
fails(zl.DeviceError, "input 1 lies on cpu", lambda: add(x, np.zeros(3, np.float32)))
""",
    )
