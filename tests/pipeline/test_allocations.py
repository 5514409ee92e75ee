"""Bound pipelines in their steady state take no heap memory of their own.

Counted with bench's preloaded library, Python's own allocator switched off: what a pipeline takes
is what its models take by themselves.
"""

from __future__ import annotations

import json
import shutil

import pytest

from tests import child

pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxruntime", reason="models run in ONNX Runtime")
native = pytest.importorskip("bench.native", reason="bench/ holds the counting library")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on PATH")

CALLS = 2000
MAKE = {
    "ops": "zl.Pipeline([zl.ops.ScaledGelu()] * 3).bind(np.ones(SIZE, np.float32))",
    "sessions": "zl.Pipeline([relu, relu, relu]).bind(np.ones((1, SIZE), np.float32))",
    "mixed": "zl.Pipeline([relu, zl.ops.ScaledGelu(), zl.Pipeline([relu, zl.ops.ScaledGelu()])])"
    ".bind(np.ones((1, SIZE), np.float32))",
    "branches": "zl.Pipeline([zl.Stage(relu, name='a', inputs=['x']),"
    " zl.Stage(zl.ops.ScaledGelu(), name='b', inputs=['a.y']),"
    " zl.Stage(relu, name='c', inputs=['a.y'])], outputs=['b.y', 'c.y'])"
    ".bind(np.ones((1, SIZE), np.float32))",
    "one session": "relu.bind(np.ones((1, SIZE), np.float32))",
    "grown": "zl.Pipeline([relu, lambda y: y + 1]).bind(np.ones((1, SIZE), np.float32))",
}
MODELS = {"ops": 0, "sessions": 3, "mixed": 2, "branches": 2}


def per_call(what: str, size: int, gil: str = "auto") -> float:
    """Heap blocks that one call takes in the whole process: the difference of 2N and N calls."""
    code = f"""
    import ctypes, json
    import numpy as np
    import zerolane as zl
    from itertools import repeat
    from tests.models import small
    taken = ctypes.CDLL(None).allocations_taken
    taken.restype = ctypes.c_long
    SIZE = {size}
    relu = zl.load(small.relu((1, "N")).SerializeToString(), threads=1, gil={gil!r})
    binding = {MAKE[what]}
    def calls(count):
        for _ in repeat(None, count):
            binding()
    calls({CALLS})
    marks = [taken()]
    for count in ({CALLS}, {2 * CALLS}):
        calls(count)
        marks.append(taken())
    print(json.dumps([marks[1] - marks[0], marks[2] - marks[1]]))
    """
    env = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    once, twice = json.loads(child.run(code, env=env, timeout=180))
    return float(twice - once) / CALLS


@pytest.mark.parametrize("size", [3, 10_000])
@pytest.mark.parametrize("what", MODELS)
def test_none_beyond_those_of_its_models(what: str, size: int) -> None:
    alone = per_call("one session", size)
    assert per_call(what, size) <= MODELS[what] * alone + 0.01


def test_the_count_can_tell() -> None:
    """A Python stage makes arrays, so the counter counts."""
    assert per_call("grown", 3) > per_call("one session", 3) + 1
