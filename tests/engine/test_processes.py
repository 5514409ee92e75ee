"""The cache among processes: one builds, killed ones leave nothing torn, disks are full."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest

from tests import child
from tests.engine.engines import engine, manifest, plan
from zerolane.engine import Cache, read

ASKING = """
import os, sys, time
from pathlib import Path
from tests.engine.engines import engine, manifest
from zerolane.engine import Cache

folder, go = Path(sys.argv[1]), Path(sys.argv[2])

def build():
    print("building", flush=True)
    while not go.exists():
        time.sleep(0.01)
    return engine()

told = []
def waiting(text):
    if not told:
        told.append(text)
        print("waiting:", text, flush=True)

made, hit = Cache(folder).get_or_build(manifest(), build, waiting=waiting)
print("hit" if hit else "built", made.manifest.plan_digest, flush=True)
"""


def first_lines(processes: list[Popen[str]]) -> list[str]:
    lines = []
    for process in processes:
        assert process.stdout is not None
        lines.append(process.stdout.readline().strip())
    return lines


def end(processes: list[Popen[str]]) -> list[str]:
    """Waits for all; their last lines."""
    lines = []
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        lines.append(out.strip().splitlines()[-1])
    return lines


@contextlib.contextmanager
def asking(count: int, *args: object) -> Iterator[list[Popen[str]]]:
    processes = [child.start(ASKING, *args) for _ in range(count)]
    try:
        yield processes
    finally:
        for process in processes:
            if process.poll() is None:
                child.kill(process)


def test_32_processes_build_once(tmp_path: Path) -> None:
    with asking(32, tmp_path / "cache", tmp_path / "go") as processes:
        doing = first_lines(processes)
        assert doing.count("building") == 1
        builder = processes[doing.index("building")]
        for text in doing:
            assert text == "building" or f"process {builder.pid} " in text
        (tmp_path / "go").touch()
        said = end(processes)
    digest = engine().manifest.plan_digest
    assert sorted(said) == sorted([f"built {digest}"] + [f"hit {digest}"] * 31)
    (entry,) = Cache(tmp_path / "cache").entries()
    assert entry.hits == 31
    assert list((tmp_path / "cache" / "locks").iterdir()) == []


def test_when_the_builder_is_killed_another_one_builds(tmp_path: Path) -> None:
    with asking(4, tmp_path / "cache", tmp_path / "go") as processes:
        doing = first_lines(processes)
        builder = processes.pop(doing.index("building"))
        child.kill(builder)
        (tmp_path / "go").touch()
        said = end(processes)
    digest = engine().manifest.plan_digest
    assert sorted(said) == sorted([f"built {digest}", f"hit {digest}", f"hit {digest}"])


STOPPED = """
import os, sys
from tests.engine.engines import engine
from zerolane.engine import Cache

where = sys.argv[2]
real = getattr(os, where)
calls = [0]

def stop(*args):
    calls[0] += 1
    if where == "write" and calls[0] == 2:  # the plan: write half of it
        real(args[0], memoryview(args[1])[: len(args[1]) // 2])
    if where != "write" or calls[0] == 2:
        print("there", flush=True)
        sys.stdin.read()
    return real(*args)

made = engine(seed=2)
setattr(os, where, stop)
Cache(sys.argv[1]).put(made.manifest.key, made)
"""


@pytest.mark.parametrize("before", [False, True], ids=["first", "replacing"])
@pytest.mark.parametrize("where", ["write", "fsync", "rename"])
def test_killed_while_writing(tmp_path: Path, where: str, before: bool) -> None:
    cache = Cache(tmp_path / "cache")
    key = manifest().key
    if before:
        cache.put(key, engine())
    command = [child.sys.executable, "-c", STOPPED, str(cache.folder), where]
    writer = Popen(
        command,
        cwd=child.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "there\n"
    (temporary,) = (cache.folder / "engines").glob(".*.zl-tmp")
    os.utime(temporary, (1000, 1000))
    assert temporary not in cache.gc().leftovers  # old, and its writer lives
    child.kill(writer)
    found = cache.get(key)
    assert (found is not None) == before
    assert found is None or bytes(found.plan) == plan()
    assert [v.status for v in cache.verify(full=True)] == ["ok"] * before
    os.utime(temporary, (1000, 1000))
    assert cache.gc().leftovers == (temporary,)
    cache.put(key, engine(seed=2))
    assert [p.suffix for p in (cache.folder / "engines").iterdir() if "hits" not in p.name] == [
        ".engine"
    ]


WRITING = """
import sys
from tests.engine.engines import engine
from zerolane.engine import Cache

engines = [engine(300_000, seed) for seed in (1, 2)]
print("ready", flush=True)
while True:
    for made in engines:
        Cache(sys.argv[1]).put(made.manifest.key, made)
"""


def test_readers_never_see_half_an_engine(tmp_path: Path) -> None:
    """One process replaces the entry all the time; it is killed at some moment or other."""
    cache = Cache(tmp_path / "cache")
    whole = {engine(300_000, seed).manifest.plan_digest for seed in (1, 2)}
    cache.put(manifest().key, engine(300_000))
    seen = set()
    for kills in range(4):
        writer = child.start(WRITING, cache.folder)
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        for _ in range(50 + 13 * kills):
            found, _ = read(cache.path(manifest().key))  # raises where it is torn
            seen.add(found.plan_digest)
        child.kill(writer)
        read(cache.path(manifest().key))
    assert seen <= whole
    assert [v.status for v in cache.verify(full=True)] == ["ok"]


TOO_LARGE = """
import resource, sys
from tests.engine.engines import engine
from zerolane.engine import Cache
import zerolane as zl

resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
"""

FILL = """
import logging
told = []
handler = logging.Handler()
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("zerolane").addHandler(handler)
logging.getLogger("zerolane").propagate = False

from tests.engine.engines import engine, manifest
from zerolane.engine import Cache
import os, sys
import zerolane as zl

cache = Cache(sys.argv[1])
made, hit = cache.get_or_build(manifest(), lambda: engine(3_000_000))
assert not hit and made.plan.nbytes == 3_000_000
assert len(told) == 1 and "not stored" in told[0], told
assert cache.entries() == []
left = [name for _, _, names in os.walk(sys.argv[1]) for name in names]
assert left == [], left
try:
    made.save(os.path.join(sys.argv[1], "m.engine"))
except zl.DeviceError as error:
    print(error)
assert not [name for name in os.listdir(sys.argv[1]) if "engine" in name and name != "engines"]
small = engine(10_000, precision="bf16")
assert cache.put(small.manifest.key, small) is not None
assert cache.get(small.manifest.key).plan == small.plan
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    told = child.run(TOO_LARGE + FILL, tmp_path)
    assert "File too large" in told
    assert "make room" in told


def test_a_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small filesystem; see test_a_file_that_may_not_grow")
    command = [mount, "-t", "tmpfs", "-o", "size=1m", "zerolane-test", str(disk)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no small filesystem can be mounted here: {done.stderr.strip()}")
    try:
        told = child.run(FILL, disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    assert "No space left" in told


READ_ONLY = """
import logging, os, sys
told = []
handler = logging.Handler()
handler.emit = lambda record: told.append(record.getMessage())
logging.getLogger("zerolane").addHandler(handler)
logging.getLogger("zerolane").propagate = False

from tests.engine.engines import engine, manifest, plan
from zerolane.engine import Cache, digest_model
import zerolane as zl
digest_model("tests/models/digits_cnn.onnx")

if os.geteuid() == 0:
    os.seteuid(65534)
cache = Cache(sys.argv[1])
found, hit = cache.get_or_build(manifest(), lambda: 1 / 0)
assert hit and bytes(found.plan) == plan()
other = manifest(precision="bf16")
made, hit = cache.get_or_build(other, lambda: engine(seed=2, precision="bf16"))
assert not hit and bytes(made.plan) == plan(seed=2)
assert len(told) == 1 and "not stored" in told[0], told
with cache.lock("k") as lock:
    assert not lock.held
assert len(cache.entries()) == 1
assert [v.status for v in cache.verify(full=True)] == ["ok"]
assert cache.gc(0).entries == ()
assert digest_model("tests/models/digits_cnn.onnx", cache.memo).model
try:
    made.save(os.path.join(sys.argv[1], "m.engine"))
except zl.InvalidArgument as error:
    print(error)
"""


def test_a_read_only_folder() -> None:
    # Not pytest's folder, which another user may not enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cache"
        cache = Cache(folder)
        cache.put(manifest().key, engine())
        os.chmod(name, 0o755)
        folders = [folder, folder / "engines", folder / "locks"]
        for path in folders:
            path.chmod(0o555)
        try:
            told = child.run(READ_ONLY, folder)
        finally:
            for path in folders:
                path.chmod(0o755)
        assert "may not be written" in told
        (entry,) = cache.entries()
        assert entry.hits == 0
