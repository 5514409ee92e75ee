"""Whether engines of a backend run on this GPU, found out by the smallest one in another process.

On a GPU that a library was not made for, it may do anything: that must not be the end of the tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Compute capabilities that TensorRT-RTX is made for; on others it may refuse.
RTX_CAPABILITIES = {(7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1)}
TIME_LIMIT_S = 240


@dataclass(frozen=True)
class Found:
    """`ran`: it computed the right thing. Else `error` is the typed error's name, "" for none."""

    ran: bool
    error: str
    message: str
    meant: bool
    """Whether the library is made for this GPU, as far as is known."""

    @property
    def clean(self) -> bool:
        """It ran, or was refused in the way that a caller can handle."""
        return self.ran or self.error != ""


@cache
def probe(backend: str) -> Found:
    command = [sys.executable, "-X", "faulthandler", "-m", "tests.gpu.probe", backend]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return Found(False, "", f"it did not end within {TIME_LIMIT_S} s", False)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            return Found(**json.loads(line))
    told = " ".join(done.stderr.split())[-600:]
    return Found(False, "", f"the process ended with {done.returncode}: {told}", False)


def _try(backend: str) -> Found:
    import numpy as np

    import zerolane as zl
    from tests.gpu import engines
    from tests.models import small

    meant = backend != "tensorrt-rtx" or engines.capability() in RTX_CAPABILITIES
    try:
        session = engines.load(engines.build(small.relu(), backend))
        y = np.asarray(session(np.array([[-1, 0, 1, 2]], np.float32)))
    except zl.Error as error:
        return Found(False, type(error).__name__, str(error), meant)
    right = np.array_equal(y, [[0, 0, 1, 2]])
    return Found(right, "", "" if right else f"it computed {y}", meant)


if __name__ == "__main__":
    print("\n" + json.dumps(asdict(_try(sys.argv[1]))), flush=True)
