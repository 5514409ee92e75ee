"""CUDA graphs: captured once a shape, replayed, never from a capture that failed."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from tests.trt.engines import Fake, rows


def test_a_bound_call_becomes_a_graph(fake: Fake) -> None:
    binding = fake.load(small.doubled_rows()).bind(x=(3, 4))
    with fake.control.counting("enqueued", "captured", "runs") as grown:
        for i in range(20):
            binding.inputs["x"][...] = x = rows(3) + i
            np.testing.assert_array_equal(binding()["y"], np.concatenate([x, x]))
    assert grown["captured"] == 1
    assert grown["enqueued"] <= 2
    # Each call is one run; the captured one itself runs nothing.
    assert grown["runs"] == 20


def test_no_graphs(fake: Fake) -> None:
    binding = fake.load(small.relu(), options={"graphs": 0}).bind()
    with fake.control.counting("enqueued", "captured") as grown:
        for _ in range(10):
            binding()
    assert grown == {"enqueued": 10, "captured": 0}


def test_each_shape_has_its_own_and_the_oldest_goes(fake: Fake) -> None:
    session = fake.load(small.doubled_rows(), options={"graphs": 2})
    shapes = (3, 5)
    for _ in range(6):
        for count in shapes:
            session(rows(count))
    with fake.control.counting("enqueued", "captured", "made.ExecutionContext") as grown:
        for _ in range(5):
            for count in shapes:
                x = rows(count)
                np.testing.assert_array_equal(session(x), np.concatenate([x, x]))
    assert grown == {"enqueued": 0, "captured": 0, "made.ExecutionContext": 0}
    with fake.control.counting("made.ExecutionContext", "enqueued") as grown:
        for count in (7, 9, 3):  # pushes the others out
            x = rows(count)
            np.testing.assert_array_equal(session(x), np.concatenate([x, x]))
    assert grown == {"made.ExecutionContext": 0, "enqueued": 3}


@pytest.mark.parametrize("failure", ["fail.capture", "empty.capture"])
def test_a_capture_that_fails_is_never_replayed(
    fake: Fake, failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    binding = fake.load(small.relu((1, 4))).bind()
    fake.control[failure] = 1000
    with caplog.at_level(logging.WARNING), fake.control.counting("captured", "runs") as grown:
        for i in range(10):
            binding.inputs["x"][...] = x = rows(1) + i
            np.testing.assert_array_equal(binding()["y"], np.maximum(x, 0))
        with pytest.raises(zl.InvalidArgument):  # drains the log
            binding(1)
    assert grown == {"captured": 1, "runs": 10}
    assert any("without a graph" in record.getMessage() for record in caplog.records)


def test_work_that_cannot_be_captured(fake: Fake) -> None:
    if fake.family.name != "rtx":
        pytest.skip("only TensorRT-RTX tells")
    binding = fake.load(small.relu((1, 4))).bind()
    fake.control["not_capturable"] = 1
    with fake.control.counting("captured", "enqueued") as grown:
        for _ in range(5):
            binding()
    assert grown == {"captured": 0, "enqueued": 5}


def test_sizes_that_depend_on_data_run_without(fake: Fake) -> None:
    binding = fake.load(small.nonzero()).bind(x=(4,))
    with fake.control.counting("captured") as grown:
        for i in range(6):
            binding.inputs["x"][...] = x = np.arange(4) < i
            np.testing.assert_array_equal(binding()["y"], np.flatnonzero(x)[None])
    assert grown == {"captured": 0}


def test_other_memory_is_not_the_captured_one(fake: Fake) -> None:
    """A run with other addresses never replays the graph of the first ones."""
    session = fake.load(small.relu((1, 4)))
    out = [np.zeros((1, 4), np.float32) for _ in range(3)]
    for i in range(12):
        x = rows(1) * (i - 5)
        session.run({"x": x}, out={"y": out[i % 3]})
        np.testing.assert_array_equal(out[i % 3], np.maximum(x, 0))
