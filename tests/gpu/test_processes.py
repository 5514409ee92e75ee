"""Forked and spawned children, and a process that ends while the GPU still works."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.gpu import engines
from tests.models import small

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(backend: str, tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    engines.build(small.relu(), backend).save(path)
    return path


def run(code: str, file: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which `path` is the engine file and `x` an input."""
    head = f"""
        import os, sys
        import numpy as np
        import zerolane as zl
        path = {str(file)!r}
        x = np.array([[-1, 0, 1, 2]], np.float32)
        want = [[0, 0, 1, 2]]
    """
    text = textwrap.dedent(head) + textwrap.dedent(code)
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", text],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip


def test_a_forked_child_is_told(file: Path) -> None:
    """CUDA does not survive a fork: a typed error in the child, and the parent goes on."""
    done = run(
        """
        session = zl.load(path)
        binding = session.bind()
        binding.inputs["x"][...] = x
        assert (binding()["y"] == want).all()
        pid = os.fork()
        if pid == 0:
            told = 0
            for call in (lambda: session(x), binding, lambda: zl.load(path)):
                try:
                    call()
                except zl.Error as error:
                    told += 1
            del session, binding
            os._exit(0 if told == 3 else 10 + told)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert (session(x) == want).all()
        assert (binding()["y"] == want).all()
        sys.exit(status)
        """,
        file,
    )
    assert done.returncode == 0, done.stderr


def test_a_child_forked_before_the_first_use(file: Path) -> None:
    """Importing and looking makes no context, so a child may be the first to use the GPU."""
    done = run(
        """
        pid = os.fork()
        if pid == 0:
            ok = (zl.load(path)(x) == want).all()
            os._exit(0 if ok else 1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert (zl.load(path)(x) == want).all()
        sys.exit(status)
        """,
        file,
    )
    assert done.returncode == 0, done.stderr


def test_ending_in_the_middle(file: Path) -> None:
    """Threads still call when the interpreter ends: no crash."""
    done = run(
        """
        import threading
        session = zl.load(path)
        def work():
            while True:
                session(x)
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        futures = [session.submit(x) for _ in range(100)]
        """,
        file,
    )
    assert done.returncode == 0, done.stderr


def test_a_spawned_child_unpickles_a_session(file: Path) -> None:
    done = run(
        """
        import pickle, subprocess
        data = pickle.dumps(zl.load(path))
        code = "import sys, pickle, numpy as np; s = pickle.loads(sys.stdin.buffer.read()); "
        code += "assert (s(np.array([[-1, 0, 1, 2]], np.float32)) == [[0, 0, 1, 2]]).all()"
        subprocess.run([sys.executable, "-c", code], input=data, check=True)
        """,
        file,
    )
    assert done.returncode == 0, done.stderr
