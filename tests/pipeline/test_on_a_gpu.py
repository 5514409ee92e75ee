"""Pipelines of engines and ops on the stand-ins for TensorRT and CUDA, in a process of their own.

On the stand-in a stream is a thread, and the arrays here are filled late: a stage that is not
ordered behind the filling, or behind the stage before it, finds the numbers from before. Such a
pass proves the logic; no GPU has run a pipeline.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import child
from tests.fakes.tensorrt import libraries
from tests.ops.build import ROOT, compile_ops

pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxruntime", reason="the stand-in computes with ONNX Runtime")
reason = libraries.missing()
pytestmark = pytest.mark.skipif(reason is not None, reason=reason or "")

BEFORE = """
import sys
from tests.fakes.tensorrt import stand_in
stand_in.install("rtx")
import numpy as np
import zerolane as zl
from tests.fakes.cuda import gpu
from tests.models import small
zl.ops.load(sys.argv[1])
X = np.linspace(-1, 1, 8, dtype=np.float32)

def engine(shape=(8,)):
    return zl.load(small.relu(shape).SerializeToString(), backend="tensorrt-rtx")

def late(values):
    return gpu.Array(values, delay_ms=20, before=-9)
"""


@pytest.fixture(scope="module")
def gpu_ops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_ops(
        ROOT / "tests" / "ops" / "cuda_library.cpp",
        tmp_path_factory.mktemp("gpu_ops"),
        *("-std=c++20", f"-I{ROOT / 'cpp'}", "-ldl"),
    )


def run(gpu_ops: Path, body: str) -> None:
    env = {"ZEROLANE_CUDA_LIBRARY": str(libraries.cuda_library())}
    child.run(BEFORE + body, gpu_ops, env=env, timeout=120)


def test_engines_and_an_op_between_them(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
p = zl.Pipeline([engine(), zl.ops.Op("gpu::Above")])
assert p.device == "cuda:0", p
for step in range(4):
    values, places = p(late(X + step / 8))
    assert values.device == places.device == "cuda:0"
    kept = np.maximum(X + step / 8, 0)
    np.testing.assert_array_equal(gpu.take(values), kept[kept > 0])
    np.testing.assert_array_equal(gpu.take(places)[:, 0], np.nonzero(kept > 0)[0])
values, places = p(X)  # from the host to the host
assert isinstance(values, np.ndarray)
np.testing.assert_array_equal(values, X[X > 0])
assert len(p(-X * 0)[0]) == 0
chain = zl.Pipeline([engine(), engine(), engine()])
for step in range(4):
    np.testing.assert_array_equal(
        gpu.take(chain(late(X + step / 8))), np.maximum(X + step / 8, 0)
    )
binding = chain.bind(late(X))
for _ in range(2):
    np.testing.assert_array_equal(gpu.take(binding()["y"]), np.maximum(X, 0))
""",
    )


def test_stages_of_the_host_between_engines(gpu_ops: Path) -> None:
    run(
        gpu_ops,
        """
def minus(y):
    assert isinstance(y, np.ndarray)
    return y - np.float32(0.25)

p = zl.Pipeline([engine(), minus, engine()])
wanted = np.maximum(np.maximum(X, 0) - np.float32(0.25), 0)
np.testing.assert_array_equal(gpu.take(p(late(X))), wanted)
np.testing.assert_array_equal(p(X), wanted)
first = zl.Pipeline([minus, engine(), minus], inputs={"y": "float32"})
wanted = np.maximum(X - np.float32(0.25), 0) - np.float32(0.25)
np.testing.assert_array_equal(gpu.take(first(late(X))), wanted)
np.testing.assert_array_equal(first(X), wanted)
# The stage whose stream the arrays were ordered behind is left out.
two = zl.Pipeline(
    [zl.Stage(engine(), name="a", inputs=["x"]), zl.Stage(engine(), name="b", inputs=["z"])],
    outputs=["a.y", "b.y"],
)
for step in range(4):
    given = {"x": late(X), "z": late(X + step / 8)}
    found = two.run(given, outputs=["b.y"])["b.y"]
    np.testing.assert_array_equal(gpu.take(found), np.maximum(X + step / 8, 0))
try:
    zl.Pipeline([engine(), zl.Stage(zl.ops.Op("gpu::Above"), device="cpu")])
except zl.Unsupported as error:
    assert "no body for that" in str(error), error
else:
    raise AssertionError("an op without a CPU body was put on the host")
""",
    )
