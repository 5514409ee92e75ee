"""The trained models in float16 and bfloat16: their tasks, sizes and types."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

import zerolane as zl  # noqa: E402
from tests.models import large, task_checks  # noqa: E402
from tests.models.task_checks import FOLDER, TRAINED  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.tasks import MEASURES, task  # noqa: E402
from zerolane import model_file as files  # noqa: E402
from zerolane.optimize.precision.emulate import emulate  # noqa: E402

NETWORKS = (
    "digits_mlp",
    "digits_cnn",
    "digit_det",
    "line_ctc",
    "stream_vad",
    "ttt_policy",
    "cartpole",
)
TABLES = tuple(name for name in TRAINED if name not in NETWORKS)
RECURRENT_IN_BF16 = "stream_vad"  # its GRU stays in float32 there


def converted(name: str, dtype: str, folder: Path, **options: Any) -> zl.optimize.PrecisionReport:
    with warnings.catch_warnings():
        # Eight boxes picked by score: two scores of almost the same size change places.
        warnings.filterwarnings("ignore", message="converting digit_det.*'boxes' is off")
        return getattr(zl.optimize, dtype)(  # type: ignore[no-any-return]
            FOLDER / f"{name}.onnx",
            folder / f"{name}.onnx",
            samples=task_checks.case_inputs(name),
            **options,
        )


@pytest.mark.parametrize("name", TRAINED)
def test_float16_meets_the_bar_of_the_task(name: str, tmp_path: Path) -> None:
    converted(name, "fp16", tmp_path)
    session = zl.load(tmp_path / f"{name}.onnx")
    task_checks.check(name, session.run).require()
    if name in MEASURES:
        assert task(name)(session.run) >= 0.99


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_rounding_after_every_node_meets_the_bar(name: str, dtype: str, tmp_path: Path) -> None:
    """As a GPU would compute; ONNX Runtime's CPU provider keeps more digits than the file says."""
    converted(name, dtype, tmp_path)
    loaded = files.read(tmp_path / f"{name}.onnx", "testing")
    long = {"fp16": "float16", "bf16": "bfloat16"}[dtype]
    rounding = emulate(loaded.model, loaded.payloads, long)
    session = zl.load(files.fill(rounding, loaded.payloads).SerializeToString())
    task_checks.check(name, session.run).require()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_is_well_typed_and_half_as_large(name: str, dtype: str, tmp_path: Path) -> None:
    report = converted(name, dtype, tmp_path)
    proto = onnx.load(tmp_path / f"{name}.onnx")
    graphs.assert_tidy(proto)
    assert report.converted > len(report.kept)
    assert report.bytes_after == (tmp_path / f"{name}.onnx").stat().st_size
    most = 0.65 if (name, dtype) == (RECURRENT_IN_BF16, "bf16") else 0.55
    about = sum(len(entry.value) for entry in proto.metadata_props)  # the step, not the model
    assert report.bytes_after - about < most * report.bytes_before
    original = onnx.load(FOLDER / f"{name}.onnx")
    assert list(proto.graph.input) == list(original.graph.input)
    assert list(proto.graph.output) == list(original.graph.output)


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_and_outputs_change_too_if_asked(name: str, tmp_path: Path) -> None:
    kept = converted(name, "fp16", tmp_path)
    report = converted(name, "fp16", tmp_path, keep_io=False)
    graphs.assert_tidy(onnx.load(tmp_path / f"{name}.onnx"))
    session = zl.load(tmp_path / f"{name}.onnx")
    original = zl.load(FOLDER / f"{name}.onnx")
    for now, before in zip(
        (*session.inputs, *session.outputs), (*original.inputs, *original.outputs), strict=True
    ):
        assert now.dtype == {"float32": "float16"}.get(before.dtype or "", before.dtype)
        assert (now.name, now.shape) == (before.name, before.shape)
    assert report.casts_added < kept.casts_added

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        narrow = {s.name for s in session.inputs if s.dtype == "float16"}
        given = {k: v.astype(np.float16) if k in narrow else v for k, v in inputs.items()}
        given = {k: v for k, v in given.items() if k in {s.name for s in session.inputs}}
        return {
            k: v.astype(np.float32) if v.dtype == np.float16 else v
            for k, v in session.run(given).items()
        }

    task_checks.check(name, run).require()


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", TABLES)
def test_what_cannot_be_converted_stays_as_it_is(name: str, dtype: str, tmp_path: Path) -> None:
    report = converted(name, dtype, tmp_path)
    assert report.converted == 0
    assert report.casts == (0, 0)
    assert all(k.reason for k in report.kept)
    assert any("nothing to convert" in note for note in report.notes)
    assert all(e.max_abs == 0 and e.differing == 0 for e in report.errors)


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_a_transformer(dtype: str, tmp_path: Path) -> None:
    """Positions and masks stay float32, so nothing overflows; the embedding stays near."""
    inputs = {
        "input_ids": np.arange(24, dtype=np.int64).reshape(2, 12) * 7,
        "attention_mask": np.ones((2, 12), np.int64),
    }
    inputs["attention_mask"][1, 5:] = 0
    report = getattr(zl.optimize, dtype)(
        large.text_embed(), tmp_path / "m.onnx", samples=inputs, tolerance=0.03
    )
    graphs.assert_tidy(onnx.load(tmp_path / "m.onnx"))
    assert {k.op for k in report.kept} <= {"Sub", "Mul", "Unsqueeze", "ReduceL2"}
    assert report.converted > 60
    assert report.bytes_after < 0.51 * report.bytes_before
    assert report.casts[1] <= 6


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_twice_is_the_same_as_once(name: str, dtype: str, tmp_path: Path) -> None:
    converted(name, dtype, tmp_path)
    first = onnx.load(tmp_path / f"{name}.onnx")
    report = getattr(zl.optimize, dtype)(
        tmp_path / f"{name}.onnx", tmp_path / "again.onnx", verify=False
    )
    assert report.converted == 0
    assert report.casts_added == 0
    assert onnx.load(tmp_path / "again.onnx") == first
