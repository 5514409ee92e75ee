"""Many carts with rods at once, at 1 kHz: for the policy's training and its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.cli.cartpole import FALLEN_RAD, MOST_FORCE_N, TRACK_M, accelerations

Array = NDArray[Any]
Policy = Callable[[Array], Array]

PERIOD_S = 1e-3
PUSH_N, PUSH_TICKS, PUSH_EVERY = 3.0, 20, 500


def starts(count: int, rng: np.random.Generator) -> Array:
    """[count,4] states near the middle of the track, near upright, nearly at rest."""
    return rng.uniform(-1, 1, (count, 4)) * (0.1, 0.1, 0.1, 0.3)


def slopes(state: Array, force: Array) -> Array:
    move, turn = accelerations(state[:, 3], np.sin(state[:, 2]), np.cos(state[:, 2]), force)
    return np.stack([state[:, 1], move, state[:, 3], turn], 1)


def step(state: Array, force: Array) -> Array:
    """[N,4] states after a period of [N] forces (midpoint rule)."""
    middle = state + PERIOD_S / 2 * slopes(state, force)
    return state + PERIOD_S * slopes(middle, force)


def balance(policy: Policy, count: int, seconds: float, seed: int = 0) -> tuple[Array, Array]:
    """(standing, cost): [count] whether each never fell, and the mean square of its state's error.

    policy: [N,4] f32 states to [N] forces, which act one period later. Every half second each cart
    is pushed for 20 ms, left or right.
    """
    rng = np.random.default_rng(seed)
    state = starts(count, rng)
    standing = np.ones(count, bool)
    force, cost = np.zeros(count), np.zeros(count)
    push = np.zeros(count)
    ticks = round(seconds / PERIOD_S)
    for tick in range(ticks):
        if tick % PUSH_EVERY == 0:
            push = PUSH_N * rng.choice([-1.0, 1.0], count)
        acting = force + (push if tick % PUSH_EVERY < PUSH_TICKS else 0)
        force = np.clip(policy(state.astype(np.float32)), -MOST_FORCE_N, MOST_FORCE_N)
        state = step(state, acting)
        standing &= (abs(state[:, 2]) < FALLEN_RAD) & (abs(state[:, 0]) < TRACK_M)
        state[~standing] = 0
        cost += (state**2 @ (50.0, 0.1, 10.0, 0.1)) / ticks
    return standing, cost
