"""The cart and its rod in real time, as a process of its own: `zerolane demo robot` starts it.

    python -m zerolane.cli.cartpole_world NAME SECONDS

Reads forces from the mailbox NAME/force and writes states to NAME/state, about once a millisecond.
Time passes here whether anyone looks or not: each step is as long as the clock says, with the force
that was there at its beginning. The rod is let go with the first force. Prints one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field

import numpy as np

from zerolane.cli import cartpole
from zerolane.errors import DeadlineExceeded
from zerolane.loop.mailbox import Mailbox
from zerolane.loop.realtime import realtime

_START: cartpole.State = (0.05, 0.0, 0.05, 0.0)
_STEP_S, _LONGEST_STEP_S = 1e-3, 0.5e-3
_PUSH_N, _PUSH_S, _PUSH_EVERY_S = 3.0, 0.02, 0.5
_PATIENCE_S = 30.0
_PRIORITY = 85  # the world waits for nobody, where the system lets it


@dataclass
class Journey:
    """What happened. fell_s: when the rod fell or the cart left its track; None if never.

    Of the time before that: mean square root and most of the cart's way from the middle, the most
    that the rod leaned, and the age of the states that the forces in use were computed from.
    """

    seconds: float = 0.0
    fell_s: float | None = None
    cart_rms_mm: float = 0.0
    cart_most_mm: float = 0.0
    lean_most_deg: float = 0.0
    age_ms: dict[str, float] = field(default_factory=dict)
    step_ms: dict[str, float] = field(default_factory=dict)


def _percentiles(values: list[float]) -> dict[str, float]:
    p50, p99, most = (float(v) for v in np.percentile(values or [0.0], (50, 99, 100)))
    return {"p50": p50, "p99": p99, "max": most}


def live(forces: Mailbox, states: Mailbox, seconds: float) -> Journey:
    """Runs for `seconds` from the first force on."""
    journey = Journey()
    pushes = random.Random(0)
    state, force, push = _START, 0.0, 0.0
    states.write(np.array([state], np.float32))
    forces.read(timeout_s=_PATIENCE_S)
    way, lean, ages, steps = [], [], [], []
    begin = last = time.monotonic()
    next_push = begin
    while last - begin < seconds:
        time.sleep(max(0.0, last + _STEP_S - time.monotonic()))
        now = time.monotonic()
        if journey.fell_s is None:
            if now >= next_push:
                push = pushes.choice((-1, 1)) * _PUSH_N
                next_push += _PUSH_EVERY_S
            pushed = push if now < next_push - _PUSH_EVERY_S + _PUSH_S else 0.0
            count = max(1, round((now - last) / _LONGEST_STEP_S))
            for _ in range(count):
                state = cartpole.step(state, force + pushed, (now - last) / count)
            if cartpole.lost(state):
                journey.fell_s = now - begin
            way.append(abs(state[0]))
            lean.append(abs(state[2]))
            steps.append(now - last)
        states.write(np.array([state], np.float32))
        value, age_ms = forces.read()
        force = max(-cartpole.MOST_FORCE_N, min(cartpole.MOST_FORCE_N, float(value[0, 0])))
        if journey.fell_s is None:
            ages.append(age_ms)
        last = now
    journey.seconds = last - begin
    journey.cart_rms_mm = 1e3 * float(np.sqrt(np.mean(np.square(way))))
    journey.cart_most_mm = 1e3 * max(way)
    journey.lean_most_deg = float(np.degrees(max(lean)))
    journey.age_ms = _percentiles(ages)
    journey.step_ms = _percentiles([1e3 * s for s in steps])
    return journey


def main(name: str, seconds: float) -> int:
    import logging

    logging.getLogger("zerolane.realtime").disabled = True  # the user did not ask for it
    realtime(priority=_PRIORITY)
    try:
        journey = live(Mailbox.open(f"{name}/force"), Mailbox.open(f"{name}/state"), seconds)
    except DeadlineExceeded as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(asdict(journey)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2])))
