"""The core of the backend on other releases of ONNX Runtime.

ZEROLANE_TEST_RELEASES: paths of libonnxruntime.so files, separated by colons. A process uses one
library, so each release runs in a child.
"""

from __future__ import annotations

import os

import pytest

from tests import child

RELEASES = [path for path in os.environ.get("ZEROLANE_TEST_RELEASES", "").split(":") if path]

CODE = """
import asyncio
import numpy as np
import zerolane as zl
from tests.models import small, task_checks

for name in task_checks.TRAINED:
    if name == "text_embed":
        continue
    session = zl.load(f"tests/models/{name}.onnx")
    task_checks.check(name, session.run).require()

s = zl.load(small.relu().SerializeToString())
x = np.array([[-1, 2, -3, 4]], np.float32)
b = s.bind(x)
assert (b()["y"] == np.maximum(x, 0)).all() and (s(x) == np.maximum(x, 0)).all()
assert (s.submit(x).result() == np.maximum(x, 0)).all()
assert (asyncio.run(s.arun(x)) == np.maximum(x, 0)).all()
values = zl.load(small.nonzero().SerializeToString())
for count in (3, 0, 5):
    assert values(np.ones(count, np.float32)).shape[1] == count
vad = zl.load("tests/models/stream_vad.onnx")
try:
    vad(np.ones((0, 256), np.float32), np.zeros((1, 0, 64), np.float32))
    raise SystemExit("no error for an empty batch")
except zl.InvalidArgument:
    pass
print("right")
"""


@pytest.mark.skipif(not RELEASES, reason="ZEROLANE_TEST_RELEASES names no other libraries")
@pytest.mark.parametrize("library", RELEASES or [""])
def test_a_release(library: str) -> None:
    assert child.run(CODE, env={"ZEROLANE_ONNXRUNTIME": library}).startswith("right")
