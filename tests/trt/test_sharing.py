"""Engines, execution contexts and scratch memory: what is shared, and until when."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np

import zerolane as zl
from tests.models import small
from tests.trt.engines import Fake, rows


def test_sessions_of_one_engine_share_it(fake: Fake, tmp_path: Path) -> None:
    gc.collect()
    engine = fake.engine(small.relu((1, 6)))
    engine.save(tmp_path / "a.engine")
    with fake.control.counting("deserialized", "live.CudaEngine") as grown:
        sessions = [zl.load(tmp_path / "a.engine") for _ in range(3)] + [zl.load(engine)]
        for session in sessions:
            assert session(np.ones((1, 6), np.float32)).sum() == 6
    assert grown == {"deserialized": 1, "live.CudaEngine": 1}
    other = zl.load(engine, memory_limit=1 << 20)
    assert fake.control["deserialized"] > 1
    with fake.control.counting("live.CudaEngine", "live.Runtime", "live.ExecutionContext") as grown:
        del sessions, session, other
        gc.collect()
    assert grown["live.CudaEngine"] == grown["live.Runtime"] == -2
    assert grown["live.ExecutionContext"] < 0


def test_scratch_memory_is_one_block_a_run_in_flight(fake: Fake) -> None:
    """Contexts that run one after the other share; the stand-in watches that no two runs do."""
    session = fake.load(small.matmul_chain(4, 64), activation_bytes=1 << 20)
    bindings = [session.bind(x=(8, 64)) for _ in range(6)]
    for _ in range(3):
        for binding in bindings:
            binding.run()
    facts = session.engine_facts()
    before = facts["shared_activation_blocks"]
    assert facts["shared_activation_bytes"] >= 1 << 20

    def work(index: int) -> None:
        binding = bindings[index]
        for i in range(50):
            binding.inputs["x"][...] = x = rows(8, 64) + i + index
            np.testing.assert_array_equal(binding()["y"], np.roll(x, 4, -1))

    bindings = [session.bind(x=(8, 64), gil="release") for _ in range(6)]
    failures: list[BaseException] = []

    def guarded(index: int) -> None:
        try:
            work(index)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert session.engine_facts()["shared_activation_blocks"] <= before + 6


def test_many_callers_of_one_session(fake: Fake) -> None:
    session = fake.load(small.doubled_rows())
    futures = [(x, session.submit(x)) for x in (rows(1 + i % 7) for i in range(200))]
    for x, future in futures:
        np.testing.assert_array_equal(future.result(timeout=60), np.concatenate([x, x]))


def test_a_binding_keeps_its_engine(fake: Fake) -> None:
    binding = fake.load(small.relu((1, 3))).bind()
    gc.collect()
    binding.inputs["x"][...] = [[-1, 0, 1]]
    for _ in range(4):
        np.testing.assert_array_equal(binding()["y"], [[0, 0, 1]])
