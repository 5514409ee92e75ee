"""A loop gives what calls give, wherever the model runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import zerolane as zl
from tests import child
from tests.models import small

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)
Load = Callable[..., zl.Session]


def test_ticks_equal_calls(load: Load) -> None:
    session = load(small.relu((2, 4)))
    with zl.Loop(session.bind(x=(2, 4)), trigger="x") as loop:
        for i in range(12):
            loop.inputs["x"].write(X - i / 12)
            assert loop.outputs["y"].wait(i, child.PATIENCE_S)
            np.testing.assert_array_equal(loop.outputs["y"].read().value, session(X - i / 12))
    assert loop.stats().runs == 12


def test_feedback_is_taken_from_the_last_tick(load: Load) -> None:
    binding = load(small.add((2, 4))).bind(a=(2, 4), b=(2, 4))
    binding.inputs["b"][...] = X
    with zl.Loop(binding, trigger="a", feedback={"y": "b"}) as loop:
        for i in range(5):
            loop.inputs["a"].write(np.ones((2, 4), np.float32))
            assert loop.outputs["y"].wait(i, child.PATIENCE_S)
            np.testing.assert_allclose(loop.outputs["y"].read().value, X + i + 1, rtol=1e-6)


def test_a_closed_loop_gives_the_binding_back(load: Load) -> None:
    binding = load(small.relu((2, 4))).bind(x=(2, 4))
    loop = zl.Loop(binding, rate_hz=1000)
    loop.start()
    loop.inputs["x"].write(X)
    loop.outputs["y"].read(timeout_s=child.PATIENCE_S)
    loop.close()
    binding.inputs["x"][...] = -X
    np.testing.assert_array_equal(binding()["y"], np.maximum(-X, 0))
