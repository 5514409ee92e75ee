"""The plant of `zerolane demo robot` obeys mechanics, and its world passes in real time."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

import zerolane as zl
from tests.models import cartpoles
from zerolane.cli import cartpole, cartpole_world


def energy(state: cartpole.State) -> float:
    """Kinetic and potential, in J, of a cart with a uniform rod."""
    _, speed, angle, turn = state
    m, half = cartpole.ROD_KG, cartpole.HALF_ROD_M
    along = speed + half * turn * math.cos(angle)
    up = -half * turn * math.sin(angle)
    inertia = m * (2 * half) ** 2 / 12
    moving = cartpole.CART_KG * speed**2 + m * (along**2 + up**2) + inertia * turn**2
    return moving / 2 + m * cartpole.GRAVITY * half * math.cos(angle)


def test_energy_and_momentum_are_kept_without_a_force() -> None:
    state: cartpole.State = (0.0, 0.1, 0.3, -1.0)
    before = energy(state)
    for _ in range(3000):
        state = cartpole.step(state, 0.0, 1e-3)
    assert energy(state) == pytest.approx(before, abs=1e-6)
    assert abs(state[2]) > 1  # it has swung far


def test_a_force_does_its_work() -> None:
    state: cartpole.State = (0.0, 0.0, 0.2, 0.5)
    before = energy(state)
    for _ in range(200):
        state = cartpole.step(state, 1.7, 1e-3)
    assert energy(state) - before == pytest.approx(1.7 * state[0], abs=1e-6)


def test_upright_it_rests_and_falls_to_either_side_alike() -> None:
    assert cartpole.step((0.3, 0.0, 0.0, 0.0), 0.0, 0.1) == (0.3, 0.0, 0.0, 0.0)
    left, right = (cartpole.step((0, 0, lean, 0), 0.0, 0.1) for lean in (-0.1, 0.1))
    assert left == pytest.approx(tuple(-v for v in right))
    assert right[2] > 0.1
    assert cartpole.lost((0, 0, 0.9, 0))
    assert cartpole.lost((-0.6, 0, 0, 0))
    assert not cartpole.lost(right)


def test_many_at_once_are_the_same_plant() -> None:
    states = cartpoles.starts(7, np.random.default_rng(0))
    forces = np.linspace(-9, 9, 7)
    together = cartpoles.step(states, forces)
    for row, force, want in zip(states, forces, together, strict=True):
        alone = cartpole.step(tuple(float(v) for v in row), float(force), cartpoles.PERIOD_S)
        np.testing.assert_allclose(alone, want, atol=1e-4)  # of another order


def test_the_world_passes_in_real_time_and_falls_without_help() -> None:
    states = zl.Mailbox.create(None, (1, 4))
    forces = zl.Mailbox.create(None, (1, 1))
    threading.Thread(target=lambda: (states.wait(0, 60), forces.write([[0.0]]))).start()
    journey = cartpole_world.live(forces, states.another(), seconds=0.6)
    assert journey.seconds >= 0.6
    assert journey.fell_s is not None
    # From a lean of 0.05 at rest: cosh(12.6 t) = 0.8 / 0.05 at 0.27 s, or the push hurries it.
    assert 0.1 < journey.fell_s < 0.5
    assert journey.lean_most_deg >= math.degrees(cartpole.FALLEN_RAD)
    assert states.read().value.shape == (1, 4)


def test_the_world_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cartpole_world, "_PATIENCE_S", 0.01)
    boxes = zl.Mailbox.create(None, (1, 1)), zl.Mailbox.create(None, (1, 4))
    with pytest.raises(zl.DeadlineExceeded):
        cartpole_world.live(*boxes, seconds=1)
