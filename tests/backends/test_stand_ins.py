"""The contract suite and tests/trt on the stand-ins for TensorRT, a process for each family.

Such a pass proves that the logic of the run path is right, and that it calls the interface by its
rules. No GPU takes part: tests/gpu is for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backends.backends import ONNXRUNTIME_CUDA, VARIABLE
from tests.fakes.tensorrt import libraries

HERE = Path(__file__).parent
reason = libraries.missing()
pytestmark = [
    pytest.mark.skipif(reason is not None, reason=reason or ""),
    pytest.mark.skipif(VARIABLE in os.environ, reason="this process has a stand-in already"),
]


@pytest.mark.parametrize("family", [*libraries.FAMILIES, *ONNXRUNTIME_CUDA])
def test_contract(family: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf"]
    if family == ONNXRUNTIME_CUDA[1]:  # what differs from the other
        command += [str(HERE / f"test_{name}.py") for name in ("device_arrays", "onnxruntime_cuda")]
    else:
        command.append(str(HERE))
    if family in libraries.FAMILIES:
        command.append(str(HERE.parent / "trt"))
    done = subprocess.run(
        command,
        cwd=libraries.ROOT,
        env={**os.environ, VARIABLE: family},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
