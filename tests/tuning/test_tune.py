"""`zl.tune` on a trained model: what it makes, keeps, writes, and what `zl.load` does with it."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="artefacts are made with onnx")

from click.testing import CliRunner  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models.task_checks import FOLDER, case_inputs, load_case  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.tuning.result import Row, TuneResult, pareto  # noqa: E402
from zerolane.tuning.setting import Setting  # noqa: E402

MLP = FOLDER / "digits_mlp.onnx"
DIGITS = FOLDER / "digits_cnn.onnx"
SMALL = {"graph_levels": ("all",), "threads": (1,), "artefacts": ("original", "int8", "fp16")}


def samples(count: int = 6) -> list[dict[str, Any]]:
    images = load_case("digits_cnn")["image"]
    return [{"image": images[i : i + 1]} for i in range(count)]


def tuned(folder: Path | None = None, **options: Any) -> TuneResult:
    given = {"budget_s": 600.0, "space": SMALL, "progress": False} | options
    return zl.tune(DIGITS, samples(), folder=folder, **given)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> TuneResult:
    """A search to its end, long before the budget's: blocks have 200 calls at most."""
    return tuned(tmp_path_factory.mktemp("search"))


def test_all_of_the_space_is_measured(found: TuneResult) -> None:
    assert {r.artefact for r in found.rows} == {"original", "int8", "fp16"}
    assert found.ok
    assert found.best in found.rows
    assert {item.what for item in found.left_out} >= {"tensorrt"}
    original = found.original
    assert original is not None
    assert original.speedup == 1.0
    assert original.accuracy == 1.0
    assert all(r.accuracy >= 0.99 and r.bytes > 0 and r.p99_ms >= r.p50_ms for r in found.rows)
    assert any(r.pareto for r in found.rows)
    json.dumps(found.as_dict())
    assert "best:" in str(found)
    assert "worth having" in str(found)


def test_artefacts_are_named_after_the_model_and_run(found: TuneResult) -> None:
    assert sorted(p.name for p in found.folder.iterdir()) == [
        "digits_cnn.fp16.onnx",
        "digits_cnn.int8.onnx",
        "journal.jsonl",
    ]
    zl.load(found.folder / "digits_cnn.int8.onnx").run(samples()[0])


def test_a_second_search_makes_and_measures_nothing_twice(found: TuneResult) -> None:
    stamps = {p.name: p.stat().st_mtime_ns for p in found.folder.glob("*.onnx")}
    before = (found.folder / "journal.jsonl").read_text().splitlines()
    again = tuned(found.folder, budget_s=0.3)
    assert again.resumed
    assert not found.resumed
    assert {p.name: p.stat().st_mtime_ns for p in found.folder.glob("*.onnx")} == stamps
    after = (found.folder / "journal.jsonl").read_text().splitlines()
    assert after[: len(before)] == before
    blocks = [json.loads(line) for line in after]
    keys = [(b["setting"], b["sweep"]) for b in blocks if "us" in b]
    assert len(keys) == len(set(keys))


def test_another_model_is_refused(found: TuneResult) -> None:
    with pytest.raises(zl.InvalidArgument, match=r"another model.*give another folder"):
        zl.tune(MLP, case_inputs("digits_mlp"), folder=found.folder, space=SMALL, progress=False)
    with pytest.raises(zl.InvalidArgument, match="other options"):
        tuned(found.folder, accuracy=0.5)
    with pytest.raises(zl.InvalidArgument, match="other samples"):
        zl.tune(DIGITS, samples(2), folder=found.folder, space=SMALL, progress=False)


def test_a_changed_artefact_is_made_anew(found: TuneResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(found.folder, folder)
    (folder / "digits_cnn.fp16.onnx").write_bytes(b"something else")
    again = tuned(folder)
    assert again.files["fp16"]["sha256"] == found.files["fp16"]["sha256"]
    zl.load(folder / "digits_cnn.fp16.onnx")


def chosen(found: TuneResult, artefact: str) -> TuneResult:
    """The same result with a setting of this artefact as its best, whatever was the fastest."""
    rows = sorted(found.rows, key=lambda r: r.artefact != artefact)
    return replace(found, rows=(replace(rows[0], dropped=""), *rows[1:]))


def test_saved_and_applied(found: TuneResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(found.folder, folder)
    result = replace(chosen(found, "int8"), folder=folder)
    (tmp_path / "sub").mkdir()
    path = tmp_path / "sub" / "tuned.toml"
    result.save(path)
    told = tomllib.loads(path.read_text())
    assert told["artefact"]["path"] == "../copy/digits_cnn.int8.onnx"
    assert told["use"] == {"lanes": 1, "batch": 0}
    session = zl.load(DIGITS, tuned=path)
    assert session.options.threads == 1
    wanted = zl.load(folder / "digits_cnn.int8.onnx").run(samples()[0])
    assert (session.run(samples()[0])["logits"] == wanted["logits"]).all()
    # By name over the file's own; and the whole tree may be moved.
    assert zl.load(DIGITS, tuned=path, threads=2).options.threads == 2
    moved = tmp_path.parent / f"{tmp_path.name}-moved"
    tmp_path.rename(moved)
    assert zl.load(DIGITS, tuned=moved / "sub" / "tuned.toml").run(samples()[0])


def test_the_original_may_be_the_best(found: TuneResult, tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    chosen(found, "original").save(path)
    assert "path" not in tomllib.loads(path.read_text())["artefact"]
    assert zl.load(DIGITS.read_bytes(), tuned=path).run(samples()[0])


def test_what_does_not_belong_together_is_refused(found: TuneResult, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(found.folder, folder)
    result = replace(chosen(found, "int8"), folder=folder)
    path = tmp_path / "tuned.toml"
    result.save(path)
    with pytest.raises(zl.InvalidArgument, match=r"was written for digits_cnn.onnx.*tune this one"):
        zl.load(MLP, tuned=path)
    with pytest.raises(zl.InvalidArgument, match=r"tuned for onnxruntime.*backend='tensorrt'"):
        zl.load(DIGITS, tuned=path, backend="tensorrt")
    with pytest.raises(zl.InvalidArgument, match="options= was given too"):
        zl.load(DIGITS, tuned=path, options=zl.Options())
    with pytest.raises(zl.NotFound, match=r"there is no such file.*check the path"):
        zl.load(DIGITS, tuned=tmp_path / "none.toml")
    good = path.read_text()
    for old, new, error, text in (
        ("version = 1", "version = 2", zl.InvalidArgument, "version is 2, expected 1"),
        ("version = 1", "version = ", zl.InvalidArgument, "cannot be read"),
        ('backend = "onnxruntime"', "", zl.InvalidArgument, "'backend' is missing"),
        ('"onnxruntime"', '"x"', zl.InvalidArgument, "backend is 'x', expected one of"),
        ('backend = "onnxruntime"', 'backend = "tensorrt"', zl.Unavailable, "tune again on this"),
    ):
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(error, match=text):
            zl.load(DIGITS, tuned=path)
    path.write_text(good)
    artefact = folder / "digits_cnn.int8.onnx"
    data = artefact.read_bytes()
    artefact.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(zl.InvalidModel, match="not the file that was measured"):
        zl.load(DIGITS, tuned=path)
    artefact.unlink()
    with pytest.raises(zl.NotFound, match=r"its artefact is not at.*move it there"):
        zl.load(DIGITS, tuned=path)


def test_without_a_folder_the_artefact_is_copied(tmp_path: Path) -> None:
    result = tuned(space=SMALL | {"artefacts": ("int8",)})
    # The original is the baseline, measured in any case.
    assert {r.artefact for r in result.rows} == {"original", "int8"}
    folder = result.folder
    chosen(result, "int8").save(tmp_path / "tuned.toml")
    del result
    assert not folder.exists()
    assert (tmp_path / "digits_cnn.int8.onnx").is_file()
    zl.load(DIGITS, tuned=tmp_path / "tuned.toml")


def test_a_model_that_cannot_be_bound_is_called() -> None:
    inputs = case_inputs("mixed_table")
    space = SMALL | {"artefacts": ("original",), "graph_levels": ("all", "basic")}
    result = zl.tune(FOLDER / "mixed_table.onnx", inputs, space=space, progress=False)
    assert len(result.rows) == 2


def test_an_artefact_below_the_floor_is_left_out() -> None:
    def harsh(run: Any) -> float:
        exact = zl.load(DIGITS).run(samples()[0])["logits"]
        return 1.0 if np.array_equal(run(samples()[0])["logits"], exact) else 0.5

    result = tuned(metric=harsh, space=SMALL | {"artefacts": ("original", "fp16")})
    reasons = {item.what: item.reason for item in result.left_out}
    assert "keeps 0.5000 of the original's score, at least 0.99 is wanted" in reasons["fp16"]
    assert {r.artefact for r in result.rows} == {"original"}


def test_no_time_for_artefacts_is_said() -> None:
    result = tuned(budget_s=0.01)
    reasons = {item.what: item.reason for item in result.left_out}
    assert reasons["int8"].startswith("not made: half of the budget was used ")
    assert [r.setting for r in result.rows] == [result.baseline]
    assert not result.complete
    assert "the budget ended first" in str(result)


def test_a_metric_that_takes_longer_than_the_budget_is_not_waited_for(tmp_path: Path) -> None:
    answered = []

    def patient(run: Any) -> float:
        while True:  # until its run is refused
            answered.append(run(samples()[0]))

    result = tuned(tmp_path, budget_s=0.2, metric=patient)
    reasons = {item.what: item.reason for item in result.left_out}
    assert reasons["int8"] == "not made: half of the budget was used for scoring the original"
    assert answered
    assert result.best.setting == result.baseline
    assert {path.name for path in tmp_path.iterdir()} == {"journal.jsonl"}


def test_throughput_has_lanes_and_batches() -> None:
    result = tuned(
        goal="throughput",
        space={**SMALL, "artefacts": ("original",), "lanes": (1, 2), "batches": (1, 5)},
    )
    settings = {(r.lanes, r.batch) for r in result.rows}
    assert settings == {(1, 1), (2, 1), (1, 5), (2, 5)}
    assert all(r.rows_per_s > 0 for r in result.rows)


def test_a_limit_that_nothing_keeps(tmp_path: Path) -> None:
    result = tuned(p99_ms=1e-6, space=SMALL | {"artefacts": ("original",)})
    assert not result.ok
    assert result.as_dict()["best"] is None
    with pytest.raises(zl.NotFound, match=r"the least p99 is .* ms.*expected p99 <="):
        result.save(tmp_path / "tuned.toml")


def row(artefact: str, speedup: float, accuracy: float, size: int, p50: float = 1.0) -> Row:
    setting, nothing = Setting(artefact), (0.0, 0.0)
    return Row(setting, p50, p50, nothing, 1.0, speedup, nothing, accuracy, size, 5, 5)


def test_pareto() -> None:
    rows = [row("original", 1.0, 1.0, 100), row("int8", 3.0, 0.99, 25), row("fp16", 0.9, 0.99, 50)]
    assert pareto(rows, "latency") == [True, True, False]
    rows[2] = row("fp16", 0.9, 1.0, 50)
    assert pareto(rows, "latency") == [True, True, True]
    slow = [row("original", 2.0, 1.0, 100, p50=9.0), row("original", 1.0, 1.0, 100)]
    assert pareto(slow, "latency") == [True, False]
    assert pareto(slow, "throughput") == [True, True]  # a shorter wait is worth something there


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"budget_s": 0}, "budget_s is 0, expected seconds above 0"),
        ({"accuracy": 1.5}, "accuracy is 1.5"),
        ({"p99_ms": -1}, "p99_ms is -1"),
        ({"goal": "speed"}, "goal is 'speed', expected 'latency' or 'throughput'"),
        ({"seed": True}, "seed is True"),
        ({"metric": "nothing"}, "there is no metric 'nothing'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(zl.InvalidArgument, match=text):
        tuned(**options)


def test_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    np.savez("s.npz", **samples(1)[0])
    done = CliRunner().invoke(
        cli,
        [
            *("tune", str(DIGITS), "--samples", "s.npz", "--budget", "1", "--out", "o", "--json"),
            *("--plot", "--report", "r.html"),
        ],
    )
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["best"]["setting"]["backend"] == "onnxruntime"
    zl.load(DIGITS, tuned="o/tuned.toml")
    assert Path("o/tuned.png").read_bytes()[:4] == b"\x89PNG"
    assert "Speed against accuracy" in Path("r.html").read_text()
    again = CliRunner().invoke(
        cli, ["tune", str(DIGITS), "--samples", "s.npz", "--p99-ms", "1", "--out", "o"]
    )
    assert again.exit_code == 2
    assert "other options" in again.stderr
