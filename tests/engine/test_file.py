"""Engine files: whole or refused, before anybody looks at the plan."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from pathlib import Path

import pytest

import zerolane as zl
from tests.engine.engines import engine, manifest, plan
from tests.python.messages import assert_three_parts
from zerolane.engine import Engine, is_engine_file, read, read_head, write
from zerolane.engine.file import _HEADER, _START, MAGIC
from zerolane.engine.manifest import Manifest

FOLDER = Path(__file__).parents[1] / "models"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "m.engine", manifest(), plan())
    return tmp_path / "m.engine"


def refused(path: Path, kind: type[zl.Error] = zl.InvalidModel) -> str:
    with pytest.raises(kind) as caught:
        read(path)
    assert_three_parts(str(caught.value))
    assert caught.value.subject == str(path)
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 4096, 5000, 3_000_000])
def test_there_and_back(tmp_path: Path, size: int) -> None:
    file = tmp_path / "m.engine"
    write(file, manifest(), plan(size))
    found, view = read(file)
    assert bytes(view) == plan(size)
    assert view.readonly
    assert found.plan_size == size
    assert found.plan_digest == hashlib.sha256(plan(size)).hexdigest()
    assert found == manifest(created=found.created).with_plan(plan(size))
    assert is_engine_file(file)
    assert [p.name for p in tmp_path.iterdir()] == ["m.engine"]


def test_the_plan_outlives_its_file(path: Path) -> None:
    _, view = read(path)
    path.unlink()
    assert bytes(view) == plan()


def test_a_pipe_is_written_to_and_not_replaced(tmp_path: Path) -> None:
    """A rename over it would take /dev/null from the whole machine where root builds."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write(pipe, manifest(), plan(300))
        assert os.read(reader, 1 << 16).endswith(plan(300))
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("start", [b"vtrt", b"ftrt", b"ptrt"])
def test_a_bare_plan_is_named_as_such(start: bytes, tmp_path: Path) -> None:
    """What the vendor's own tools write: it has no manifest, so nothing could be checked."""
    plan = tmp_path / "model.plan"
    plan.write_bytes(start + bytes(300))
    for use in (zl.load, zl.build):
        with pytest.raises(zl.InvalidModel, match="a bare plan of TensorRT") as caught:
            use(plan)
        assert_three_parts(str(caught.value))
        assert "model.plan" in str(caught.value)


def test_saving_over_an_engine_in_use(path: Path) -> None:
    _, view = read(path)
    engine(seed=2).save(path)
    assert bytes(view) == plan()
    assert bytes(read(path)[1]) == plan(seed=2)


def test_an_engine_object(path: Path, tmp_path: Path) -> None:
    made = engine()
    assert made.manifest.plan_size == made.plan.nbytes == 5000
    assert made.plan.readonly
    made.save(tmp_path / "copy.engine")
    again = Engine.read(str(tmp_path / "copy.engine"))
    assert again.manifest == made.manifest
    assert again.plan == made.plan
    assert "resnet.onnx" in repr(again)
    assert "1.7.1" in repr(again)


def test_the_plans_digest_is_taken_when_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    real = Manifest.with_plan

    def counted(self: Manifest, view: bytes | memoryview) -> Manifest:
        taken.append(memoryview(view).nbytes)
        return real(self, view)

    monkeypatch.setattr(Manifest, "with_plan", counted)
    made = engine()
    assert "MiB" in repr(made)
    assert taken == []
    made.save(tmp_path / "one.engine")
    made.save(tmp_path / "two.engine")
    assert made.manifest is made.manifest
    assert made.manifest.plan_digest == hashlib.sha256(made.plan).hexdigest()
    assert taken == [5000], "once for all"
    assert (tmp_path / "one.engine").read_bytes() == (tmp_path / "two.engine").read_bytes()
    with pytest.raises(AttributeError):
        made.manifest = manifest()  # type: ignore[misc]


def test_a_manifest_that_nobody_would_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zerolane.engine.file._MOST_MANIFEST", 10_000)
    with pytest.raises(zl.InvalidArgument) as caught:
        engine(extra={"metadata": "x" * 10_000}).save(tmp_path / "a.engine")
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_any_buffer_is_a_plan(tmp_path: Path) -> None:
    import array

    numbers = array.array("I", range(100))
    write(tmp_path / "m.engine", manifest(), memoryview(numbers))
    assert bytes(read(tmp_path / "m.engine")[1]) == numbers.tobytes()


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.engine"
    link.symlink_to(path)
    engine(seed=2).save(link)
    assert link.is_symlink()
    assert bytes(read(path)[1]) == plan(seed=2)


def test_every_changed_byte_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    with open(path, "r+b", buffering=0) as file:
        for index, byte in enumerate(whole):
            os.pwrite(file.fileno(), bytes([byte ^ (1 << (index % 8))]), index)
            with pytest.raises((zl.InvalidModel, zl.Unsupported)):
                read(path)
            os.pwrite(file.fileno(), bytes([byte]), index)
    read(path)


def test_every_length_but_the_right_one_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in reversed([*range(0, len(whole), 7), len(whole) - 1]):
        os.truncate(path, length)
        refused(path)
    path.write_bytes(whole + b"\0")
    assert "longer" in refused(path)
    path.write_bytes(whole[:-1])
    assert "cut short" in refused(path)


def test_two_engines_mixed(path: Path) -> None:
    """The manifest of one, the plan of another, of the same size."""
    whole = bytearray(path.read_bytes())
    whole[-5000:] = plan(seed=2)
    path.write_bytes(whole)
    read_head(path)  # the manifest itself is fine
    assert "digest" in refused(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89ZLE", b"vtrt" + bytes(5000), b"\x7fELF" + bytes(5000), MAGIC, MAGIC.strip()],
)
def test_foreign_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "expected an engine file" in refused(path)
    assert is_engine_file(path) == (content == MAGIC)


def test_an_onnx_model_is_no_engine(path: Path) -> None:
    path.write_bytes((FOLDER / "digits_cnn.onnx").read_bytes())
    assert "zl.build" in refused(path)
    assert not is_engine_file(path)


def test_a_transfer_as_text_spoils_the_magic(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    assert "expected an engine file" in refused(path)


def forge(path: Path, text: bytes, **header: int) -> None:
    """An engine file whose digests are right and whose content is not."""
    end = _START + len(text)
    fields = {
        "version": 1,
        "text_size": len(text),
        "signature_size": 0,
        "reserved": 0,
        "offset": -(-end // 4096) * 4096,
        "plan": 5000,
    } | header
    head = _HEADER.pack(MAGIC, *fields.values())
    rest = text + bytes(max(0, min(fields["offset"], 1 << 20) - end))
    path.write_bytes(head + hashlib.sha256(head + rest).digest() + rest + plan())


def test_the_forger_makes_good_files_too(path: Path) -> None:
    forge(path, manifest().with_plan(plan()).to_json())
    assert bytes(read(path)[1]) == plan()


def test_a_newer_format(path: Path) -> None:
    forge(path, manifest().with_plan(plan()).to_json(), version=2)
    assert "upgrade zerolane" in refused(path, zl.Unsupported)


@pytest.mark.parametrize(
    "header",
    [
        {"version": 0},
        {"text_size": 2**32 - 1},
        {"text_size": 0},
        {"signature_size": 95},
        {"signature_size": 2**32 - 1},
        {"offset": 0},
        {"offset": 2**64 - 1},
        {"offset": 8192},
        {"plan": 0},
        {"plan": 2**64 - 1},
        {"plan": 4999},
    ],
)
def test_headers_that_lie(path: Path, header: dict[str, int]) -> None:
    forge(path, manifest().with_plan(plan()).to_json(), **header)
    refused(path)


def test_a_manifest_of_another_plan(path: Path) -> None:
    forge(path, manifest().with_plan(plan(seed=2)).to_json())
    assert "digest" in refused(path)
    forge(path, manifest().with_plan(plan(4000)).to_json())
    assert "4000" in refused(path)
    forge(path, b"[]")
    assert "manifest" in refused(path)


def test_header_sizes_are_as_documented() -> None:
    assert _HEADER.size == struct.calcsize("<8sIIIIQQ") == 40
    assert _START == 72


def test_no_such_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.engine", zl.NotFound)
    refused(tmp_path, zl.NotFound)
    assert not is_engine_file(tmp_path / "none.engine")
    assert not is_engine_file(tmp_path)


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(zl.NotFound) as caught:
        engine().save(tmp_path / "none" / "m.engine")
    assert_three_parts(str(caught.value))
    assert str(tmp_path / "none") in str(caught.value)


def test_a_path_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.engine").mkdir()
    with pytest.raises(zl.InvalidArgument) as caught:
        engine().save(tmp_path / "m.engine")
    assert_three_parts(str(caught.value))
    assert os.listdir(tmp_path) == ["m.engine"]


def test_names_of_any_kind(tmp_path: Path) -> None:
    for name in ("a b[1]*.engine", "ü.engine", "x" * 240, ".hidden"):
        engine().save(tmp_path / name)
        assert bytes(read(tmp_path / name)[1]) == plan()
    assert len(os.listdir(tmp_path)) == 4
