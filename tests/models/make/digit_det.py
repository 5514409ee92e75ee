"""Object detection: digits in a noisy scene, by heat map, peaks and TopK inside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..scenes import draw_scenes
from .common import conv_block, export, fit, load_digits, onnxruntime_runner, save_case

SIZE = 64
STRIDE = 2
BATCH = 24
BOX_UNIT = 8.0
TOP = 8


class Detector(nn.Module):
    """image f32 [N,1,H,W] -> boxes f32 [N,8,4] (x0,y0,x1,y1 pixels), scores f32 [N,8], labels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_block(1, 24)
        self.half_size = nn.Sequential(conv_block(24, 48, 2), conv_block(48, 48))
        self.quarter_size = nn.Sequential(conv_block(48, 64, 2), conv_block(64, 64))
        self.lateral = nn.Conv2d(64, 48, 1)
        self.head = nn.Sequential(conv_block(48, 48), nn.Conv2d(48, 14, 1))

    def maps(self, image: Tensor) -> Tensor:
        """Per cell of the half-size grid: 10 digit logits, then dx, dy, log width, log height."""
        fine = self.half_size(self.stem(image))
        coarse = self.lateral(self.quarter_size(fine))
        out: Tensor = self.head(fine + F.interpolate(coarse, scale_factor=2.0, mode="nearest"))
        return out

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.maps(image)
        heat = torch.sigmoid(maps[:, :10])
        heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat).float()
        batch, _, height, width = heat.shape
        scores, flat = heat.reshape(batch, -1).topk(TOP)
        labels = flat // (height * width)
        cell = flat % (height * width)
        row, column = (cell // width).float(), (cell % width).float()
        shape = maps[:, 10:].reshape(batch, 4, -1).gather(2, cell[:, None].expand(-1, 4, -1))
        x, y = (column + shape[:, 0]) * STRIDE, (row + shape[:, 1]) * STRIDE
        w, h = shape[:, 2].exp() * BOX_UNIT, shape[:, 3].exp() * BOX_UNIT
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
        return boxes, scores, labels


def make(folder: Path) -> None:
    train, test = load_digits()
    rng = np.random.default_rng(0)
    model = Detector()
    cells = SIZE // STRIDE

    def batch() -> list[Tensor]:
        images, truth = draw_scenes(rng, train, BATCH, SIZE)
        heat = np.zeros((BATCH, 10, cells, cells), np.float32)
        shape = np.zeros((BATCH, 4, cells, cells), np.float32)
        centre = np.zeros((BATCH, 1, cells, cells), np.float32)
        for index, boxes in enumerate(truth):
            for box in boxes:
                x, y = (box.x0 + box.x1) / (2 * STRIDE), (box.y0 + box.y1) / (2 * STRIDE)
                row, column = int(y), int(x)
                heat[index, box.digit, row, column] = 1
                centre[index, 0, row, column] = 1
                shape[index, :, row, column] = (
                    x - column,
                    y - row,
                    np.log((box.x1 - box.x0) / BOX_UNIT),
                    np.log((box.y1 - box.y0) / BOX_UNIT),
                )
        return [torch.tensor(array) for array in (images, heat, shape, centre)]

    def loss(images: Tensor, heat: Tensor, shape: Tensor, centre: Tensor) -> Tensor:
        maps = model.maps(images)
        p = torch.sigmoid(maps[:, :10]).clamp(1e-4, 1 - 1e-4)
        focal = -(heat * (1 - p) ** 2 * p.log()) - (1 - heat) * p**2 * (1 - p).log()
        distance = F.l1_loss(maps[:, 10:], shape, reduction="none") * centre
        return (focal.sum() + distance.sum()) / centre.sum().clamp(min=1)

    fit(model, 500, batch, loss, 4e-3)

    path = folder / "digit_det.onnx"
    export(
        model,
        path,
        {"image": torch.zeros(1, 1, SIZE, SIZE)},
        ["boxes", "scores", "labels"],
        {
            "image": {0: "N", 2: "H", 3: "W"},
            "boxes": {0: "N"},
            "scores": {0: "N"},
            "labels": {0: "N"},
        },
    )
    images, _ = draw_scenes(rng, test, 4, SIZE)
    save_case(folder, "digit_det", image=images, **onnxruntime_runner(path)({"image": images}))
