"""Everything that is no good model is told by type and name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
import pytest

import zerolane as zl
from tests.boundary.test_errors import three_parts
from tests.models import small, task_checks

GOOD = small.relu().SerializeToString()
CNN = task_checks.FOLDER / "digits_cnn.onnx"


def refused(model: Any, kind: type[zl.Error], *says: str, subject: str | None = None) -> None:
    with pytest.raises(kind) as caught:
        zl.load(model)
    assert type(caught.value) is kind
    for text in says:
        assert text in str(caught.value)
    if subject is not None:
        assert caught.value.subject == subject
    three_parts(caught.value)


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "none.onnx"
    refused(path, zl.NotFound, "none.onnx", subject=str(path))
    with pytest.raises(FileNotFoundError):
        zl.load(path)
    refused("", zl.NotFound)
    refused(tmp_path / "no" / "folder" / "m.onnx", zl.NotFound)


def test_a_folder(tmp_path: Path) -> None:
    refused(tmp_path, zl.NotFound, "folder", subject=str(tmp_path))
    (tmp_path / "m.onnx").mkdir()
    refused(tmp_path / "m.onnx", zl.NotFound, "folder")


def test_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", zl.NotFound, "regular file")
    refused("/dev/null", zl.NotFound, "regular file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(GOOD)
    path.chmod(0)
    refused(path, zl.NotFound, "Permission denied")


def test_names_with_nul_and_odd_bytes(tmp_path: Path) -> None:
    for name in ("a\0b.onnx", "\ud800.onnx"):  # the second has no form in bytes
        refused(name, zl.InvalidArgument, "model", subject="model")
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.onnx")
    Path(path).write_bytes(GOOD)
    assert zl.load(path).inputs[0].name == "x"


def test_broken_link(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / "link.onnx", zl.NotFound)


def test_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")
    refused(tmp_path / "empty.onnx", zl.InvalidModel, "empty", "empty.onnx")
    refused(b"", zl.InvalidModel, "empty")


@pytest.mark.parametrize(
    "content",
    [b"\0", b"hello world", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(4096), b"\xff" * 4096],
    ids=["nul", "text", "png", "zeros", "ones"],
)
def test_no_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    for model in (path, content):
        with pytest.raises(zl.Error) as caught:
            zl.load(model)
        assert type(caught.value) is zl.InvalidModel, str(caught.value)
        three_parts(caught.value)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated(tmp_path: Path, part: float) -> None:
    content = CNN.read_bytes()
    content = content[: int(len(content) * part)]
    (tmp_path / "cut.onnx").write_bytes(content)
    refused(tmp_path / "cut.onnx", zl.InvalidModel, "cut.onnx")
    refused(content, zl.InvalidModel)


def test_an_ort_file_that_is_cut_or_flipped(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime", reason="it writes ORT-format files")
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(CNN), options, providers=["CPUExecutionProvider"])
    content = (tmp_path / "m.ort").read_bytes()
    for size in (8, 12, 100, len(content) // 2, len(content) - 4):
        with pytest.raises(zl.Error) as caught:
            zl.load(content[:size])
        assert not isinstance(caught.value, zl.InternalError)
        three_parts(caught.value)


def test_an_operator_that_does_not_exist() -> None:
    with pytest.raises(zl.NotFound, match=r"Absent.*zl\.ops\.load") as caught:
        zl.load(small.unknown_operator().SerializeToString())
    three_parts(caught.value)


def test_future_versions() -> None:
    model = small.relu()
    model.ir_version = 9999
    with pytest.raises(zl.Unsupported, match=r"9999|IR version"):
        zl.load(model.SerializeToString())
    model = small.relu()
    model.opset_import[0].version = 9999
    with pytest.raises(zl.Unsupported, match=r"opset|9999"):
        zl.load(model.SerializeToString())


def test_a_config_entry_at_fault_is_not_laid_on_the_model() -> None:
    with pytest.raises(zl.Error) as caught:
        zl.load(GOOD, config={"optimization.minimal_build_optimizations": "sometimes"})
    assert not isinstance(caught.value, zl.InvalidModel)
    three_parts(caught.value)


def test_a_graph_that_is_not_valid() -> None:
    model = small.relu()
    model.graph.node[0].input[0] = "nowhere"
    with pytest.raises(zl.InvalidModel, match="nowhere"):
        zl.load(model.SerializeToString())
    model = small.add()
    model.graph.node[0].input.append("a")
    with pytest.raises(zl.InvalidModel):
        zl.load(model.SerializeToString())
    cyclic = small.relu()
    cyclic.graph.node[0].input[0] = "y"
    with pytest.raises(zl.InvalidModel):
        zl.load(cyclic.SerializeToString())


def test_types_sizes_and_attributes_that_do_not_fit() -> None:
    """The library has one number for all of these and for failures of its own."""
    typed = small.relu()
    typed.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    cut = small.matmul_chain(1, 8)
    cut.graph.initializer[0].raw_data = cut.graph.initializer[0].raw_data[:-4]
    twice = small.relu()
    twice.graph.node.append(twice.graph.node[0])
    ranks = small.matmul_chain(1, 8)
    ranks.graph.input[0].type.tensor_type.shape.ClearField("dim")
    for model in (typed, cut, twice, ranks):
        refused(model.SerializeToString(), zl.InvalidModel)


@pytest.mark.parametrize(
    "model", [None, 5, 1.5, [], {}, object(), small.relu()], ids=lambda m: type(m).__name__
)
def test_what_is_neither_path_nor_bytes(model: Any) -> None:
    refused(model, zl.InvalidArgument, type(model).__name__, subject="model")


def test_a_failed_load_leaves_nothing_behind() -> None:
    import gc

    from zerolane import _native

    gc.collect()
    before = _native.live_objects()
    for _ in range(20):
        for bad in (b"x", small.unknown_operator().SerializeToString(), GOOD[:30]):
            with pytest.raises(zl.Error):
                zl.load(bad)
    gc.collect()
    assert _native.live_objects() == before
