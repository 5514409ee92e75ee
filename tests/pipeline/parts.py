"""Stages that the tests of pipelines are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import zerolane as zl
from tests.models import small

MODELS = Path(__file__).parents[1] / "models"


def load(name: str) -> zl.Session:
    """A trained model of tests/models."""
    return zl.load(MODELS / f"{name}.onnx", threads=1)


def tiny(name: str, *args: Any) -> zl.Session:
    """A hand-built model of tests/models/small.py."""
    return zl.load(getattr(small, name)(*args).SerializeToString(), threads=1)


def cases(name: str) -> dict[str, NDArray[Any]]:
    with np.load(MODELS / f"{name}.case.npz") as arrays:
        return dict(arrays)


def confident(
    image: NDArray[np.float32], boxes: NDArray[np.float32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes above one half, a pixel wider, and the picture of each."""
    picture, row = np.nonzero(scores > 0.5)
    return boxes[picture, row].reshape(-1, 4), picture


def digits_in_scenes() -> zl.Pipeline:
    """Detects digits and classifies each crop: as many as there are."""
    return zl.Pipeline(
        [
            zl.Stage(load("digit_det"), name="detect", inputs={"image": "image"}),
            zl.Stage(
                confident,
                name="select",
                inputs=["image", "boxes", "scores"],
                outputs=[
                    zl.TensorSpec("rois", "float32", ("crops", 4)),
                    zl.TensorSpec("picture", "int64", ("crops",)),
                ],
            ),
            zl.Stage(
                zl.ops.RoiAlign(output_height=8, output_width=8),
                name="crop",
                inputs=["image", "rois", "picture"],
            ),
            zl.Stage(load("digits_cnn"), name="classify"),
        ],
        outputs=["rois", "picture", "logits"],
    )
