"""`zerolane cache`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import zerolane as zl
from tests.engine.engines import engine, manifest
from zerolane.cli.main import cli
from zerolane.engine import Cache


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    monkeypatch.setenv("ZEROLANE_CACHE", str(tmp_path / "cache"))
    return Cache()


def call(*args: object, code: int = 0) -> str:
    result = CliRunner().invoke(cli, ["cache", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def told(*args: object, code: int = 0) -> Any:
    return json.loads(call(*args, "--json", code=code))


def put(cache: Cache, **changes: Any) -> str:
    made = engine(**changes)
    cache.put(made.manifest.key, made)
    return made.manifest.key


def test_of_an_empty_cache(cache: Cache) -> None:
    assert "0 engines" in call("ls")
    assert "0 checked" in call("verify")
    assert "0 engines and 0 leftovers" in call("gc")
    for verb in ("ls", "verify"):
        assert told(verb)["entries"] == []
    assert not cache.folder.exists()


def test_ls(cache: Cache) -> None:
    key = put(cache, precision="bf16")
    put(cache, backend="tensorrt", library_version="11.4.0", precision=None, build_seconds=None)
    cache.get(key)
    text = call("ls")
    for part in ("resnet.onnx", "tensorrt-rtx 1.7.1", "tensorrt 11.4.0", "bf16", "as typed"):
        assert part in text
    assert "2 engines" in text
    listed = told("ls")
    assert listed["folder"] == str(cache.folder)
    entry = next(e for e in listed["entries"] if e["key"] == key)
    assert entry["hits"] == 1
    assert entry["bytes"] == cache.path(key).stat().st_size
    assert entry["manifest"]["build_seconds"] == 12.5
    assert listed["bytes"] == sum(e["bytes"] for e in listed["entries"])


def test_op_libraries_are_shown(cache: Cache, tmp_path: Path) -> None:
    put(cache)
    assert "my_ops 1.2" in " ".join(call("ls").split())
    (entry,) = told("ls")["entries"]
    assert entry["manifest"]["op_libraries"][0]["ops"] == {"my::Scale": 1, "my::Crop": 3}
    differences = told("verify")["entries"][0]["differences"]
    assert "op_libraries.my_ops 1.2" in {row["part"] for row in differences}
    path = tmp_path / "x.engine"
    engine().save(path)
    told_of = zl.inspect(path).metadata["op_libraries"]
    assert "my_ops 1.2 (my::Crop, my::Scale) from /opt/libmy_ops.so" in told_of
    assert "c" * 64 in told_of


def test_verify(cache: Cache) -> None:
    good, other = put(cache, platform="plan9-mips"), put(cache, gpu=None)
    rows = {row["key"]: row for row in told("verify")["entries"]}
    assert rows[good]["status"] == "differs"
    assert "platform" in {d["part"] for d in rows[good]["differences"]}
    assert "plan9-mips" in call("verify")
    data = cache.path(other).read_bytes()
    cache.path(other).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    call("verify")
    rows = {row["key"]: row for row in told("verify", "--full", code=1)["entries"]}
    assert rows[other]["status"] == "damaged"
    assert "changed" in rows[other]["problem"]
    cache.path(other).write_bytes(b"foreign")
    assert "damaged" in call("verify", code=1)
    assert "damaged" in call("ls")


def test_gc(cache: Cache) -> None:
    keys = [put(cache, gpu=f"gpu {i}") for i in range(3)]
    assert told("gc", "--max-size", "1G")["removed"] == []
    done = told("gc", "--max-size", "25K")
    assert len(done["removed"]) == 1
    assert done["kept_bytes"] == 2 * done["freed_bytes"]
    assert len(cache.entries()) == 2
    assert "removed" in call("gc", "--max-size", 0)
    assert [cache.get(key) for key in keys] == [None] * 3


@pytest.mark.parametrize("size", ["1x", "-1", "", "1.2.3M", "G"])
def test_gc_of_a_wrong_size(cache: Cache, size: str) -> None:
    assert "no size" in call("gc", "--max-size", size, code=2)


def test_folder_option(cache: Cache, tmp_path: Path) -> None:
    other = Cache(tmp_path / "other")
    put(other)
    assert told("ls", "--folder", other.folder)["entries"][0]["key"] == manifest().key
    assert told("ls")["entries"] == []
