"""Image classification: a five-layer convolutional network on 8x8 handwritten digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .common import conv_block, fit, load_digits, onnxruntime_runner, save_case, strip_metadata


def make(folder: Path) -> None:
    train, test = load_digits()
    rng = np.random.default_rng(0)
    model = nn.Sequential(
        conv_block(1, 32),
        conv_block(32, 32),
        conv_block(32, 64, 2),
        conv_block(64, 64),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )

    def batch() -> tuple[Tensor, Tensor]:
        chosen = rng.integers(0, len(train.images), 64)
        return torch.tensor(train.images[chosen, None]), torch.tensor(train.labels[chosen])

    fit(model, 400, batch, lambda images, labels: F.cross_entropy(model(images), labels))

    path = folder / "digits_cnn.onnx"
    # The one model that comes from the newer exporter, so that both kinds of graph are covered.
    torch.onnx.export(
        model.eval(),
        (torch.zeros(2, 1, 8, 8),),
        str(path),
        dynamo=True,
        external_data=False,
        opset_version=18,
        input_names=["image"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    strip_metadata(path)

    images = test.images[:32, None]
    outputs = onnxruntime_runner(path)({"image": images})
    save_case(folder, "digits_cnn", image=images, logits=outputs["logits"], label=test.labels[:32])
