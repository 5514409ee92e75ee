"""Builds in processes that lack what a build takes for granted."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

import zerolane as zl
from tests import child
from tests.build import models

pytestmark = pytest.mark.usefixtures("rtx")

Run = Callable[..., list[str]]

PRELUDE = """
import os, resource, signal, sys, threading
import zerolane as zl

model = sys.argv[1]
with open(model, "rb") as file:
    content = file.read()

def build(given=model, **options):
    options.setdefault("cache", False)
    try:
        engine = zl.build(given, **options)
        return "built" if engine.plan.nbytes > 10_000 else "nothing"
    except zl.Error as error:
        text = str(error)
        return type(error).__name__ if ": " in text and "; " in text else f"shapeless: {text}"
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs code after PRELUDE; what `print` says comes back as words."""
    model = tmp_path / "relu.onnx"
    model.write_bytes(models.relu())

    def words(code: str, **env: str) -> list[str]:
        return child.run(PRELUDE + textwrap.dedent(code), model, env=env, timeout=60).split()

    return words


def test_closed_standard_streams(run: Run) -> None:
    """The first files then opened have the numbers of the standard streams."""
    code = """
    out = os.dup(1)
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    said = [build(isolate=isolate) for isolate in (True, False, True)]
    said += [build(content), build(progress=True)]
    os.write(out, " ".join(said).encode())
    os._exit(0)
    """
    assert run(code) == ["built"] * 5


def test_no_standard_streams_in_python(run: Run) -> None:
    code = """
    out, sys.stdin, sys.stdout, sys.stderr = sys.stdout, None, None, None
    print(build(progress=True), build(isolate=False, progress=True), file=out)
    """
    assert run(code) == ["built", "built"]


def test_a_current_folder_that_is_gone(run: Run) -> None:
    code = """
    gone = model + ".folder"
    os.mkdir(gone)
    os.chdir(gone)
    os.rmdir(gone)
    print(build(), build(isolate=False), build(content), build(cache=model + ".cache"))
    print(build("model.onnx"), build(content, folder="."), build(cache="cache"))
    engine = zl.build(model, cache=False)
    try:
        engine.save("model.engine")
    except zl.NotFound:
        print("refused")
    engine.save(model + ".engine")
    """
    assert run(code) == ["built"] * 4 + ["NotFound"] * 3 + ["refused"]


def test_no_folder_for_temporary_files(run: Run) -> None:
    assert run("print(build(), build(isolate=False))", TMPDIR="/nonexistent") == ["built", "built"]


def test_few_descriptors(run: Run) -> None:
    """Whatever number is left: built or refused, nothing leaked, and in process still fine."""
    code = """
    build()
    before = len(os.listdir("/proc/self/fd"))
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for limit in range(4, 26):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
        print(build(content))
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        assert len(os.listdir("/proc/self/fd")) == before, limit
    print(build())
    """
    said = run(code)
    assert set(said) == {"Unavailable", "built"}
    assert said == sorted(said), "too few first, then enough"


def test_files_that_may_not_grow(run: Run) -> None:
    code = """
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    most = resource.RLIM_INFINITY
    for limit in (1000, 20_000, most):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        print(build(content), build(content, isolate=False))
    """
    assert run(code) == ["Unavailable", "built", "OutOfMemory", "built", "built", "built"]


def test_a_python_that_is_not_there(run: Run) -> None:
    code = """
    for path in ("/nonexistent/python", model, ""):
        sys.executable = path
        print(build())
    """
    assert run(code) == ["Unavailable"] * 3


@pytest.mark.parametrize("answer", ["signal.SIG_IGN", "reap"])
def test_children_that_somebody_else_reaps(run: Run, answer: str) -> None:
    code = f"""
    def reap(number, frame):
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            pass

    signal.signal(signal.SIGCHLD, {answer})
    print(build(), build(content), build(timeout_s=1e-6), build())
    """
    assert run(code) == ["built", "built", "DeadlineExceeded", "built"]


def test_many_builds_at_once(run: Run) -> None:
    code = """
    said = []

    def work(number):
        for turn in range(3):
            said.append(build(isolate=(number + turn) % 2 == 0))

    build()
    before = len(os.listdir("/proc/self/fd"))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(os.listdir("/proc/self/fd")) == before
    print(*said)
    """
    assert run(code) == ["built"] * 24


def test_after_a_fork(run: Run) -> None:
    """The library was opened before, and its threads did not come along."""
    code = """
    print(build(isolate=False), flush=True)
    pid = os.fork()
    if pid == 0:
        print(build(), build(isolate=False), flush=True)
        os._exit(0)
    print(os.waitpid(pid, 0)[1])
    """
    assert run(code) == ["built", "built", "built", "0"]


def test_interrupt_while_a_thread_builds(run: Run) -> None:
    """Ctrl-C is the main thread's; the build goes on."""
    code = """
    for isolate in (True, False):
        reached, go = threading.Event(), threading.Event()

        def tell(done, doing):
            reached.set()
            go.wait(20)

        def work():
            print(build(isolate=isolate, progress=tell))

        thread = threading.Thread(target=work)
        thread.start()
        try:
            reached.wait(20)
            os.kill(os.getpid(), signal.SIGINT)
            reached.wait(20)
            while True:
                pass
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        go.set()
        thread.join()
    """
    assert run(code) == ["interrupted", "built"] * 2


@pytest.mark.parametrize(
    "name",
    [
        "a b",
        "ä文.onnx",
        "-x.onnx",
        "a\nb.onnx",
        "q\"uote'.onnx",
        "%s{}.onnx",
        b"\xff.onnx",
        "x" * 250,
    ],
    ids=ascii,
)
def test_unusual_names(name: str | bytes, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), os.fsencode(name))))
    path.write_bytes(models.relu())
    for isolate in (True, False):
        engine = zl.build(path, cache=False, isolate=isolate)
        saved = tmp_path / "saved.engine"
        engine.save(saved)
        assert zl.Engine.read(saved).manifest == engine.manifest
    job = zl.Build(path)
    job.run()
    again = zl.Build(path)
    again.run()
    assert (job.from_cache, again.from_cache) == (False, True)


def test_a_path_with_a_link_and_dots(tmp_path: Path) -> None:
    """`link/..` is not the folder that the link lies in."""
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "near").mkdir()
    (tmp_path / "near" / "link").symlink_to(tmp_path / "far" / "inner")
    (tmp_path / "far" / "model.onnx").write_bytes(models.relu(7))
    (tmp_path / "near" / "model.onnx").write_bytes(models.relu(2))
    engine = zl.build(tmp_path / "near" / "link" / ".." / "model.onnx", cache=False)
    assert engine.manifest.inputs[0].shape == (7, 3)
