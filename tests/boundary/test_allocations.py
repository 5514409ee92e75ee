"""A bound call in its steady state takes no heap memory beyond what ONNX Runtime takes for the run.

Counted with bench's preloaded library, Python's own allocator switched off, against the same number
of bare RunWithBinding calls in C (`bench/cpp/ort_loop.c`).
"""

from __future__ import annotations

import json
import shutil

import pytest

from tests import child

native = pytest.importorskip("bench.native", reason="bench/ holds the counting library")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on PATH")

CALLS = 5000


def per_call(driver: str, form: str, model: str) -> float:
    """Heap blocks taken a call by the whole process: the difference of 2N and N calls."""
    code = f"""
    from bench.python import counted
    counted.main({driver!r}, {form!r}, {model!r}, 1, {CALLS})
    """
    env = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    once, twice = json.loads(child.run(code, env=env, timeout=120))
    return float(twice - once) / CALLS


@pytest.fixture(scope="module")
def model() -> str:
    from bench import models, settings

    return str(models.one_operator(settings.BUILD_FOLDER / "models").path.resolve())


def test_a_bound_call_takes_none_of_its_own(model: str) -> None:
    floor = per_call("c", "loop", model)
    assert per_call("zerolane", "bound", model) <= floor + 0.001


def test_the_count_can_tell(model: str) -> None:
    """A call with a fresh output takes some, so the counter counts."""
    assert per_call("zerolane", "call", model) > per_call("zerolane", "bound", model)


@pytest.mark.parametrize("gil", ["auto", "hold", "release"])
@pytest.mark.parametrize("size", [4, 10_000])
def test_bound_calls_of_other_sizes(size: int, gil: str) -> None:
    """N more bound calls take exactly N times what one takes, and that is what the floor takes."""
    code = f"""
    import ctypes, json
    import numpy as np
    import zerolane as zl
    from itertools import repeat
    from tests.models import small
    taken = ctypes.CDLL(None).allocations_taken
    taken.restype = ctypes.c_long
    binding = zl.load(small.relu((1, {size})).SerializeToString(), threads=1).bind(gil={gil!r})
    def calls(count):
        for _ in repeat(None, count):
            binding()
    calls(3000)
    marks = [taken()]
    for count in (2000, 4000):
        calls(count)
        marks.append(taken())
    print(json.dumps([marks[1] - marks[0], marks[2] - marks[1]]))
    """
    env = {"LD_PRELOAD": str(native.allocation_counter()), "PYTHONMALLOC": "malloc"}
    once, twice = json.loads(child.run(code, env=env, timeout=120))
    from bench import models, settings

    one = str(models.one_operator(settings.BUILD_FOLDER / "models").path.resolve())
    assert (twice - once) / 2000 <= per_call("c", "loop", one) + 0.01
