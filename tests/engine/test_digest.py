"""Digests of models: external data included, remembered only when that is safe."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.engine import digest as module  # noqa: E402
from zerolane.engine import digest_model  # noqa: E402
from zerolane.engine.digest import Memo  # noqa: E402


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def model(value: float = 1.0) -> onnx.ModelProto:
    weights = onnx.numpy_helper.from_array(np.full(1000, value, np.float32), "w")
    more = onnx.numpy_helper.from_array(np.full(1000, value, np.float32), "v")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Add", ["x", "w"], ["t"]),
            onnx.helper.make_node("Add", ["t", "v"], ["y"]),
        ],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1000])],
        [onnx.helper.make_tensor_value_info("y", 1, [1000])],
        [weights, more],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])


@pytest.fixture
def external(tmp_path: Path) -> Path:
    """A model with two external files, one in a folder."""
    made = model()
    (tmp_path / "weights").mkdir()
    for tensor, name in zip(made.graph.initializer, ("weights/w.bin", "v.bin"), strict=True):
        (tmp_path / name).write_bytes(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, name)
        tensor.ClearField("raw_data")
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    return tmp_path / "m.onnx"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are read for hashing, in order."""
    found: list[str] = []
    real = hashlib.file_digest

    def counted(file, name):  # type: ignore[no-untyped-def]
        found.append(os.path.basename(file.name))
        return real(file, name)

    monkeypatch.setattr(module.hashlib, "file_digest", counted)
    return found


def test_a_file_and_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    found = digest_model(path)
    assert found.model == sha(path)
    assert found.external_data == {}
    for data in (path.read_bytes(), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        assert digest_model(data).model == found.model
        assert digest_model(data).unchanged()


def test_external_data(external: Path) -> None:
    found = digest_model(external)
    folder = external.parent
    assert found.external_data == {
        "v.bin": sha(folder / "v.bin"),
        "weights/w.bin": sha(folder / "weights" / "w.bin"),
    }
    (folder / "v.bin").write_bytes(bytes(4000))
    assert not found.unchanged()
    again = digest_model(external)
    assert again.model == found.model
    assert again.external_data["v.bin"] == sha(folder / "v.bin") != found.external_data["v.bin"]


def test_external_data_that_is_missing(external: Path) -> None:
    (external.parent / "v.bin").unlink()
    with pytest.raises(zl.NotFound) as caught:
        digest_model(external)
    assert_three_parts(str(caught.value))
    assert "v.bin" in str(caught.value)
    assert caught.value.subject == str(external.parent / "v.bin")


def test_external_data_of_bytes(external: Path) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        digest_model(external.read_bytes())
    assert_three_parts(str(caught.value))


def test_bytes_and_the_folder_of_their_data(
    external: Path, tmp_path: Path, reads: list[str]
) -> None:
    folder = external.parent
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    found = digest_model(external.read_bytes(), memo, folder=folder)
    assert found.model == sha(external)
    assert found.external_data == digest_model(external).external_data
    reads.clear()
    assert digest_model(external.read_bytes(), memo, folder=folder) == found
    assert reads == [], "what the memo knows is not read again"
    (folder / "v.bin").write_bytes(bytes(4000))
    assert not found.unchanged()


def test_locations_that_are_known(external: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = digest_model(external)
    monkeypatch.setattr(module._native, "read_model", None)
    assert digest_model(external, locations=["v.bin", "weights/w.bin"]) == found


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(zl.NotFound) as caught:
        digest_model(tmp_path / "none.onnx")
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.NotFound):
        digest_model(tmp_path)
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(zl.InvalidModel) as broken:
        digest_model(tmp_path / "m.onnx")
    assert_three_parts(str(broken.value))


def test_the_memo_spares_reading(external: Path, tmp_path: Path, reads: list[str]) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    first = digest_model(external, memo)
    assert sorted(reads) == ["m.onnx", "v.bin", "w.bin"]
    reads.clear()
    again = digest_model(external, Memo(tmp_path / "memo", settle_seconds=0))
    assert reads == []
    assert (again.model, again.external_data) == (first.model, first.external_data)


def test_a_young_file_is_not_remembered(
    external: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=60)
    for _ in range(2):
        digest_model(external, memo)
    assert len(reads) == 6
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 61)
    digest_model(external, memo)
    reads.clear()
    digest_model(external, memo)
    assert reads == []


def test_a_file_of_tomorrow_is_not_remembered(
    external: Path, tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that went back: the stamps prove nothing."""
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now - 1e6)
    memo = Memo(tmp_path / "memo", settle_seconds=60)
    for _ in range(2):
        digest_model(external, memo)
    assert len(reads) == 6


def test_quick_rewrites_are_all_noticed(tmp_path: Path) -> None:
    """Same size, the old time of change put back: only the content is new."""
    memo = Memo(tmp_path / "memo")
    path = tmp_path / "m.onnx"
    path.write_bytes(model(1.0).SerializeToString())
    stat = path.stat()
    for value in range(2, 40):
        data = model(float(value)).SerializeToString()
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert digest_model(path, memo).model == hashlib.sha256(data).hexdigest()


def test_a_rewrite_with_old_times_is_noticed_by_the_time_of_change(
    tmp_path: Path, reads: list[str]
) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    path = tmp_path / "m.onnx"
    path.write_bytes(model(1.0).SerializeToString())
    os.utime(path, ns=(1, 1))
    old = digest_model(path, memo)
    ctime = path.stat().st_ctime_ns
    while path.stat().st_ctime_ns == ctime:  # the clock of the filesystem ticks
        path.write_bytes(model(2.0).SerializeToString())
        os.utime(path, ns=(1, 1))
    assert digest_model(path, memo).model == sha(path) != old.model


def test_a_replaced_file_and_a_moved_link(tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    for name, value in (("a.onnx", 1.0), ("b.onnx", 2.0)):
        (tmp_path / name).write_bytes(model(value).SerializeToString())
    link = tmp_path / "m.onnx"
    link.symlink_to(tmp_path / "a.onnx")
    assert digest_model(link, memo).model == sha(tmp_path / "a.onnx")
    link.unlink()
    link.symlink_to(tmp_path / "b.onnx")
    assert digest_model(link, memo).model == sha(tmp_path / "b.onnx")
    os.replace(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert digest_model(link, memo).model == sha(tmp_path / "b.onnx")


@pytest.mark.parametrize("content", ["", "no json", "[]", "{}", '{"path": 1}', "null"])
def test_a_damaged_memo_is_no_memo(
    external: Path, tmp_path: Path, reads: list[str], content: str
) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    first = digest_model(external, memo)
    for path in (tmp_path / "memo").iterdir():
        path.write_text(content)
    reads.clear()
    assert digest_model(external, memo).model == first.model
    assert len(reads) == 3


def test_forgetting_files_that_are_no_more(external: Path, tmp_path: Path) -> None:
    memo = Memo(tmp_path / "memo", settle_seconds=0)
    digest_model(external, memo)
    (tmp_path / "memo" / "damaged.json").write_text("{}")
    memo.forget_missing()
    assert len(list((tmp_path / "memo").iterdir())) == 4
    (external.parent / "v.bin").unlink()
    memo.forget_missing()
    assert len(list((tmp_path / "memo").iterdir())) == 3


def test_a_memo_that_cannot_be_written(external: Path, tmp_path: Path) -> None:
    (tmp_path / "memo").write_text("a file, no folder")
    assert digest_model(external, Memo(tmp_path / "memo", 0)).model == sha(external)
