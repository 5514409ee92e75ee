"""The contract suite and tests/trt on the stand-ins for TensorRT, a process for each family.

Such a pass proves that the logic of the run path is right, and that it calls the interface by its
rules. No GPU takes part: tests/gpu is for that.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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


Suites = dict[str, Future[subprocess.CompletedProcess[str]]]


@pytest.fixture(scope="module")
def suites(request: pytest.FixtureRequest) -> Iterator[Suites]:
    """The suites of all families that were asked for, as many at once as there are CPUs."""
    asked = [
        item.callspec.params["family"]
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.function is test_contract
    ]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        yield {family: pool.submit(run, family) for family in asked}


def run(family: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rf"]
    if family == ONNXRUNTIME_CUDA[1]:  # what differs from the other
        command += [str(HERE / f"test_{name}.py") for name in ("device_arrays", "onnxruntime_cuda")]
    else:
        command.append(str(HERE))
    if family in libraries.FAMILIES:
        command.append(str(HERE.parent / "trt"))
    return subprocess.run(
        command,
        cwd=libraries.ROOT,
        env={**os.environ, VARIABLE: family},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("family", [*libraries.FAMILIES, *ONNXRUNTIME_CUDA])
def test_contract(family: str, suites: Suites) -> None:
    done = suites[family].result()
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-5000:]
