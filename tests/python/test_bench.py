"""`zl.bench`. No test looks at how long anything takes."""

from __future__ import annotations

import dataclasses
import gc
import json
from functools import partial
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests.models import small, task_checks  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.measure.bench import LABELS  # noqa: E402
from zerolane.measure.peer import Peer  # noqa: E402
from zerolane.measure.timing import Latency, Ratio, Timing, interleave  # noqa: E402

RELU = small.relu().SerializeToString()


@pytest.mark.parametrize("mode", ["bound", "call", "run"])
def test_result(mode: Any) -> None:
    result = zl.bench(RELU, mode=mode, calls=37, warmup=2)
    us = result.latency_us
    assert result.label == LABELS[mode]
    assert result.calls == len(result.samples_us) == 37
    assert 0 < result.samples_us.min() <= us.p50 <= us.p90 <= us.p99 <= us.p999 <= us.max
    assert us.max == result.samples_us.max()
    assert result.throughput == pytest.approx(1e6 / us.mean)
    assert result.threads == 1
    assert result.shapes == {"x": (1, 4)}
    assert result.peer is result.speedup is result.agreement is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.calls = 1  # type: ignore[misc]
    assert json.loads(json.dumps(result.as_dict()))["latency_us"]["p50"] == us.p50
    assert "p99.9" in str(result)


def test_against_the_peer() -> None:
    pytest.importorskip("onnxruntime", reason="the peer")
    path = task_checks.FOLDER / "digits_cnn.onnx"
    result = zl.bench(path, shapes="image:2x1x8x8", calls=25, vs="onnxruntime", threads=2)
    assert result.peer is not None
    assert result.speedup is not None
    assert result.agreement is not None
    assert result.agreement.ok
    assert [o.elements for o in result.agreement.outputs] == [20]
    assert result.peer.label == "onnxruntime run"
    assert result.peer.calls == result.calls == 25
    assert result.peer.shapes == result.shapes == {"image": (2, 1, 8, 8)}
    assert result.peer.threads == result.threads == 2
    assert 0 < result.speedup.p25 <= result.speedup.median <= result.speedup.p75
    assert "onnxruntime run" in str(result)
    assert result.as_dict()["peer"]["label"] == "onnxruntime run"


def test_wrong_answers_do_not_go_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime", reason="the peer")
    right = Peer.__call__
    monkeypatch.setattr(
        Peer, "__call__", lambda self, x: {k: v + 1 for k, v in right(self, x).items()}
    )
    result = zl.bench(RELU, calls=3, warmup=1, vs="onnxruntime")
    assert result.agreement is not None
    assert not result.agreement.ok


@pytest.mark.parametrize("name", ["mixed_table", "wine_forest", "stream_vad", "ttt_policy"])
def test_trained_models_with_the_peer(name: str) -> None:
    pytest.importorskip("onnxruntime", reason="the peer")
    path = task_checks.FOLDER / f"{name}.onnx"
    inputs = task_checks.case_inputs(name)
    result = zl.bench(path, inputs=inputs, calls=5, warmup=1, mode="run", vs="onnxruntime")
    assert result.agreement is not None
    assert result.agreement.ok, result.agreement
    assert result.shapes == {k: np.shape(v) for k, v in inputs.items()}


def test_a_session_keeps_its_threads() -> None:
    session = zl.load(RELU, threads=2)
    assert zl.bench(session, calls=3).threads == 2
    with pytest.raises(zl.InvalidArgument, match="threads=1") as caught:
        zl.bench(session, calls=3, threads=1)
    assert_three_parts(str(caught.value))


def test_inputs_are_not_changed_and_not_needed_in_order() -> None:
    a = np.full((1, 4), 2, np.float32)
    b = np.ones((1, 4), np.float32)
    zl.bench(small.add().SerializeToString(), inputs={"b": b, "a": a}, calls=3)
    assert (a == 2).all()
    assert (b == 1).all()


def test_optional_inputs_may_be_given() -> None:
    scale = np.array([3], np.float32)
    model = small.overridable_initializer().SerializeToString()
    for mode in ("call", "run", "bound"):
        result = zl.bench(model, inputs={"scale": scale}, calls=3, mode=mode)  # type: ignore[arg-type]
        assert set(result.shapes) == {"scale", "x"}


def test_strings_cannot_be_bound() -> None:
    with pytest.raises(zl.Unsupported, match="mode='call'") as caught:
        zl.bench(task_checks.FOLDER / "mixed_table.onnx", calls=3)
    assert_three_parts(str(caught.value))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "fast"},
        {"vs": "tensorflow"},
        {"calls": 0},
        {"calls": 2.5},
        {"seconds": 0},
        {"seconds": float("nan")},
        {"warmup": -1},
        {"inputs": {"nope": 1}},
        {"shapes": "nope"},
        {"seed": -1},
    ],
)
def test_wrong_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.bench(RELU, **wrong)
    assert_three_parts(str(caught.value))


def test_progress_is_told() -> None:
    told: list[tuple[float, str]] = []
    zl.bench(RELU, calls=10, progress=lambda done, doing: told.append((done, doing)))
    fractions = [done for done, _ in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("zerolane b()" in doing for _, doing in told)


def test_blocks_take_turns_and_start_with_an_untimed_call() -> None:
    log: list[str] = []
    contestants = {"a": [partial(log.append, "a")], "b": [partial(log.append, "b")]}
    times = interleave(contestants, calls=10, seconds=1, warmup=1, report=lambda *_: None)
    assert "".join(log) == "ab" + ("a" * 6 + "b" * 6) * 2
    assert [len(t.samples_us) for t in times.values()] == [10, 10]
    assert [len(t.blocks_us) for t in times.values()] == [2, 2]


def test_calls_are_made_in_turn() -> None:
    log: list[int] = []
    calls = {"a": [partial(log.append, n) for n in range(3)]}
    interleave(calls, calls=5, seconds=1, warmup=1, report=lambda *_: None)
    assert log == [0, 1, 2, 0, 1, 2, 0]


def test_collector_is_off_while_timing_and_on_after() -> None:
    seen: list[bool] = []

    def call() -> None:
        seen.append(gc.isenabled())
        if len(seen) == 8:
            raise KeyboardInterrupt

    assert gc.isenabled()
    with pytest.raises(KeyboardInterrupt):
        interleave({"a": [call]}, calls=50, seconds=1, warmup=1, report=lambda *_: None)
    assert gc.isenabled()
    assert not any(seen[1:])


def test_statistics() -> None:
    latency = Latency.of(np.arange(1.0, 1002.0))
    assert (latency.p50, latency.p90, latency.p99, latency.max) == (501, 901, 991, 1001)
    assert latency.p999 == pytest.approx(1000)
    none = np.array([], np.float64)
    ours, theirs = Timing(none, np.array([1.0, 2, 4])), Timing(none, np.array([2.0, 6, 16]))
    assert Ratio.of(theirs, ours) == Ratio(3, 2.5, 3.5)
