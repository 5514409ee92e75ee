"""A cart with a rod on it, that falls unless it is pushed: the plant of `zerolane demo robot`.

State: x (m, of the cart), x' (m/s), angle (rad, 0 upright), angle' (rad/s). A force in N pushes
the cart. Equations: A. G. Barto, R. S. Sutton and C. W. Anderson, "Neuronlike adaptive elements
that can solve difficult learning control problems" (1983), without friction.
"""

from __future__ import annotations

import math
from typing import Any

CART_KG, ROD_KG = 0.5, 0.05
HALF_ROD_M = 0.05
GRAVITY = 9.81
MOST_FORCE_N = 10.0
TRACK_M = 0.5  # the cart is lost beyond it, either side
FALLEN_RAD = 0.8

State = tuple[float, float, float, float]


def accelerations(speed: Any, sine: Any, cosine: Any, force: Any) -> tuple[Any, Any]:
    """(x'', angle'') from angle', sine and cosine of the angle, and the force: floats or arrays."""
    total = CART_KG + ROD_KG
    push = (force + ROD_KG * HALF_ROD_M * speed * speed * sine) / total
    turn = (GRAVITY * sine - cosine * push) / (
        HALF_ROD_M * (4 / 3 - ROD_KG / total * cosine * cosine)
    )
    return push - ROD_KG * HALF_ROD_M * turn * cosine / total, turn


def step(state: State, force: float, seconds: float) -> State:
    """The state after `seconds` of a constant force (Runge-Kutta, 4th order)."""

    def slope(x: State) -> State:
        move, turn = accelerations(x[3], math.sin(x[2]), math.cos(x[2]), force)
        return (x[1], move, x[3], turn)

    def ahead(by: State, time: float) -> State:
        a, b, c, d = (s + time * k for s, k in zip(state, by, strict=True))
        return (a, b, c, d)

    k1 = slope(state)
    k2 = slope(ahead(k1, seconds / 2))
    k3 = slope(ahead(k2, seconds / 2))
    k4 = slope(ahead(k3, seconds))
    mean = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
    return ahead((mean[0], mean[1], mean[2], mean[3]), seconds)


def lost(state: State) -> bool:
    """Whether the rod has fallen or the cart has left its track."""
    return abs(state[2]) > FALLEN_RAD or abs(state[0]) > TRACK_M
