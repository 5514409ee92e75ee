# SPDX-License-Identifier: Apache-2.0
"""The models that are timed on a GPU, each with one input. All have weights that anyone can make.

resnet50 has the layers of ResNet-50 v1.5 with random weights: its speed is that network's, its
answers mean nothing. policy and the trained ones are those of the CPU benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import models as cpu_models
from bench.models import Case, Feed

SEED = 0
IMAGE = 224
TRAINED = ("digits_cnn", "line_ctc", "stream_vad", "ttt_policy")
BALANCED_ROWS, BALANCED_WIDTH, BALANCED_LAYERS = 8192, 2048, 6


@dataclass
class Graph:
    """Collects nodes and weights; each method returns the name of the value it adds."""

    nodes: list[Any] = field(default_factory=list)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(SEED))

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def weight(self, array: NDArray[np.float32]) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = array
        return name

    def conv(self, x: str, channels: tuple[int, int], kernel: int, stride: int, gain: float) -> str:
        """A convolution with bias, as a batch norm folded into it leaves it."""
        there, out = channels
        scale = np.float32(gain * (2.0 / (there * kernel * kernel)) ** 0.5)
        shape = (out, there, kernel, kernel)
        w = self.weight(self.rng.standard_normal(shape, np.float32) * scale)
        b = self.weight(self.rng.standard_normal(out, np.float32) * np.float32(0.05))
        pad = kernel // 2
        return self.node(
            "Conv", [x, w, b], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4
        )

    def save(self, path: Path, x: list[Any], y: list[Any], result: str) -> Path:
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [result], ["y"]))
        return cpu_models._save(path, self.nodes, x, y, dict(self.weights))


def resnet50(folder: Path, batch: int = 1) -> Case:
    """x f32[N,3,224,224] -> y f32[N,1000]: 25.5 million weights, 53 convolutions, a dense layer."""
    path = folder / "resnet50.onnx"
    if not path.exists():
        _write_resnet50(path)
    rng = np.random.default_rng(SEED)
    name = "resnet50" if batch == 1 else f"resnet50 x{batch}"
    x = rng.standard_normal((batch, 3, IMAGE, IMAGE), np.float32)
    return Case(name, path, {"x": x})


def _write_resnet50(path: Path) -> None:
    g = Graph()
    x = g.node("Relu", [g.conv("x", (3, 64), 7, 2, 1.0)])
    x = g.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    there = 64
    for width, blocks, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first_stride if block == 0 else 1
            out = 4 * width
            side = x if block else g.conv(x, (there, out), 1, stride, 0.7)
            h = g.node("Relu", [g.conv(x, (there, width), 1, 1, 1.0)])
            h = g.node("Relu", [g.conv(h, (width, width), 3, stride, 1.0)])
            h = g.conv(h, (width, out), 1, 1, 0.3)  # keeps activations of random weights in bounds
            x = g.node("Relu", [g.node("Add", [h, side])])
            there = out
    x = g.node("Flatten", [g.node("GlobalAveragePool", [x])], axis=1)
    w = g.weight(g.rng.standard_normal((2048, 1000), np.float32) * np.float32(2048**-0.5))
    b = g.weight(np.zeros(1000, np.float32))
    x = g.node("Gemm", [x, w, b])
    g.save(path, ["N", 3, IMAGE, IMAGE], ["N", 1000], x)


def balanced(folder: Path, rows: int = BALANCED_ROWS) -> Case:
    """x f32[N,2048] -> y f32[N,2048] by six dense layers: with 8192 rows, 64 MiB go each way.

    Copying and computing take about equally long on a large GPU: what overlap is worth shows best.
    """
    path = folder / "balanced.onnx"
    if not path.exists():
        g = Graph()
        width = BALANCED_WIDTH
        shape = (width, width)
        w = g.weight(g.rng.standard_normal(shape, np.float32) * np.float32((2 / width) ** 0.5))
        x = "x"
        for _ in range(BALANCED_LAYERS):
            x = g.node("Relu", [g.node("MatMul", [x, w])])
        g.save(path, ["N", width], ["N", width], x)
    rng = np.random.default_rng(SEED)
    return Case("balanced", path, {"x": rng.standard_normal((rows, BALANCED_WIDTH), np.float32)})


def small_cases(folder: Path, trained: Path) -> list[Case]:
    """Where the call itself is what costs: one operator, the policy, the trained models."""
    made = [cpu_models.one_operator(folder), cpu_models.policy(folder)]
    return made + [c for c in cpu_models.trained(trained) if c.name in TRAINED]


def all_cases(folder: Path, trained: Path) -> list[Case]:
    return [*small_cases(folder, trained), resnet50(folder)]


def shapes_of(inputs: Feed) -> dict[str, tuple[int, ...]]:
    return {name: tuple(a.shape) for name, a in inputs.items()}
