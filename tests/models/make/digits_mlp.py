"""Image classification by a small perceptron: 8x8 handwritten digits, 4,810 weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import export, fit, load_digits, onnxruntime_runner, save_case

SHIFT = 0.5  # pixels
NOISE = 0.05


def moved(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Shifts each of [N,1,8,8] by fractions of a pixel, at most SHIFT, and adds noise."""
    count = len(images)
    place = torch.eye(2, 3).repeat(count, 1, 1)
    # The grid of `affine_grid` is 2 wide, the image 8 pixels.
    place[:, :, 2] = torch.tensor(rng.uniform(-SHIFT, SHIFT, (count, 2)) * 2 / 8)
    grid = F.affine_grid(place, list(images.shape), align_corners=False)
    noise = torch.tensor(rng.normal(0, NOISE, images.shape), dtype=torch.float32)
    return F.grid_sample(images, grid, align_corners=False) + noise


def make(folder: Path) -> None:
    train, test = load_digits()
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def batch() -> tuple[Tensor, Tensor]:
        chosen = rng.integers(0, len(train.images), 128)
        images = moved(torch.tensor(train.images[chosen, None]), rng)
        return images, torch.tensor(train.labels[chosen])

    fit(model, 4000, batch, lambda images, labels: F.cross_entropy(model(images), labels), 1e-2)

    path = folder / "digits_mlp.onnx"
    export(
        model,
        path,
        {"image": torch.zeros(2, 1, 8, 8)},
        ["logits"],
        {"image": {0: "N"}, "logits": {0: "N"}},
    )
    images = test.images[:32, None]
    outputs = onnxruntime_runner(path)({"image": images})
    save_case(folder, "digits_mlp", image=images, logits=outputs["logits"], label=test.labels[:32])
