"""The cache of engines, by one process."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

import zerolane as zl
from tests.engine.engines import engine, manifest, plan
from zerolane.engine import Cache, Engine, default_folder
from zerolane.engine import cache as module
from zerolane.engine import lock as lock_module
from zerolane.engine.atomic import remove_stale
from zerolane.engine.environment import parts_here, this_platform


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def put(cache: Cache, seed: int = 1, size: int = 5000, **changes: Any) -> str:
    made = engine(size, seed, **changes)
    assert cache.put(made.manifest.key, made) is not None
    return made.manifest.key


def never() -> Engine:
    raise AssertionError("built although it is in the cache")


def set_used(cache: Cache, key: str, seconds: float) -> None:
    for path in cache.path(key).parent.glob(f"{key}.*"):
        os.utime(path, (seconds, seconds))


def test_put_and_get(cache: Cache) -> None:
    key = manifest().key
    assert cache.get(key) is None
    assert not cache.folder.exists()
    put(cache)
    found = cache.get(key)
    assert found is not None
    assert bytes(found.plan) == plan()
    assert found.manifest.key == key
    assert cache.folder.stat().st_mode & 0o077 == 0


def test_get_or_build(cache: Cache) -> None:
    request = manifest()
    made, hit = cache.get_or_build(request, engine)
    assert (hit, bytes(made.plan)) == (False, plan())
    again, hit = cache.get_or_build(request, never)
    assert (hit, bytes(again.plan)) == (True, plan())
    other, hit = cache.get_or_build(
        manifest(precision="bf16"), lambda: engine(seed=2, precision="bf16")
    )
    assert (hit, bytes(other.plan)) == (False, plan(seed=2))


def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again(cache: Cache) -> None:
    def fail() -> Engine:
        raise zl.Unsupported("building: no; do something else")

    for _ in range(2):
        with pytest.raises(zl.Unsupported):
            cache.get_or_build(manifest(), fail)
    assert cache.entries() == []
    assert cache.get_or_build(manifest(), engine)[1] is False


def test_a_model_that_changed_during_its_build_is_not_stored(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    made, hit = cache.get_or_build(manifest(), engine, unchanged=lambda: False)
    assert (hit, bytes(made.plan)) == (False, plan())
    assert cache.entries() == []
    assert "not stored" in caplog.text


def test_an_engine_under_a_wrong_key(cache: Cache) -> None:
    with pytest.raises(zl.InternalError):
        cache.put("f" * 64, engine())
    key = put(cache)
    cache.path(key).rename(cache.path("f" * 64))
    assert cache.get("f" * 64) is None
    (verdict,) = cache.verify()
    assert verdict.status == "damaged"
    assert "renamed" in str(verdict.problem)


@pytest.mark.parametrize("damage", ["cut", "changed", "foreign", "empty"])
def test_a_damaged_entry_is_built_again(
    cache: Cache, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.path(put(cache))
    data = path.read_bytes()
    changed = {
        "cut": data[:-1],
        "changed": data[:-1] + bytes([data[-1] ^ 1]),
        "foreign": b"ptrt" + data[4:],
        "empty": b"",
    }
    path.write_bytes(changed[damage])
    assert cache.get(manifest().key) is None
    assert caplog.records[0].levelno == logging.WARNING
    assert cache.get_or_build(manifest(), engine)[1] is False
    assert cache.get_or_build(manifest(), never)[1] is True


def test_entries(cache: Cache) -> None:
    assert cache.entries() == []
    first, second = put(cache, precision="fp16"), put(cache, seed=2, size=9000, precision="bf16")
    set_used(cache, first, 1000)
    set_used(cache, second, 2000)
    assert [entry.key for entry in cache.entries()] == [second, first]
    for _ in range(3):
        cache.get(first)
    newest, older = cache.entries()
    assert (newest.key, newest.hits, older.hits) == (first, 3, 0)
    assert newest.last_used > 2000 == older.last_used
    assert newest.size == cache.path(first).stat().st_size
    assert newest.manifest is not None
    assert newest.manifest.build_seconds == 12.5
    put(cache, precision="fp16")  # built again: it was not used since
    assert [entry.hits for entry in cache.entries()] == [0, 0]


def test_verify(cache: Cache) -> None:
    key = put(cache)
    assert [v.status for v in cache.verify()] == ["ok"]
    assert [v.status for v in cache.verify(full=True)] == ["ok"]
    path = cache.path(key)
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert [v.status for v in cache.verify()] == ["ok"]  # the plan is not read
    (found,) = cache.verify(full=True)
    assert found.status == "damaged"
    assert "digest" in str(found.problem)
    path.write_bytes(data[:-1])
    assert [v.status for v in cache.verify()] == ["damaged"]


def test_verify_says_which_part_differs(cache: Cache) -> None:
    put(cache)
    wanted = {"library_version": "1.8.0", "gpu": "NVIDIA L4", "flags": {"refit": True}}
    (found,) = cache.verify(lambda _: wanted)
    assert found.status == "differs"
    assert [d.part for d in found.differences] == [
        "library_version",
        "flags.optimization_level",
        "flags.pools",
    ]


def test_verify_against_this_machine(cache: Cache) -> None:
    put(cache, platform="windows-arm64")
    (found,) = cache.verify(parts_here)
    parts = {d.part: d for d in found.differences}
    assert parts["platform"].wanted == this_platform()
    assert "zerolane" not in parts


def test_why_missed(cache: Cache) -> None:
    assert cache.why_missed(manifest()) is None
    near, far = put(cache, precision="bf16"), put(cache, precision="bf16", library_version="1.5.0")
    put(cache, model="another.onnx", model_digest="9" * 64)
    assert near != far
    found = cache.why_missed(manifest())
    assert found is not None
    entry, differences = found
    assert entry.key == near
    assert [d.part for d in differences] == ["precision"]
    found = cache.why_missed(manifest(model_digest="1" * 64, precision="bf16"))
    assert found is not None
    assert [d.part for d in found[1]] == ["model_digest"]


def test_gc_by_size_keeps_the_last_used(cache: Cache) -> None:
    keys = [put(cache, seed=i, size=100_000, gpu=f"gpu {i}") for i in range(5)]
    for age, key in enumerate(keys):
        set_used(cache, key, 10_000 - age)
    size = cache.path(keys[0]).stat().st_size
    assert cache.gc().entries == ()
    done = cache.gc(3 * size)
    assert {entry.key for entry in done.entries} == set(keys[3:])
    assert (done.freed, done.kept) == (2 * size, 3 * size)
    assert cache.get(keys[2]) is not None
    assert cache.gc(0).freed == 3 * size
    assert list((cache.folder / "engines").iterdir()) == []


def test_gc_by_age_and_damage(cache: Cache) -> None:
    old, new, broken = (put(cache, gpu=name) for name in ("old", "new", "broken"))
    set_used(cache, old, module.time.time() - 8 * 86400)
    cache.path(broken).write_bytes(b"broken")
    done = cache.gc(max_age_days=7)
    assert {entry.key for entry in done.entries} == {old, broken}
    assert [entry.key for entry in cache.entries()] == [new]


def test_gc_leaves_engines_in_use_alone(cache: Cache) -> None:
    found = cache.get(put(cache))
    assert found is not None
    cache.gc(0)
    assert bytes(found.plan) == plan()


def test_gc_collects_leftovers(cache: Cache) -> None:
    key = put(cache)
    engines = cache.folder / "engines"
    old, young = (engines / f".{key}.engine.{name}.zl-tmp" for name in ("0ld", "young"))
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    lock = cache.folder / "locks" / f"{key}.lock"
    lock.write_text("{}")
    with cache.lock("held") as held:
        assert held.held
        assert set(cache.gc().leftovers) == {old, lock}
    assert young.exists()
    assert (cache.folder / "locks" / "held.lock").exists()
    os.utime(young, (1000, 1000))
    assert remove_stale(engines, "other.engine") == []
    put(cache)  # the next writer of the same file cleans up too
    assert not young.exists()


def test_gc_of_what_is_made_again(cache: Cache) -> None:
    key = put(cache)
    files = [cache.folder / "kernels" / "a.kernels", cache.folder / "build-times" / "b.json"]
    for age, path in enumerate(files):
        path.parent.mkdir()
        path.write_bytes(bytes(1000))
        when = module.time.time() - (age + 1) * 86400
        os.utime(path, (when, when))
    assert cache.gc().leftovers == ()
    size = cache.path(key).stat().st_size
    done = cache.gc(size + 1000)  # room for the younger one
    assert (done.entries, done.leftovers) == ((), (files[1],))
    assert (done.freed, done.kept) == (1000, size + 1000)
    assert cache.gc(max_age_days=0.5).leftovers == (files[0],)
    assert cache.get(key) is not None


def test_a_lock_keeps_others_out_and_tells_who_has_it(cache: Cache) -> None:
    told: list[str] = []

    def give_up(text: str) -> None:
        told.append(text)
        if len(told) == 3:
            raise TimeoutError

    with cache.lock("k", model="big.onnx") as lock:
        assert lock.held
        with pytest.raises(TimeoutError), cache.lock("k", waiting=give_up):
            raise AssertionError("two hold the lock")
        with cache.lock("another") as other:
            assert other.held
    assert f"process {os.getpid()}" in told[0]
    assert "big.onnx" in told[0]
    with cache.lock("k", waiting=lambda text: pytest.fail(text)):
        pass


def test_a_lock_whose_file_is_removed_is_still_one(cache: Cache) -> None:
    """Who waits for a file that its holder removes must not hold that, but the new one."""
    with cache.lock("k") as lock:
        lock.forget()
        with cache.lock("k", waiting=lambda text: pytest.fail(text)) as second:
            assert second.held
            assert (cache.folder / "locks" / "k.lock").exists()


def test_a_lock_on_a_file_just_removed_keeps_nobody_out(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its last holder removed it: lock the next one."""
    path = cache.folder / "locks" / "k.lock"
    real, opened = os.open, []

    def removed_at_once(name: Any, *args: Any) -> int:
        descriptor = real(name, *args)
        opened.append(name)
        if len(opened) == 1:
            os.unlink(name)
        return descriptor

    monkeypatch.setattr(lock_module.os, "open", removed_at_once)
    with cache.lock("k") as lock:
        assert lock.held
        assert opened == [path, path]
        with pytest.raises(TimeoutError), cache.lock("k", waiting=_give_up):
            raise AssertionError("two hold the lock")


def _give_up(text: str) -> None:
    raise TimeoutError(text)


def test_where_the_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROLANE_CACHE", str(tmp_path / "a"))
    assert default_folder() == Cache().folder == tmp_path / "a"
    monkeypatch.delenv("ZEROLANE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert default_folder() == tmp_path / "b" / "zerolane"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "zerolane"
