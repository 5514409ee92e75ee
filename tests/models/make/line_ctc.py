"""Text lines: digits side by side, read by a convolutional network with a CTC output."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..scenes import draw_lines
from .common import conv_block, export, fit, load_digits, onnxruntime_runner, save_case


class LineReader(nn.Module):
    """image f32 [N,1,16,W] -> log_probs f32 [N,W/4,11]; class 0 is the blank, k+1 the digit k."""

    def __init__(self) -> None:
        super().__init__()
        self.columns = nn.Sequential(
            conv_block(1, 32),
            nn.MaxPool2d(2),
            conv_block(32, 64),
            nn.MaxPool2d((2, 1)),
            conv_block(64, 96),
            nn.MaxPool2d((4, 2)),
        )
        self.classify = nn.Sequential(nn.Conv1d(96, 96, 5, 1, 2), nn.ReLU(), nn.Conv1d(96, 11, 1))

    def forward(self, image: Tensor) -> Tensor:
        logits = self.classify(self.columns(image).squeeze(2))
        return F.log_softmax(logits.transpose(1, 2), -1)


def make(folder: Path) -> None:
    train, test = load_digits()
    rng = np.random.default_rng(0)
    model = LineReader()

    def batch() -> tuple[Tensor, Tensor]:
        images, digits = draw_lines(rng, train, 32, int(rng.integers(3, 9)))
        return torch.tensor(images), torch.tensor(digits + 1)

    def loss(images: Tensor, classes: Tensor) -> Tensor:
        log_probs = model(images).transpose(0, 1)
        steps = torch.full((len(images),), log_probs.shape[0])
        lengths = torch.full((len(images),), classes.shape[1])
        return F.ctc_loss(log_probs, classes, steps, lengths, zero_infinity=True)

    fit(model, 500, batch, loss, 4e-3)

    path = folder / "line_ctc.onnx"
    export(
        model,
        path,
        {"image": torch.zeros(2, 1, 16, 80)},
        ["log_probs"],
        {"image": {0: "N", 3: "W"}, "log_probs": {0: "N", 1: "T"}},
    )
    images, digits = draw_lines(rng, test, 4, 12)
    outputs = onnxruntime_runner(path)({"image": images})
    save_case(folder, "line_ctc", image=images, digits=digits, **outputs)
