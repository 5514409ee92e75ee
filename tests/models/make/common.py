"""What every training script shares: digits, fitting, exporting, the case file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..scenes import Digits

Arrays = dict[str, NDArray[Any]]

TRAIN_DIGITS = 1400


def load_digits() -> tuple[Digits, Digits]:
    """Returns (training, held-back) handwritten digits as shipped in scikit-learn, in 0..1.

    The held-back part is the one stored in `python/zerolane/cli/demo_data/digits_test.npz`.
    """
    from sklearn import datasets

    data = datasets.load_digits()
    images = (data.images / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    order = np.random.RandomState(0).permutation(len(images))
    train, test = order[:TRAIN_DIGITS], order[TRAIN_DIGITS:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def conv_block(channels_in: int, channels_out: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride, 1), nn.BatchNorm2d(channels_out), nn.ReLU()
    )


def fit(
    model: nn.Module,
    steps: int,
    batch: Callable[[], Sequence[Tensor]],
    loss: Callable[..., Tensor],
    learning_rate: float = 2e-3,
) -> None:
    """Runs `steps` steps of AdamW with a one-cycle schedule on `loss(*batch())`."""
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, steps)
    model.train()
    for _ in range(steps):
        value = loss(*batch())
        optimizer.zero_grad()
        torch.autograd.backward(value)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


def export(
    model: nn.Module,
    path: Path,
    example: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
) -> None:
    """Exports at opset 17 with the TorchScript exporter; `dynamic` names the free dimensions."""
    torch.onnx.export(
        model.eval(),
        tuple(example.values()),
        str(path),
        dynamo=False,
        opset_version=17,
        input_names=list(example),
        output_names=list(outputs),
        dynamic_axes={name: dict(axes) for name, axes in dynamic.items()},
    )
    strip_metadata(path)


def strip_metadata(path: Path) -> None:
    """Removes what exporters note about the machine and source lines (metadata, doc strings)."""
    model = onnx.load(path)
    graph = model.graph
    model.ClearField("doc_string")
    for owner in (model, graph, *graph.node, *graph.initializer):
        owner.ClearField("metadata_props")
    for item in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info):
        item.ClearField("doc_string")
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.ClearField("metadata_props")
    onnx.save(model, path)


def onnxruntime_runner(path: Path) -> Callable[[Arrays], Arrays]:
    """Loads `path` on one CPU thread and returns a function from named inputs to named outputs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(inputs: Arrays) -> Arrays:
        return dict(zip(names, session.run(None, inputs), strict=True))

    return run


def save_case(folder: Path, name: str, **arrays: NDArray[Any]) -> None:
    np.savez_compressed(folder / f"{name}.case.npz", allow_pickle=False, **arrays)
