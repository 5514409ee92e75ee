"""`zl.Contract`."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402
from tests.models import small  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.measure.contract import _Proof  # noqa: E402

X = np.ones((1, 4), np.float32)
LONG_MS = 60_000.0  # kept on the slowest machine


class Clock:
    """A callable that takes as long as it says, once a while longer."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = list(seconds)
        self.calls = 0

    def __call__(self, *args: object, **kwargs: object) -> object:
        self.calls += 1
        end = time.perf_counter() + (self.seconds.pop(0) if self.seconds else 0)
        while time.perf_counter() < end:
            pass
        return args, kwargs


@pytest.fixture
def session() -> zl.Session:
    return zl.load(small.relu().SerializeToString())


def test_a_call_is_the_targets(session: zl.Session) -> None:
    contract = zl.Contract(session, p99_ms=LONG_MS, samples=[X])
    assert np.array_equal(contract(X), X)
    assert set(contract({"x": X})) == {"y"}
    with pytest.raises(zl.InvalidArgument):
        contract(X, X)
    assert contract.target is session
    said = zl.Contract(Clock(), deadline_ms=LONG_MS, samples=[()])(1, 2, key=3)
    assert said == ((1, 2), {"key": 3})


def test_it_is_ready_once_the_promise_is_proven(session: zl.Session) -> None:
    contract = zl.Contract(session, p99_ms=LONG_MS, deadline_ms=LONG_MS, warmup=37, samples=[X])
    contract(X)
    assert not contract.ready
    assert "not ready" in repr(contract)
    contract.wait_ready()
    assert contract.ready
    assert "not ready" not in repr(contract)
    stats = contract.stats()
    assert (stats.early_calls, stats.calls, stats.failures) == (38, 0, 0)
    assert stats.p99_ms is None
    (seen,) = stats.warm_up
    assert (seen.shapes, seen.calls) == ("1x4", 37)
    assert 0 < seen.p99_ms < LONG_MS
    contract.wait_ready()  # at once
    assert contract.stats().early_calls == 38
    contract(X)
    stats = contract.stats()
    assert stats.calls == 1
    assert stats.latency_us["count"] + stats.first_latency_us["count"] == 1
    assert stats.p99_ms is not None
    json.dumps(stats.as_dict(), allow_nan=False)


def test_a_promise_that_is_not_kept_is_refused() -> None:
    def slow() -> None:
        end = time.perf_counter_ns() + 200_000
        while time.perf_counter_ns() < end:
            pass

    contract = zl.Contract(slow, p99_ms=0.05, warmup=10, samples=[()], name="slow thing")
    with pytest.raises(zl.ContractBroken) as caught:
        contract.wait_ready(timeout=0.05)
    assert not contract.ready
    error = caught.value
    assert_three_parts(str(error))
    assert error.code == "contract_broken"
    assert error.subject == "slow thing"
    assert error.promised_ms == 0.05
    assert error.measured_ms >= 0.2
    assert f"{error.measured_ms:.3f} ms" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error)
    assert (again.measured_ms, again.promised_ms) == (error.measured_ms, error.promised_ms)
    assert isinstance(error, RuntimeError)
    with pytest.raises(zl.ContractBroken):
        contract.wait_ready(timeout=0)


def test_a_slow_start_is_warmed_away() -> None:
    """Slow calls at first: as many more are made as it takes for the last ones to be fast."""
    target = Clock(*[0.02] * 7)
    contract = zl.Contract(target, deadline_ms=10, warmup=20, samples=[()])
    contract.wait_ready()
    assert contract.ready
    assert target.calls >= 27
    assert contract.stats().deadline_misses == 0  # those were before the promise


@pytest.mark.parametrize(
    ("size", "slow", "p99_ms", "deadline_ms", "holds"),
    [
        (200, 2, 1.0, None, True),
        (200, 3, 1.0, None, False),
        (199, 1, 1.0, None, True),
        (199, 2, 1.0, None, False),
        (99, 1, 1.0, None, False),
        (200, 1, 1.0, 5.0, False),
        (200, 1, 1.0, 2000.0, True),
        (200, 50, None, 2000.0, True),
        (1, 0, 1.0, 1.0, True),
    ],
)
def test_one_in_a_hundred_may_be_slow(
    size: int, slow: int, p99_ms: float | None, deadline_ms: float | None, holds: bool
) -> None:
    proof = _Proof((), size)
    proof.last_ns.extend([10_000] * (size - slow - 1))
    assert not proof.holds(p99_ms, deadline_ms)  # a call is missing
    proof.last_ns.extend([10_000, *[1_000_000_000] * slow])
    assert proof.holds(p99_ms, deadline_ms) == holds
    if p99_ms is not None:
        assert (proof.seen().p99_ms <= p99_ms) == (holds or deadline_ms is not None)


def test_every_shape_is_warmed() -> None:
    class Dynamic:
        def __init__(self) -> None:
            self.seen: list[int] = []

        def __call__(self, x: Any) -> None:
            first = x.shape[0] not in self.seen
            self.seen.append(x.shape[0])
            if first:  # a plan is made, memory is found
                time.sleep(0.02)

    target = Dynamic()
    samples = [np.zeros((n, 2), np.float32) for n in (1, 3, 7)]
    contract = zl.Contract(target, deadline_ms=15, warmup=5, samples=samples)
    contract.wait_ready()
    assert target.seen[:6] == [1, 3, 7, 1, 3, 7]  # in turn, as they may come
    assert {w.shapes for w in contract.stats().warm_up} == {"1x2", "3x2", "7x2"}
    assert all(w.calls >= 6 for w in contract.stats().warm_up)


def test_shapes_of_a_session() -> None:
    session = zl.load(small.relu(("N", 4)).SerializeToString())
    contract = zl.Contract(session, p99_ms=LONG_MS, warmup=3, shapes=[{"x": (1, 4)}, {"x": (5, 4)}])
    contract.wait_ready()
    assert [w.shapes for w in contract.stats().warm_up] == ["{x: 1x4}", "{x: 5x4}"]
    default = zl.Contract(session, p99_ms=LONG_MS, warmup=3)
    default.wait_ready()
    assert [w.shapes for w in default.stats().warm_up] == ["{x: 1x4}"]


def test_a_failure_while_warming_up_is_the_targets() -> None:
    def fails() -> None:
        raise ZeroDivisionError

    contract = zl.Contract(fails, p99_ms=1, samples=[()])
    with pytest.raises(ZeroDivisionError):
        contract.wait_ready()
    assert not contract.ready
    assert contract.stats().early_calls == 1


def test_who_waits_for_another_threads_warm_up_gives_up_in_time() -> None:
    began, over = threading.Event(), threading.Event()

    def target() -> None:
        began.set()
        assert over.wait(60)

    contract = zl.Contract(target, deadline_ms=LONG_MS * 2, warmup=1, samples=[()])
    warming = threading.Thread(target=contract.wait_ready)
    warming.start()
    assert began.wait(60)
    with pytest.raises(zl.ContractBroken, match="another thread") as caught:
        contract.wait_ready(timeout=0.01)
    assert_three_parts(str(caught.value))
    waiting = threading.Thread(target=contract.wait_ready)
    waiting.start()
    over.set()
    warming.join()
    waiting.join()
    assert contract.ready
    assert contract.stats().early_calls == 1  # once was enough for both


def test_breaches_in_service_are_counted() -> None:
    target = Clock()
    contract = zl.Contract(
        target, p99_ms=2, deadline_ms=1000, warmup=5, window=200, samples=[()], name="breaches"
    )
    contract.wait_ready()
    target.seconds = [0.01] * 3
    for _ in range(3):
        contract()
    stats = contract.stats()
    assert stats.broken
    assert stats.p99_breaches == 1
    assert stats.deadline_misses == 0
    assert stats.p99_ms is not None
    assert stats.p99_ms >= 10
    contract2 = zl.Contract(target, deadline_ms=200, warmup=5, samples=[()], name="late")
    contract2.wait_ready()
    target.seconds = [0.25, 0.0, 0.25]
    for _ in range(3):
        contract2()
    assert contract2.stats().deadline_misses == 2
    held = {
        (s["labels"]["contract"], s["labels"]["kind"]): s["value"]
        for s in zl.metrics()["zerolane_contract_breaches_total"]["series"]
    }
    assert held["breaches", "p99"] == 1
    assert held["late", "deadline"] == 2


def test_failures_are_counted_and_do_not_flatter() -> None:
    def fails(yes: bool) -> None:
        if yes:
            raise KeyError("on purpose")

    contract = zl.Contract(fails, p99_ms=LONG_MS, warmup=3, samples=[False])
    contract.wait_ready()
    contract(False)
    for _ in range(2):
        with pytest.raises(KeyError, match="on purpose"):
            contract(True)
    stats = contract.stats()
    assert (stats.calls, stats.failures) == (3, 2)
    assert stats.latency_us["count"] + stats.first_latency_us["count"] == 1


def test_the_first_call_after_idling_is_apart() -> None:
    target = Clock()
    contract = zl.Contract(target, p99_ms=LONG_MS, warmup=3, samples=[()])
    contract.wait_ready()
    end = time.perf_counter() + 0.03
    while time.perf_counter() < end:
        time.sleep(0.005)
    contract()
    assert contract.stats().first_latency_us["count"] == 1


def test_awaited_calls() -> None:
    session = zl.load(small.relu().SerializeToString())
    contract = zl.Contract(session, p99_ms=LONG_MS, warmup=3, samples=[X])
    contract.wait_ready()

    async def main() -> list[Any]:
        results = await asyncio.gather(*(contract.arun(X) for _ in range(11)))
        with pytest.raises(zl.InvalidArgument):
            await contract.arun(X, X)
        return results

    results = asyncio.run(main())
    assert all(np.array_equal(y, X) for y in results)
    stats = contract.stats()
    assert (stats.calls, stats.failures) == (12, 1)


def test_calls_of_many_threads(session: zl.Session) -> None:
    contract = zl.Contract(session, p99_ms=LONG_MS, warmup=3, window=7, samples=[X], idle_ms=0.1)
    contract.wait_ready()

    def work() -> None:
        for _ in range(503):
            contract(X)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    contract.close()
    stats = contract.stats()
    assert stats.calls == 4 * 503
    assert stats.latency_us["count"] + stats.first_latency_us["count"] == 4 * 503


class Pulses:
    """What `pulse=` is given: counts, and tells when it has been called."""

    def __init__(self) -> None:
        self.called = threading.Semaphore(0)

    def __call__(self) -> None:
        self.called.release()

    def wait(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.called.acquire(timeout=60), "no pulse came"


def test_an_idle_callable_is_kept_warm() -> None:
    pulses = Pulses()
    target = Clock()
    with zl.Contract(
        target, p99_ms=LONG_MS, warmup=3, samples=[()], idle_ms=1, duty=1, pulse=pulses
    ) as contract:
        contract.wait_ready()
        pulses.wait(3)
    stats = contract.stats()
    assert stats.pulses >= 3
    assert target.calls == 3  # pulses are no calls
    assert (stats.calls, stats.early_calls) == (0, 3)
    made = stats.pulses
    contract()
    assert contract.stats().pulses == made  # closed
    contract.close()


def test_without_idle_ms_nothing_is_pulsed() -> None:
    target = Clock()
    contract = zl.Contract(target, p99_ms=LONG_MS, warmup=3, samples=[()], pulse=Pulses())
    contract.wait_ready()
    assert contract.stats().pulses == 0
    assert contract.stats().pulse_share == 0


def test_a_failing_pulse_is_told_and_another_comes() -> None:
    tries = threading.Semaphore(0)

    def pulse() -> None:
        tries.release()
        raise ZeroDivisionError("by a pulse")

    with zl.Contract(
        Clock(), p99_ms=LONG_MS, samples=[()], idle_ms=1, duty=1, pulse=pulse
    ) as contract:
        for _ in range(3):
            assert tries.acquire(timeout=60)
        while contract.stats().pulses_failed < 2:
            time.sleep(0.001)
        assert "by a pulse" in contract.stats().pulse_failure


@pytest.mark.parametrize("bound", [False, True])
def test_native_pulses_leave_a_callers_memory_alone(bound: bool) -> None:
    """A binding's outputs are what its last call made of its inputs, whatever has pulsed since."""
    session = zl.load(small.relu().SerializeToString())
    target: Any = session.bind() if bound else session
    samples = [()] if bound else [X]
    with zl.Contract(
        target, p99_ms=LONG_MS, warmup=3, samples=samples, idle_ms=0.1, duty=1
    ) as contract:
        contract.wait_ready()
        if bound:
            target.inputs["x"][...] = -3
            contract()
            assert (target.outputs["y"] == 0).all()
            target.inputs["x"][...] = 5
            target.outputs["y"][...] = 7
            before = contract.stats().pulses
            while contract.stats().pulses < before + 3:
                time.sleep(0.001)
            assert (target.outputs["y"] == 7).all()
        while contract.stats().pulses < 3:
            time.sleep(0.001)
        assert contract.stats().pulses_failed == 0


def test_a_call_does_not_wait_for_a_pulse() -> None:
    """The pulse ends only after the call has come and gone."""
    begun, over = threading.Event(), threading.Event()

    def pulse() -> None:
        begun.set()
        assert over.wait(60)

    with zl.Contract(
        Clock(), p99_ms=LONG_MS, samples=[()], idle_ms=1, duty=1, pulse=pulse
    ) as contract:
        assert begun.wait(60)
        contract()
        over.set()


def test_a_busy_contract_is_not_pulsed() -> None:
    """A call in progress for long: none begins beside it."""
    pulses = Pulses()
    seen: list[int] = []

    def long_call() -> None:
        before = contract.stats().pulses
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            time.sleep(0.001)
        seen.append(contract.stats().pulses - before)

    with zl.Contract(
        long_call, p99_ms=LONG_MS, samples=[()], idle_ms=1, duty=1, pulse=pulses
    ) as contract:
        contract()
        pulses.wait()
    assert seen == [0]


def test_a_contract_in_a_cycle_is_collected() -> None:
    class Service:
        def __init__(self) -> None:
            self.fast = zl.Contract(self.slow, p99_ms=1, samples=[()], idle_ms=1, pulse=self.pulse)

        def slow(self) -> None: ...
        def pulse(self) -> None: ...

    service = Service()
    gone = weakref.ref(service)
    del service
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"p99_ms": 0},
        {"p99_ms": -1},
        {"p99_ms": float("nan")},
        {"p99_ms": float("inf")},
        {"deadline_ms": 0},
        {"p99_ms": 1, "warmup": 0},
        {"p99_ms": 1, "warmup": 2.5},
        {"p99_ms": 1, "window": 0},
        {"p99_ms": 1, "idle_ms": 0},
        {"p99_ms": 1, "idle_ms": 1, "duty": 0},
        {"p99_ms": 1, "idle_ms": 1, "duty": 1.5},
        {"p99_ms": 1, "samples": []},
        {"p99_ms": 1, "samples": None},
        {"p99_ms": 1, "samples": {"x": X}},
        {"p99_ms": 1, "samples": [()], "shapes": {"x": (1, 4)}},
        {"p99_ms": 1, "samples": None, "shapes": {"x": (1, 4)}},
    ],
    ids=str,
)
def test_what_makes_no_contract(arguments: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.Contract(Clock(), **({"samples": [()]} | arguments))
    assert_three_parts(str(caught.value))


def test_a_target_that_cannot_be_called() -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.Contract(5, p99_ms=1, samples=[()])  # type: ignore[arg-type]
    assert_three_parts(str(caught.value))


def test_an_object_that_was_never_made() -> None:
    bare = zl.Contract.__new__(zl.Contract)
    with pytest.raises(TypeError):
        bare()
    gc.collect()


def test_a_guard_ends_with_the_interpreter() -> None:
    code = """
    import numpy as np
    import zerolane as zl
    from tests.models import small
    def target(): ...
    kept = zl.Contract(target, p99_ms=1, samples=[()], idle_ms=0.05, duty=1)
    session = zl.load(small.relu().SerializeToString())
    x = np.ones((1, 4), np.float32)
    native = zl.Contract(session, p99_ms=1000, samples=[x], idle_ms=0.05, duty=1)
    while kept.stats().pulses < 3 or native.stats().pulses < 3:
        pass
    print("left")
    """
    assert child.run(code).strip() == "left"


def test_a_forked_child_leaves_the_guard_behind() -> None:
    code = """
    import os
    import zerolane as zl
    def target(): ...
    contract = zl.Contract(target, p99_ms=1e6, warmup=3, samples=[()], idle_ms=0.05, duty=1)
    while contract.stats().pulses < 3:
        pass
    child = os.fork()
    if child == 0:
        contract()
        contract.wait_ready()
        contract.close()
        os._exit(0 if contract.ready else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    contract.close()
    """
    child.run(code)
