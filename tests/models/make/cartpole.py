"""Control policy of the robot demo: a perceptron, 4-64-64-1, that keeps a rod on a cart upright.

It learns the linear-quadratic regulator of the plant at 1 kHz, with the motor's limit on it, from
states near and far.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from zerolane.cli.cartpole import MOST_FORCE_N

from .. import cartpoles
from .common import export, fit, onnxruntime_runner, save_case

STATE_COST, FORCE_COST = (500.0, 1.0, 100.0, 1.0), 0.01
SPREAD = (0.4, 1.5, 0.6, 6.0)  # of the states that it learns from


class Policy(nn.Module):
    """state f32 [N,4] -> force f32 [N,1] in N, within the motor's limit."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", 1 / torch.tensor(SPREAD))
        self.layers = nn.Sequential(
            nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), nn.Tanh()
        )

    def forward(self, state: Tensor) -> Tensor:
        return MOST_FORCE_N * self.layers(state * self.scale)


def regulator() -> np.ndarray:
    """Gains [4] of force = -gains . state that cost least, by iterating the Riccati equation."""
    tiny = 1e-6
    a = np.stack([cartpoles.step(row[None], np.zeros(1))[0] / tiny for row in tiny * np.eye(4)], 1)
    b = cartpoles.step(np.zeros((1, 4)), np.array([tiny])).T / tiny
    q, r = np.diag(STATE_COST), np.array([[FORCE_COST]])
    p = q
    for _ in range(20000):
        gains = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        p = q + a.T @ p @ (a - b @ gains)
    return gains[0]


def make(folder: Path) -> None:
    rng = np.random.default_rng(0)
    gains = regulator()
    model = Policy()

    def batch() -> tuple[Tensor, Tensor]:
        # Half of the states are close to upright, where a little error matters.
        size = np.where(rng.random((1024, 1)) < 0.5, 0.1, 1.0)
        states = rng.normal(0, 0.5, (1024, 4)) * SPREAD * size
        force = MOST_FORCE_N * np.tanh(states @ -gains / MOST_FORCE_N)
        return torch.tensor(states, dtype=torch.float32), torch.tensor(force, dtype=torch.float32)

    def loss(states: Tensor, force: Tensor) -> Tensor:
        error = model(states)[:, 0] - force
        return (error.abs() / (0.1 + force.abs())).mean()

    fit(model, 6000, batch, loss, 5e-3)

    path = folder / "cartpole.onnx"
    both = {"state": {0: "N"}, "force": {0: "N"}}
    export(model, path, {"state": torch.zeros(2, 4)}, ["force"], both)
    states = (rng.normal(0, 0.5, (32, 4)) * SPREAD).astype(np.float32)
    outputs = onnxruntime_runner(path)({"state": states})
    save_case(folder, "cartpole", state=states, force=outputs["force"])
