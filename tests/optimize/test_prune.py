"""`zl.optimize.prune` and its command: trained networks, patterns, refusals."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

onnx = pytest.importorskip("onnx", reason="models are pruned with onnx")

import zerolane as zl  # noqa: E402
from tests.models import task_checks  # noqa: E402
from tests.models.task_checks import FOLDER  # noqa: E402
from tests.optimize import learned, nets  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.cli.main import cli  # noqa: E402
from zerolane.optimize.provenance import steps  # noqa: E402
from zerolane.optimize.pruning import choose  # noqa: E402
from zerolane.optimize.pruning import recover as recovering  # noqa: E402
from zerolane.optimize.pruning.sparsity import is_two_of_four, two_of_four  # noqa: E402

CNN = FOLDER / "digits_cnn.onnx"


def accuracy(model: Any) -> float:
    images, labels = learned.digits()[1]
    (logits,) = zl.load(model).run({"x": images}).values()
    return float((np.asarray(logits).argmax(1) == labels).mean())


def prune(model: Any, out: Path, **options: Any) -> zl.optimize.PruneReport:
    return zl.optimize.prune(model, out, progress=False, **options)


def weights_of(path: Path) -> dict[str, Any]:
    tensors = onnx.load(path).graph.initializer
    return {t.name: onnx.numpy_helper.to_array(t) for t in tensors}


def test_half_of_the_channels_of_a_network_trained_here(tmp_path: Path) -> None:
    """A quarter of the multiply-adds, and accuracy within 2 %, by recovery alone."""
    model, out = learned.model(), tmp_path / "m.onnx"
    before = accuracy(model.SerializeToString())
    assert before > 0.85
    samples = learned.digits()[0][0]
    report = prune(
        model, out, method="channels", ratio=0.5, samples=samples, metric="top1", accuracy=0.95
    )
    assert report.macs[1] < 0.3 * report.macs[0]
    assert report.channels[1] == report.channels[0] // 2
    assert report.bytes[1] == out.stat().st_size < 0.4 * report.bytes[0]
    assert report.score is not None
    assert report.score > 0.97
    assert accuracy(out) > before - 0.02
    raw = prune(model, tmp_path / "raw.onnx", method="channels", samples=samples, recover=False)
    assert raw.macs == report.macs
    assert accuracy(tmp_path / "raw.onnx") < before - 0.3  # so that recovery is what does it
    assert {layer.recovery for layer in report.layers} >= {"weights"}
    for layer in report.layers:
        assert layer.error is None or layer.error[1] <= layer.error[0]


@pytest.mark.parametrize(
    ("method", "most"),
    [
        *(("channels", most) for most in ("bias", "scale", "weights")),
        ("2:4", "scale"),
        ("magnitude", "weights"),
    ],
)
def test_each_step_of_recovery_gives_more(method: Any, most: Any, tmp_path: Path) -> None:
    image = task_checks.case_inputs("digits_cnn")["image"]
    more = np.concatenate([image, image[:, :, ::-1] * 0.5 + 0.1])
    scores = []
    for recover in (False, most):
        report = prune(CNN, tmp_path / "m.onnx", method=method, samples=more, recover=recover,
                       metric="cosine")  # fmt: skip
        scores.append(report.score or 0.0)
    assert scores[1] > scores[0]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_pattern_is_exact(ordered: bool, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    samples = task_checks.case_inputs("digits_cnn")
    report = prune(CNN, out, method="2:4", samples=samples, permute=ordered)
    weights = weights_of(out)
    names = [f"{k}.0.weight" for k in (1, 2, 3)]
    for name, axis in (*((n, 1) for n in names), ("6.weight", 1)):
        assert is_two_of_four(weights[name], axis)
        share = np.count_nonzero(weights[name]) / weights[name].size
        assert share == pytest.approx(0.5, abs=0.01)
    assert not is_two_of_four(weights["0.0.weight"], 1)
    assert [(u.op, u.reason) for u in report.unpruned] == [
        ("Conv", "its axis of 1 is no multiple of 4")
    ]
    gains = [layer.permuted for layer in report.layers]
    assert all(g > 1 for g in gains) if ordered else set(gains) == {1.0}
    task_checks.check("digits_cnn", zl.load(out).run).require()


def test_the_largest_of_four_stay() -> None:
    rng = np.random.default_rng(4)
    weight = rng.normal(size=(5, 12, 3))
    mask = two_of_four(weight, 1)
    for m, k in np.ndindex(5, 3):
        for start in range(0, 12, 4):
            four = np.abs(weight[m, start : start + 4, k])
            kept = set(np.flatnonzero(mask[m, start : start + 4, k]))
            assert kept == set(np.argsort(four)[2:])
    assert mask.sum() * 2 == mask.size
    assert two_of_four(np.ones((8, 2)), 0)[:, 0].tolist() == [True, True, False, False] * 2
    assert not is_two_of_four(weight, 1)
    assert is_two_of_four(weight * mask, 1)
    assert not is_two_of_four(weight * mask, 0)


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_smallest_magnitudes_become_zero(scope: Any, tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    report = prune(CNN, out, ratio=0.7, scope=scope)
    before = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(CNN).graph.initializer}
    after = weights_of(out)
    names = [n for n in after if n.endswith("weight")]
    zero = sum((after[n] == 0).sum() for n in names)
    assert zero == pytest.approx(0.7 * sum(after[n].size for n in names), abs=len(names))
    assert report.zeros == pytest.approx(0.7, abs=1e-3)
    gone = np.concatenate([np.abs(before[n][after[n] == 0]) for n in names])
    kept = np.concatenate([np.abs(before[n][after[n] != 0]) for n in names])
    if scope == "global":
        assert gone.max() <= kept.min()
    for n in names:
        np.testing.assert_array_equal(after[n][after[n] != 0], before[n][after[n] != 0])
        if scope == "layer":
            assert (after[n] == 0).mean() == pytest.approx(0.7, abs=0.01)


def test_of_equal_magnitudes_exactly_as_many_go(tmp_path: Path) -> None:
    net = nets.Net(("N", 10))
    weight = net.constant(np.array([[1, -1, 1, 2, 1, -2, 1]] * 10, np.float32))
    report = prune(net.model(net.add("MatMul", "x", weight)), tmp_path / "m.onnx", ratio=0.3)
    (after,) = weights_of(tmp_path / "m.onnx").values()
    assert (after == 0).sum() == 21
    assert (np.abs(after) == 2).sum() == 20
    assert report.notes == ("not recovered: there are no samples",)


def test_what_is_named_stays(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    report = prune(CNN, out, method="channels", ratio=0.5, keep=["node:node_Conv_3[56]"])
    after = weights_of(out)
    assert [after[f"{k}.0.weight"].shape[0] for k in range(4)] == [16, 32, 64, 32]
    assert [u.reason for u in report.unpruned].count("asked for") == 2
    prune(CNN, out, method="2:4", keep=["Gemm"])
    assert (weights_of(out)["6.weight"] != 0).all()


def test_unused_outputs_and_what_only_they_need(tmp_path: Path) -> None:
    net = nets.Net(("N", 3, 8, 8))
    x = net.conv("x", 3, 16)
    y, z = net.conv(x, 16, 4), net.conv(net.conv(x, 16, 40), 40, 2)
    net.conv(x, 16, 8)  # nothing reads it
    report = prune(net.model(y, z), tmp_path / "m.onnx", method="channels", outputs=[y])
    assert [s.name for s in zl.load(tmp_path / "m.onnx").outputs] == [y]
    assert report.nodes == (5, 2)
    assert any("3 nodes removed" in note for note in report.notes)


def test_a_latency_target(tmp_path: Path) -> None:
    """What is measured here decides, so only both ends are looked at."""
    model = learned.model()
    samples = learned.digits()[0][0][:256]
    now = zl.bench(model.SerializeToString(), inputs={"x": samples}, seconds=0.2)
    easy = prune(model, tmp_path / "a.onnx", method="channels", samples=samples,
                 recover=False, target_ms=now.latency_us.p50 / 1e3 * 20)  # fmt: skip
    assert easy.ratio == 0
    assert easy.channels[0] == easy.channels[1]
    with pytest.raises(zl.Unsupported, match="expected 1e-06 ms") as caught:
        prune(model, tmp_path / "b.onnx", method="channels", samples=samples, target_ms=1e-6)
    assert_three_parts(str(caught.value))
    assert not (tmp_path / "b.onnx").exists()


@pytest.mark.parametrize("method", ["channels", "2:4", "magnitude"])
def test_external_data_in_and_out(method: Any, tmp_path: Path) -> None:
    source, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    onnx.save(onnx.load(CNN), source, save_as_external_data=True, size_threshold=0)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    samples = {"image": task_checks.case_inputs("digits_cnn")["image"][:5]}
    recover = method == "channels"
    prune(source, out, method=method, samples=samples, recover=recover)
    plain = tmp_path / "plain.onnx"
    prune(CNN, plain, method=method, samples=samples, recover=recover)
    assert (tmp_path / "out.onnx.data").exists()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    a, b = (zl.load(p).run(samples)["logits"] for p in (out, plain))
    np.testing.assert_array_equal(a, b)


def test_it_is_reproducible_and_tells_what_was_done(tmp_path: Path) -> None:
    samples = task_checks.case_inputs("digits_cnn")
    for name in ("a.onnx", "b.onnx"):
        prune(CNN, tmp_path / name, method="channels", samples=samples, ratio=0.3)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    (step,) = steps(onnx.load(tmp_path / "a.onnx"))
    assert step.step == "prune"
    assert step.options["ratio"] == 0.3
    assert step.options["method"] == "channels"


def test_what_is_held_of_the_original_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = learned.model(), [learned.digits()[0][0][i : i + 9] for i in range(0, 63, 9)]
    for name, most in (("a", 1 << 28), ("b", 1), ("c", 3_000_000)):
        monkeypatch.setattr(recovering, "_HELD_BYTES", most)
        prune(model, tmp_path / name, method="channels", samples=samples)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() == (tmp_path / "c").read_bytes()


def test_updates_made_together_are_those_made_one_by_one() -> None:
    """Against the inverse of what is left, computed anew; more elements go than are gathered."""
    rng = np.random.default_rng(0)
    size, gone = 211, 150
    x = rng.standard_normal((500, size)) @ rng.standard_normal((size, size))
    spread = x.T @ x / 500 + np.eye(size)
    taker = choose._Taker(np.arange(size) // 2, np.ones(size), np.linalg.inv(spread))
    order = rng.permutation(size // 2)[: gone // 2]  # classes of two elements each
    for chosen in order:
        taker.take_out(int(chosen))
    left = taker.place >= 0
    assert left.sum() == size - gone
    wanted = np.diag(np.linalg.inv(spread[np.ix_(left, left)]))
    np.testing.assert_allclose(taker.diagonal[left], wanted, rtol=1e-6)


def test_progress_is_told_from_the_first_sample_on(tmp_path: Path) -> None:
    told: list[tuple[float, str]] = []
    zl.optimize.prune(
        learned.model(),
        tmp_path / "m.onnx",
        method="channels",
        samples=learned.digits()[0][0][:20],
        progress=lambda done, doing: told.append((done, doing)),
    )
    assert told[0] == (0.0, "seeing sample 1 of 1")
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert {doing.split()[0] for _, doing in told} == {"seeing", "ranking", "recovering", "pruned"}
    assert told[-1] == (1.0, "pruned")


def test_accuracy_that_is_not_kept(tmp_path: Path) -> None:
    samples = task_checks.case_inputs("digits_cnn")
    with pytest.raises(zl.optimize.AccuracyLost, match=r"expected at least 0\.99") as caught:
        prune(CNN, tmp_path / "m.onnx", method="channels", ratio=0.9, samples=samples,
              metric="top1", accuracy=0.99)  # fmt: skip
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


def quantized() -> onnx.ModelProto:
    net = nets.Net((4, 8))
    scale, zero = net.constant(np.float32(0.1)), net.constant(np.int8(0))
    x = net.add("DequantizeLinear", net.add("QuantizeLinear", "x", scale, zero), scale, zero)
    return net.model(net.gemm(x, 8, 4))


def nothing_to_prune() -> onnx.ModelProto:
    net = nets.Net((4, 8))
    return net.model(net.gemm("x", 8, 4))


BAD = np.full((2, 1, 8, 8), np.nan, np.float32)


@pytest.mark.parametrize(
    ("options", "kind", "word"),
    [
        ({"method": "rows"}, zl.InvalidArgument, "'rows'"),
        ({"ratio": 1.0}, zl.InvalidArgument, "ratio is 1.0"),
        ({"ratio": "half"}, zl.InvalidArgument, "ratio is 'half'"),
        ({"method": "2:4", "ratio": 0.7}, zl.InvalidArgument, "2:4"),
        ({"scope": "all"}, zl.InvalidArgument, "scope is 'all'"),
        ({"recover": "training"}, zl.InvalidArgument, "recover"),
        ({"target_ms": 3}, zl.InvalidArgument, "method='channels'"),
        ({"method": "channels", "target_ms": -1}, zl.InvalidArgument, "target_ms is -1"),
        ({"accuracy": 0.9}, zl.InvalidArgument, "without samples"),
        ({"metric": "top1"}, zl.InvalidArgument, "without samples"),
        ({"metric": "top7", "samples": np.zeros((2, 1, 8, 8), np.float32)},
         zl.InvalidArgument, "top7"),
        ({"samples": BAD}, zl.InvalidArgument, "NaN"),
        ({"samples": BAD[0]}, zl.ShapeMismatch, "batch axis"),
        ({"samples": []}, zl.InvalidArgument, "no sample"),
        ({"keep": ["conv9"]}, zl.InvalidArgument, "conv9"),
        ({"outputs": ["logit"]}, zl.InvalidArgument, "logit"),
    ],
)  # fmt: skip
def test_wrong_arguments(
    options: dict[str, Any], kind: type[Exception], word: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=word) as caught:
        prune(CNN, tmp_path / "m.onnx", **options)
    assert_three_parts(str(caught.value))
    assert list(tmp_path.iterdir()) == []


def test_models_that_cannot_be_pruned(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    for model, method, word in (
        (quantized(), "magnitude", "quantized already"),
        (nothing_to_prune(), "channels", "it is the output"),
        (FOLDER / "wine_forest.onnx", "channels", "no Conv, Gemm or MatMul"),
        (FOLDER / "wine_forest.onnx", "magnitude", "no Conv, Gemm or MatMul"),
    ):
        with pytest.raises(zl.Unsupported, match=word) as caught:
            prune(model, out, method=method)
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidModel):
        prune(b"no model", out)
    with pytest.raises(zl.NotFound):
        prune(tmp_path / "none.onnx", out)
    with pytest.raises(zl.InvalidArgument, match="overwrite"):
        prune(CNN, CNN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "method"),
    [
        *((name, "channels") for name in ("digit_det", "line_ctc", "stream_vad", "ttt_policy")),
        ("digit_det", "2:4"),
        ("stream_vad", "magnitude"),
    ],
)
def test_trained_models_still_run(name: str, method: Any, tmp_path: Path) -> None:
    samples = {key: value[:2] for key, value in task_checks.case_inputs(name).items()}
    if name == "stream_vad":
        samples = task_checks.case_inputs(name)
    report = prune(FOLDER / f"{name}.onnx", tmp_path / "m.onnx", method=method, samples=samples)
    assert report.layers
    original, small = zl.load(FOLDER / f"{name}.onnx"), zl.load(tmp_path / "m.onnx")
    assert [(s.name, s.shape) for s in small.outputs] == [
        (s.name, s.shape) for s in original.outputs
    ]
    assert small.run(samples).keys() == original.run(samples).keys()
    json.dumps(report.as_dict())
    assert report.layers[0].node in str(report)


def test_the_command(tmp_path: Path) -> None:
    out, samples = tmp_path / "m.onnx", tmp_path / "s"
    samples.mkdir()
    images = task_checks.case_inputs("digits_cnn")["image"]
    for part in range(4):
        np.savez(samples / f"{part}.npz", image=images[part * 8 : part * 8 + 8])
    arguments = ["prune", os.fspath(CNN), os.fspath(out), "--method", "channels"]
    done = CliRunner().invoke(cli, [*arguments, "--samples", os.fspath(samples), "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["macs"][1] < 0.4 * told["macs"][0]
    assert told["metric"] == "cosine"
    assert CliRunner().invoke(cli, [*arguments, "--ratio", "2"]).exit_code == 2
    lost = [*arguments, "--samples", os.fspath(samples), "--ratio", "0.9", "--accuracy", "0.999"]
    assert CliRunner().invoke(cli, lost).exit_code == 1
    shown = CliRunner().invoke(cli, arguments)
    assert "5 layers pruned" in shown.stdout
