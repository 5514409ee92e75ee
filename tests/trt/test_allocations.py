"""A bound call in its steady state takes no heap memory of ours, with and without a graph.

Counted: calls of the malloc family that come from the native module's own code (its C++ library is
linked in), so not those of the stand-ins, of ONNX Runtime inside them, and of Python.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import child
from tests.trt.conftest import VARIABLE
from tests.trt.engines import Fake

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler `cc` on PATH")

CODE = """
import ctypes, os, sys
import numpy as np
from tests.fakes.tensorrt import libraries, stand_in
family, graphs, form = os.environ["ZEROLANE_TEST_STAND_IN"], int(sys.argv[1]), sys.argv[2]
stand_in.install(family)
import zerolane as zl
from tests.fakes.tensorrt import plan
from tests.models import small
from zerolane import _native

counter = ctypes.CDLL(None)
counter.own_allocations.restype = ctypes.c_long
counter.watch_range.argtypes = [ctypes.c_ulong, ctypes.c_ulong]
own = [l for l in open("/proc/self/maps") if l.rstrip().endswith(_native.__file__)]
ranges = [tuple(int(x, 16) for x in line.split()[0].split("-")) for line in own]
counter.watch_range(min(r[0] for r in ranges), max(r[1] for r in ranges))

found = libraries.FAMILIES[family]
if form == "plugin":
    from tests.ops import build, plugin_models
    zl.ops.load(build.plugin_library())
    model = plugin_models.scale(**plugin_models.ATTRIBUTES)
    engine = zl.Build(model, backend=found.backend, cache=False, isolate=False).run()
else:
    engine = plan.build(
        small.relu((1, 5000)).SerializeToString(), backend=found.backend, version=found.version
    )
session = zl.load(engine, graphs=graphs, gil="hold")
binding = session.bind()
x = np.ones((1, 5000), np.float32)
forms = {"submitted": lambda: session.submit(x).result(), "bind": session.bind}
call = forms.get(form, binding)
def calls(count):
    for _ in range(count):
        call()
calls(200)
before = counter.own_allocations()
calls(1000)
print(counter.own_allocations() - before)
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("preload") / "libown.so"
    source = Path(__file__).with_name("own_allocations.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", str(source), "-o", str(target)], check=True)
    return target


def taken(fake: Fake, preload: Path, graphs: int, form: str) -> int:
    env = {"LD_PRELOAD": str(preload), VARIABLE: fake.family.name}
    return int(child.run(CODE, graphs, form, env=env, timeout=120))


@pytest.mark.parametrize("graphs", [0, 4])
def test_a_bound_call_takes_none(fake: Fake, preload: Path, graphs: int) -> None:
    assert taken(fake, preload, graphs, "bound") == 0


@pytest.mark.parametrize("graphs", [0, 4])
def test_an_op_in_an_engine_takes_none(fake: Fake, preload: Path, graphs: int) -> None:
    assert taken(fake, preload, graphs, "plugin") == 0


def test_submitted_calls_take_none(fake: Fake, preload: Path) -> None:
    """What they need serves again; the lists of what is done grow a few times."""
    assert taken(fake, preload, 4, "submitted") < 20


def test_the_count_can_tell(fake: Fake, preload: Path) -> None:
    assert taken(fake, preload, 4, "bind") >= 1000
