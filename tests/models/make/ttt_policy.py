"""Control policy: a perceptron that plays tic-tac-toe, with a mask of legal moves as input."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from .. import tictactoe
from .common import export, fit, onnxruntime_runner, save_case


class Player(nn.Module):
    """board f32 [N,9], legal bool [N,9] -> move i64 [N], probability f32 [N,9].

    A cell of the board is 1 if own, -1 if the other's, 0 if free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(9, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 9)
        )

    def logits(self, board: Tensor, legal: Tensor) -> Tensor:
        return torch.where(legal, self.layers(board), torch.full_like(board, -1e4))

    def forward(self, board: Tensor, legal: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.logits(board, legal)
        return logits.argmax(1), logits.softmax(1)


def make(folder: Path) -> None:
    positions = tictactoe.positions()
    boards = torch.tensor(positions, dtype=torch.float32)
    target = torch.zeros(len(positions), 9)
    for row, board in zip(target, positions, strict=True):
        _, moves = tictactoe.best(board)
        row[list(moves)] = 1 / len(moves)
    model = Player()

    def loss(board: Tensor, wanted: Tensor) -> Tensor:
        return -(model.logits(board, board == 0).log_softmax(1) * wanted).sum(1).mean()

    fit(model, 1500, lambda: (boards, target), loss, 4e-3)

    path = folder / "ttt_policy.onnx"
    export(
        model,
        path,
        {"board": torch.zeros(2, 9), "legal": torch.ones(2, 9, dtype=torch.bool)},
        ["move", "probability"],
        {name: {0: "N"} for name in ("board", "legal", "move", "probability")},
    )
    some = boards[:64].numpy()
    outputs = onnxruntime_runner(path)({"board": some, "legal": some == 0})
    save_case(folder, "ttt_policy", board=some, move=outputs["move"])
