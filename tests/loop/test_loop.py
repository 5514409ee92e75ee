"""Loops from Python: ticks, mailboxes, misses, failures, closing."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.loop import models
from tests.models import small
from tests.python.messages import assert_three_parts

X = np.float32([[1, 2, 3]])


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + child.PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def hung_loop(**options: Any) -> tuple[zl.Loop, np.ndarray]:
    """A loop whose next run lasts until it is cancelled; and the steps it is told."""
    session = zl.load(small.long_loop(8).SerializeToString(), threads=1)
    binding = session.bind(np.array(1), (8, 8))
    loop = zl.Loop(binding, trigger="x", **options)
    return loop, np.array(10**12)


def test_the_page_of_the_design() -> None:
    session = models.doubler()
    loop = zl.Loop(session.bind(x=(1, 3)), rate_hz=1000, overrun="skip")
    with loop:
        loop.inputs["x"].write(X)
        y, age_ms = loop.outputs["y"].read()
        np.testing.assert_array_equal(y, 2 * X)
        assert age_ms >= 0
        until(lambda: loop.stats().runs >= 5)
        stats = loop.stats()
    assert stats.ticks >= stats.runs + stats.waiting
    assert stats.call_us.count >= 5
    assert 0 < stats.call_us.p50 <= stats.call_us.p99 <= stats.call_us.max
    assert stats.missed.run_failed == stats.missed.input_stale == 0
    assert stats.missed.total == stats.missed.woke_late + stats.missed.ran_long
    assert set(stats.as_dict()["missed"]) == {"woke_late", "ran_long", "run_failed", "input_stale"}
    assert 0 <= stats.missed_share <= 1
    assert loop.outputs["y"].read().value.shape == (1, 3)  # still there


def test_metrics_of_a_loop() -> None:
    name = "loop of the metrics"
    with zl.Loop(models.doubler().bind(x=(1, 3)), rate_hz=2000, name=name) as loop:
        loop.inputs["x"].write(X)
        until(lambda: loop.stats().runs >= 20)
    stats = loop.stats()

    def one(metric: str, **labels: str) -> dict[str, Any]:
        series = zl.metrics()[metric]["series"]
        return next(s for s in series if s["labels"] == {"loop": name, **labels})

    assert one("zerolane_loop_runs_total")["value"] == stats.runs
    assert one("zerolane_loop_run_seconds")["count"] == stats.call_us.count
    assert one("zerolane_loop_late_seconds")["count"] > 0
    assert one("zerolane_loop_age_seconds")["count"] > 0
    for cause, missed in stats.as_dict()["missed"].items():
        assert one("zerolane_loop_missed_ticks_total", cause=cause)["value"] == missed


def test_nothing_runs_before_every_input_was_written() -> None:
    session = models.counter()
    with zl.Loop(session.bind(), rate_hz=5000) as loop:
        loop.inputs["x"].write([1])
        until(lambda: loop.stats().waiting >= 3)
        assert loop.stats().runs == 0
        assert loop.outputs["y"].latest == 0
        loop.inputs["h"].write([20])
        assert loop.outputs["y"].read(timeout_s=child.PATIENCE_S).value == [21]


def test_state_is_fed_back_from_what_the_binding_holds() -> None:
    binding = models.counter().bind()
    binding.inputs["h"][...] = 100
    loop = zl.Loop(binding, trigger="x", feedback={"h_out": "h"})
    assert set(loop.inputs) == {"x"}
    assert set(loop.outputs) == {"y", "h_out"}
    with loop:
        for i in range(20):
            loop.inputs["x"].write([i])
            assert loop.outputs["h_out"].wait(i, child.PATIENCE_S)
            assert loop.outputs["y"].read().value == [100 + 2 * i]
    assert binding.inputs["h"] == [120]


def test_a_failed_run_is_counted_kept_and_raised_once() -> None:
    loop = zl.Loop(models.picker().bind(), trigger="i", safe={"y": [-1.0]})
    loop.start()
    answers = []
    for i, index in enumerate((3, 99, 4)):
        loop.inputs["i"].write([index])
        assert loop.outputs["y"].wait(i, child.PATIENCE_S)
        reading = loop.outputs["y"].read()
        answers.append((reading.value.item(), reading.safe))
    assert answers == [(13, False), (-1, True), (14, False)]
    until(lambda: loop.stats().ticks == 3)
    assert loop.stats().missed.run_failed == 1
    assert loop.stats().safe_outputs == 1
    with pytest.raises(zl.InvalidArgument, match="99"):
        loop.close()
    loop.close()
    assert loop.outputs["y"].read().safe  # a closed loop leaves its safe output
    assert loop.stats().runs == 3


def test_the_error_of_the_block_is_the_one_to_see(caplog: pytest.LogCaptureFixture) -> None:
    loop = zl.Loop(models.picker().bind(), trigger="i")

    def block() -> None:
        with loop:
            loop.inputs["i"].write([99])
            until(lambda: loop.stats().missed.run_failed == 1)
            raise KeyError("of the block")

    with caplog.at_level(logging.ERROR, "zerolane.loop"), pytest.raises(KeyError):
        block()
    assert "before the block" in caplog.text
    assert "99" in caplog.text


def test_a_hanging_run_gives_the_safe_output_and_is_ended() -> None:
    safe = np.full((8, 8), 7, np.float32)
    loop, steps = hung_loop(deadline_ms=30, safe={"y": safe})
    with loop:
        loop.inputs["steps"].write(steps)
        loop.inputs["x"].write(np.ones((8, 8), np.float32))
        reading = loop.outputs["y"].read(timeout_s=child.PATIENCE_S)
        assert reading.safe
        np.testing.assert_array_equal(reading.value, safe)
        until(lambda: loop.stats().missed.total == 1)
        loop.inputs["steps"].write(np.array(1))

        def answered() -> bool:
            loop.inputs["x"].write(np.ones((8, 8), np.float32))
            time.sleep(0.01)
            return not loop.outputs["y"].read().safe

        until(answered)  # the cancel has reached that run alone


def test_closing_ends_a_hanging_run_and_frees_the_binding() -> None:
    session = zl.load(small.long_loop(8).SerializeToString(), threads=1)
    binding = session.bind(np.array(1), (8, 8))
    loop = zl.Loop(binding, trigger="x")
    with pytest.raises(zl.InvalidArgument, match="a loop runs it"):
        binding()
    with pytest.raises(zl.InvalidArgument):
        zl.Loop(binding, trigger="x")
    loop.start()
    loop.inputs["steps"].write(np.array(10**12))
    loop.inputs["x"].write(np.ones((8, 8), np.float32))
    until(lambda: loop.stats().running_ms > 0)
    loop.close()
    loop.close()
    assert not loop.running
    binding.inputs["steps"][...] = 1
    assert binding()["y"].shape == (8, 8)
    with pytest.raises(zl.InvalidArgument, match="started or closed before") as caught:
        loop.start()
    assert_three_parts(str(caught.value))
    never = zl.Loop(binding, rate_hz=1)
    never.close()
    binding()


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
def test_closing_returns_while_a_run_hears_nothing(timeout_s: float) -> None:
    """One operator that takes a second: it ends at its own time, and its thread with it."""
    session = zl.load(small.matmul_chain(1, 3072).SerializeToString(), threads=1)
    binding = session.bind(x=(3072, 3072))
    loop = zl.Loop(binding, trigger="x")
    loop.start()
    loop.inputs["x"].write(np.ones((3072, 3072), np.float32))
    until(lambda: loop.stats().running_ms > 0)
    with pytest.raises(zl.DeadlineExceeded, match="left behind") as caught:
        loop.close(timeout_s)
    assert_three_parts(str(caught.value))
    loop.close()  # again: nothing
    with pytest.raises(zl.InvalidArgument):
        binding()  # never free again
    until(lambda: not loop.running)
    gc.collect()


@pytest.mark.parametrize("options", [{"rate_hz": 2000}, {"trigger": "x"}])
def test_spinning(options: dict[str, Any]) -> None:
    with zl.Loop(models.doubler().bind(), spin_us=100, **options) as loop:
        for i in range(5):
            loop.inputs["x"].write(X * i)
            until(lambda i=i: loop.outputs["y"].read().value[0, 0] == 2 * i)


@pytest.mark.parametrize("policy", ["skip", "catch_up", "stop"])
def test_overruns(policy: Any) -> None:
    """A run of several periods' length."""
    session = zl.load(small.long_loop(64).SerializeToString(), threads=1)
    binding = session.bind(np.array(1), (64, 64))
    loop = zl.Loop(binding, rate_hz=20_000, overrun=policy)
    loop.start()
    loop.inputs["x"].write(np.ones((64, 64), np.float32))
    loop.inputs["steps"].write(np.array(20))
    if policy == "stop":
        until(lambda: not loop.running)
        with pytest.raises(zl.DeadlineExceeded, match="overrun") as caught:
            loop.close()
        assert_three_parts(str(caught.value))
        assert loop.stats().runs <= 1
        return
    until(lambda: loop.stats().runs >= 20)
    loop.close()
    stats = loop.stats()
    passed = stats.ticks - stats.waiting - stats.runs
    if policy == "skip":
        assert passed > 0
        assert stats.missed.total >= passed
    else:
        assert passed == 0
        assert stats.missed.ran_long > 0


def test_old_inputs_make_missed_ticks() -> None:
    options: dict[str, Any] = {"max_age_ms": 1e-6, "safe": {"y": np.zeros((1, 3), np.float32)}}
    with zl.Loop(models.doubler().bind(), rate_hz=1000, **options) as loop:
        loop.inputs["x"].write(X)
        assert loop.outputs["y"].read(timeout_s=child.PATIENCE_S).safe
        until(lambda: loop.stats().missed.input_stale >= 2)
    assert loop.stats().runs == 0


def test_loops_in_a_chain_carry_the_age() -> None:
    first = zl.Loop(models.doubler().bind(), trigger="x")
    second = zl.Loop(models.doubler().bind(), trigger="x", inputs={"x": first.outputs["y"]})
    with second, first:
        first.inputs["x"].write(X)
        reading = second.outputs["y"].read(timeout_s=child.PATIENCE_S)
        np.testing.assert_array_equal(reading.value, 4 * X)
        assert reading.age_ms >= first.outputs["y"].read().age_ms - 1e3


REFUSED: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    **{
        f"rate {rate}": ({"rate_hz": rate}, zl.InvalidArgument)
        for rate in (0, -1, float("nan"), float("inf"), 1e9, 1e-9, "fast", [1])
    },
    "no rate": ({}, zl.InvalidArgument),
    "rate and trigger": ({"rate_hz": 10, "trigger": "x"}, zl.InvalidArgument),
    "trigger's name": ({"trigger": "z"}, zl.InvalidArgument),
    "overrun": ({"rate_hz": 10, "overrun": "panic"}, zl.InvalidArgument),
    "catching up with a trigger": ({"trigger": "x", "overrun": "catch_up"}, zl.InvalidArgument),
    **{
        f"{name} {value}": ({"rate_hz": 10, name: value}, zl.InvalidArgument)
        for name in ("deadline_ms", "max_age_ms")
        for value in (0, -3, float("nan"), "soon")
    },
    "spin": ({"rate_hz": 10, "spin_us": -1}, zl.InvalidArgument),
    "spinning long": ({"rate_hz": 10, "spin_us": 1e5}, zl.InvalidArgument),
    "safe's name": ({"rate_hz": 10, "safe": {"z": X}}, zl.InvalidArgument),
    "safe's shape": ({"rate_hz": 10, "safe": {"y": X[0]}}, zl.ShapeMismatch),
    "safe's dtype": ({"rate_hz": 10, "safe": {"y": X.astype("f8")}}, zl.InvalidArgument),
    "feedback's output": ({"rate_hz": 10, "feedback": {"z": "x"}}, zl.InvalidArgument),
    "feedback's input": ({"rate_hz": 10, "feedback": {"y": "z"}}, zl.InvalidArgument),
    "feedback is the trigger": ({"trigger": "x", "feedback": {"y": "x"}}, zl.InvalidArgument),
    "input's name": ({"rate_hz": 10, "inputs": {"z": None}}, zl.InvalidArgument),
    "no mailbox": ({"rate_hz": 10, "inputs": {"x": X}}, zl.InvalidArgument),
    "name": ({"rate_hz": 10, "name": "x" * 300}, zl.InvalidArgument),
    "priority": ({"rate_hz": 10, "priority": 100}, zl.InvalidArgument),
    "priority 0": ({"rate_hz": 10, "priority": 0}, zl.InvalidArgument),
    "cpus": ({"rate_hz": 10, "cpus": [100000]}, zl.InvalidArgument),
    "no cpus": ({"rate_hz": 10, "cpus": []}, zl.InvalidArgument),
    "cpus' type": ({"rate_hz": 10, "cpus": ["all"]}, zl.InvalidArgument),
}


@pytest.mark.parametrize(("options", "kind"), REFUSED.values(), ids=REFUSED.keys())
def test_what_makes_no_sense_is_refused(options: dict[str, Any], kind: type[Exception]) -> None:
    binding = models.doubler().bind()
    with pytest.raises(kind) as caught:
        zl.Loop(binding, **options)
    assert_three_parts(str(caught.value))
    binding()  # it has not kept the binding
    zl.Loop(binding, rate_hz=10).close()


def test_mailboxes_that_do_not_fit_are_refused() -> None:
    binding = models.doubler().bind()
    for box in (zl.Mailbox.create(None, (3, 1)), zl.Mailbox.create(None, (1, 3), "int32")):
        with pytest.raises(zl.InvalidArgument) as caught:
            zl.Loop(binding, rate_hz=10, inputs={"x": box})
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.ShapeMismatch) as mismatch:
        zl.Loop(models.picker().bind(), rate_hz=10, feedback={"y": "i"})
    assert_three_parts(str(mismatch.value))
    with pytest.raises(zl.InvalidArgument, match="twice"):
        zl.Loop(models.counter().bind(), rate_hz=10, feedback={"y": "x", "h_out": "x"})


def test_bindings_that_have_no_fixed_memory_are_refused() -> None:
    dynamic = zl.load(small.nonzero().SerializeToString())
    with pytest.raises(zl.Unsupported) as caught:
        zl.Loop(dynamic.bind(x=(3,)), rate_hz=10)
    assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidArgument, match="session") as wrong:
        zl.Loop(dynamic, rate_hz=10)  # type: ignore[arg-type]
    assert_three_parts(str(wrong.value))


def test_results_reach_a_callback_whose_failures_harm_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    got: list[float] = []
    gate = threading.Event()

    def on_result(results: dict[str, Any]) -> None:
        got.append(results["y"].value[0, 0].item())
        if len(got) == 1:
            raise KeyError("bad callback")
        gate.wait(child.PATIENCE_S)

    with caplog.at_level(logging.ERROR, "zerolane.loop"):
        loop = zl.Loop(models.doubler().bind(), trigger="x", on_result=on_result)
        with loop:
            for value in (1.0, 2.0):
                loop.inputs["x"].write(X * value)
                until(lambda value=value: len(got) == value)
            for value in (3.0, 4.0, 5.0):  # while the callback is busy: the latest wins
                loop.inputs["x"].write(X * value)
                until(lambda v=value: loop.outputs["y"].read().value[0, 0] == 2 * v)
            gate.set()
            until(lambda: len(got) == 3)
    assert got == [2, 4, 10]
    assert loop.callback_failures == 1
    assert "bad callback" in caplog.text


def test_a_callback_may_close_its_loop() -> None:
    loops: list[zl.Loop] = []
    loop = zl.Loop(models.doubler().bind(), rate_hz=1000, on_result=lambda _: loops[0].close())
    loops.append(loop)
    loop.start()
    loop.inputs["x"].write(X)
    until(lambda: not loop.running)
    loop.close()
    loops.clear()


def raise_it(_: object) -> None:
    raise KeyError("bad callback")


@pytest.mark.parametrize("callback", [None, lambda _: None, raise_it])
@pytest.mark.parametrize("busy", [True, False])
def test_a_loop_that_is_let_go_is_closed(callback: Any, busy: bool) -> None:
    binding = models.doubler().bind()
    threads = threading.active_count()
    loop = zl.Loop(binding, rate_hz=1000, on_result=callback)
    loop.start()
    output = loop.outputs["y"]
    if busy:
        loop.inputs["x"].write(X)
        output.read(timeout_s=child.PATIENCE_S)
    else:
        time.sleep(0.25)  # the thread of the callback has looked for the loop
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    until(lambda: gone() is None)
    until(lambda: threading.active_count() == threads)
    binding()  # free again
    if busy:
        assert output.read().value.tolist() == (2 * X).tolist()


def test_many_loops_at_once() -> None:
    session = models.doubler()
    loops = [zl.Loop(session.bind(), rate_hz=100 + 7 * i) for i in range(20)]
    for i, loop in enumerate(loops):
        loop.start()
        loop.inputs["x"].write(X * i)
    for i, loop in enumerate(loops):
        value = loop.outputs["y"].read(timeout_s=child.PATIENCE_S).value
        np.testing.assert_array_equal(value, 2 * X * i)
    for loop in loops:
        loop.close()


def test_threads_that_write_read_and_close_at_once() -> None:
    loop = zl.Loop(models.doubler().bind(), rate_hz=5000)
    loop.start()
    loop.inputs["x"].write(X)
    loop.outputs["y"].read(timeout_s=child.PATIENCE_S)
    failures: list[BaseException] = []

    def use() -> None:
        try:
            reader = loop.outputs["y"].another()
            for i in range(300):
                loop.inputs["x"].write(X * i)
                value = reader.read().value
                assert (value == value[0, 0] * X).all()
                loop.stats()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(3)]
    threads += [threading.Thread(target=loop.close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
