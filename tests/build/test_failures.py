"""Crashes, hangs, cancelling, dying parents: the caller goes on, and nothing is left behind."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zerolane as zl
from tests import child
from tests.build import models
from tests.python.messages import assert_three_parts

BUILD = """
import sys, zerolane as zl
try:
    zl.build(sys.argv[1], cache=False)
except KeyboardInterrupt:
    print("interrupted")
"""


def wait_until(true: Callable[[], object], what: str, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.01)


def children() -> set[str]:
    """Process ids of this process's children."""
    task = Path("/proc/self/task")
    return {pid for t in task.iterdir() for pid in (t / "children").read_text().split()}


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.fixture(autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No child process, descriptor or temporary file outlives a build."""
    gc.collect()
    own = children()
    descriptors = set(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    assert children() <= own
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    for folder in ("/tmp", "/dev/shm"):
        with contextlib.suppress(FileNotFoundError):
            mine = [n for n in os.listdir(folder) if n.startswith("zerolane-")]
            assert mine == []


@pytest.fixture
def bad(bad_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes the stand-in library the one to use; returns the file that says it was reached."""

    def use(how: str) -> Path:
        started = tmp_path / "started"
        monkeypatch.setenv("ZEROLANE_TENSORRT_RTX", str(bad_library))
        monkeypatch.setenv("BAD_BUILDER", how)
        monkeypatch.setenv("BAD_BUILDER_STARTED", str(started))
        return started

    return use


@pytest.mark.parametrize(
    ("how", "found"),
    [
        ("abort", "SIGABRT"),
        ("segv", "SIGSEGV"),
        ("exit", "exit code 7"),
        ("noise", "saying 'much ado about nothing'"),
    ],
)
def test_a_crash_is_an_error(how: str, found: str, bad: Callable[..., Path]) -> None:
    bad(how)
    for _ in range(2):
        with pytest.raises(zl.BackendCrashed, match=found) as caught:
            zl.build(models.relu(), cache=False)
        assert_three_parts(str(caught.value))
        assert caught.value.subject == "making a builder"


def test_a_killed_child_is_named_as_such(bad: Callable[..., Path]) -> None:
    bad("kill")
    with pytest.raises(zl.OutOfMemory, match="killed while making a builder") as caught:
        zl.build(models.relu(), cache=False)
    assert_three_parts(str(caught.value))


def test_a_builder_that_cannot_be_made(bad: Callable[..., Path]) -> None:
    bad("none")
    with pytest.raises(zl.BackendError, match="making a builder") as caught:
        zl.build(models.relu(), cache=False)
    assert_three_parts(str(caught.value))


def test_a_crash_of_the_real_parser_names_the_node(rtx: str) -> None:
    if rtx != "1.7.1":
        pytest.skip(f"release {rtx} may be sound; the model ends the parser of 1.7.1")
    with pytest.raises(zl.BackendCrashed, match=r"while reading node the_bad_one \[TopK\]"):
        zl.build(models.crashing(), cache=False)
    assert zl.build(models.relu(), cache=False).plan.nbytes > 10_000


def test_cancel(bad: Callable[..., Path]) -> None:
    started = bad("hang")
    job = zl.Build(models.relu(), cache=False)
    seen: list[float] = []

    def cancel() -> None:
        wait_until(started.exists, "the child's start")
        seen.append(time.monotonic())
        job.cancel()
        job.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(zl.Cancelled):
        job.run()
    thread.join()
    assert time.monotonic() - seen[0] < 3
    assert not is_alive(int(started.read_text()))
    with pytest.raises(zl.Cancelled):
        job.run()


def test_cancel_in_a_signal_handler(bad: Callable[..., Path]) -> None:
    """Wherever the thread is that builds: the handler runs on top of it."""
    started = bad("hang")
    job = zl.Build(models.relu(), cache=False)
    before = signal.signal(signal.SIGALRM, lambda number, frame: job.cancel())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        with pytest.raises(zl.Cancelled):
            job.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if started.exists() and started.read_text():
        assert not is_alive(int(started.read_text()))


@pytest.mark.parametrize("isolate", [True, False])
def test_cancel_a_real_build(isolate: bool, rtx: str) -> None:
    job = zl.Build(
        models.light_path("light_resnet50"),
        cache=False,
        isolate=isolate,
        progress=lambda done, doing: job.cancel(),
    )
    with pytest.raises(zl.Cancelled):
        job.run()


def test_timeout(bad: Callable[..., Path]) -> None:
    started = bad("hang")
    with pytest.raises(zl.DeadlineExceeded) as caught:
        zl.build(models.relu(), cache=False, timeout_s=1.5)
    assert_three_parts(str(caught.value))
    if started.exists() and started.read_text():  # a busy machine may not have come so far
        assert not is_alive(int(started.read_text()))


def test_waiting_for_another_build_is_told_and_ends(
    bad: Callable[..., Path], tmp_path: Path
) -> None:
    started = bad("hang")
    folder = tmp_path / "cache"
    first = zl.Build(models.relu(), cache=folder)
    ended: list[BaseException] = []

    def run() -> None:
        try:
            first.run()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: started.exists() and started.read_text(), "the child's start")
    told: list[str] = []
    with pytest.raises(zl.DeadlineExceeded, match=f"process {os.getpid()}") as caught:
        zl.build(
            models.relu(),
            cache=folder,
            timeout_s=0.5,
            progress=lambda done, doing: told.append(doing),
        )
    assert_three_parts(str(caught.value))
    assert told[0].startswith(f"waiting for process {os.getpid()}")
    waiting = zl.Build(models.relu(), cache=folder, progress=lambda done, doing: waiting.cancel())
    with pytest.raises(zl.Cancelled):
        waiting.run()
    first.cancel()
    thread.join()
    assert [type(error) for error in ended] == [zl.Cancelled]


def test_a_timing_cache_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It comes last: the engine must not be lost for it."""
    from zerolane.builder.build import _write_timing_cache

    _write_timing_cache(tmp_path / "nowhere" / "x.cache", b"timings")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert_three_parts(record.getMessage())
    _write_timing_cache(tmp_path / "x.cache", b"timings")
    assert (tmp_path / "x.cache").read_bytes() == b"timings"


def test_interrupt(bad: Callable[..., Path], tmp_path: Path) -> None:
    """Ctrl-C reaches the whole group; the child leaves the answer to its parent."""
    started = bad("hang")
    (tmp_path / "model.onnx").write_bytes(models.relu())
    process = child.start(BUILD, tmp_path / "model.onnx")
    wait_until(lambda: started.exists() and started.read_text(), "the child's start")
    os.killpg(process.pid, signal.SIGINT)
    out, errors = process.communicate(timeout=20)
    assert (out, errors) == ("interrupted\n", "")
    assert not is_alive(int(started.read_text()))


def test_interrupt_in_process(rtx: str, tmp_path: Path) -> None:
    code = """
    import os, signal, sys, zerolane as zl
    try:
        zl.build(sys.argv[1], cache=False, isolate=False,
                 progress=lambda done, doing: os.kill(os.getpid(), signal.SIGINT))
    except KeyboardInterrupt:
        print("interrupted")
    """
    assert child.run(code, models.light_path("light_resnet50")) == "interrupted\n"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_with_its_parent(
    number: signal.Signals, bad: Callable[..., Path], tmp_path: Path
) -> None:
    started = bad("hang")
    (tmp_path / "model.onnx").write_bytes(models.relu())
    process = child.start(BUILD, tmp_path / "model.onnx")
    wait_until(lambda: started.exists() and started.read_text(), "the child's start")
    pid = int(started.read_text())
    assert is_alive(pid)
    process.send_signal(number)
    process.communicate(timeout=20)
    wait_until(lambda: not is_alive(pid), "the child's end")


def test_a_fork_meanwhile_does_not_hang(rtx: str) -> None:
    """A process forked during a build inherits its pipes, and must not keep it waiting."""
    code = """
    import os, sys, time, zerolane as zl

    forked = []

    def tell(done, doing):
        if not forked:
            pid = os.fork()
            if pid == 0:
                time.sleep(30)
                os._exit(0)
            forked.append(pid)

    engine = zl.build(sys.argv[1], cache=False, progress=tell)
    os.kill(forked[0], 9)
    os.waitpid(forked[0], 0)
    print(engine.plan.nbytes > 1000)
    """
    path = models.light_path("light_squeezenet")
    assert child.run(code, path, timeout=25) == "True\n"


def test_builds_on_several_threads(rtx: str) -> None:
    failed: list[BaseException] = []

    def run() -> None:
        try:
            zl.build(models.relu(), cache=False)
            with pytest.raises(zl.UnsupportedGraph):
                zl.build(models.two_refused(), cache=False)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []


def test_memory_comes_back(rtx: str) -> None:
    """What the library maps and keeps stays in the child."""
    code = """
    import sys, zerolane as zl

    def resident():
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))

    engine = zl.build(sys.argv[1], cache=False)
    before = resident()
    for _ in range(5):
        engine = zl.build(sys.argv[1], cache=False)
    with open("/proc/self/maps") as file:
        assert "tensorrt" not in file.read()
    print(resident() - before)
    """
    grown = int(child.run(code, models.light_path("light_squeezenet"), timeout=60))
    assert grown < 4096, f"{grown} KiB more after five builds"


@pytest.mark.parametrize("isolate", [True, False])
def test_refused_nodes_are_all_told(isolate: bool, rtx: str) -> None:
    with pytest.raises(zl.UnsupportedGraph) as caught:
        zl.build(models.two_refused(), cache=False, isolate=isolate)
    error = caught.value
    assert_three_parts(str(error))
    assert isinstance(error, zl.Unsupported)
    told = [(node.index, node.name, node.op_type) for node in error.report.nodes]
    assert told == [(1, "bad_det", "Det"), (4, "bad_unique", "Unique")]
    assert all(node.reason for node in error.report.nodes)
    assert error.report.largest_part == (2, 3)
    assert error.report.node_count == 6
    for part in ("bad_det", "bad_unique", "2 of 6 nodes", "middle_1", "middle_2"):
        assert part in str(error)
    assert error.subject == "bad_det"


@pytest.mark.parametrize("isolate", [True, False])
def test_a_graph_that_is_wrong(isolate: bool, rtx: str) -> None:
    import onnx

    node = onnx.helper.make_node("MatMul", ["x", "z"], ["y"], name="product")
    inputs = [models.tensor("x", [2, 3]), models.tensor("z", [5, 7])]
    made = models.model([node], inputs, [models.tensor("y", [2, 7])]).SerializeToString()
    with pytest.raises(zl.InvalidModel, match="input0 = 3") as caught:
        zl.build(made, cache=False, isolate=isolate)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "product"
    assert "cudaError" not in str(caught.value), "the missing driver is not the cause"


@pytest.mark.parametrize("op_type", ["Reshape", "Expand", "ConstantOfShape"])
@pytest.mark.parametrize("isolate", [True, False])
def test_an_input_that_decides_a_shape(op_type: str, isolate: bool, rtx: str) -> None:
    """The library's own words would be that there is no profile."""
    import onnx

    inputs = [models.tensor("size", [2], onnx.TensorProto.INT64)]
    if op_type != "ConstantOfShape":
        inputs.insert(0, models.tensor("x", [1, 6]))
    node = onnx.helper.make_node(op_type, [v.name for v in inputs], ["y"], name="only")
    made = models.model([node], inputs, [models.tensor("y", ["a", "b"])]).SerializeToString()
    with pytest.raises(zl.Unsupported, match="values of input 'size'") as caught:
        zl.build(made, cache=False, isolate=isolate)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == "size"
