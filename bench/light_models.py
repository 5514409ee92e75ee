# SPDX-License-Identifier: Apache-2.0
"""Whole architectures from the onnx package, whose weights are constants, with random weights.

He-initialised, with batch norms near 1, so that activations have the ranges of a trained network;
what they compute means nothing, and how long they take depends on shapes alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES = ("squeezenet", "resnet50")
SHAPE = (1, 3, 224, 224)


def make(name: str, path: Path) -> Path:
    """Writes the architecture to `path` where it is not there yet."""
    import onnx
    from onnx import numpy_helper

    if path.exists():
        return path
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{name}.onnx")
    graph = model.graph
    stored = {t.name: t for t in graph.initializer}
    readers = {value: (n, i) for n in graph.node for i, value in enumerate(n.input)}
    weighted = ("Conv", "Gemm", "BatchNormalization")
    shapes: dict[str, list[int]] = {}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shapes[node.output[0]] = numpy_helper.to_array(stored[node.input[0]]).tolist()
    for value, tensor in stored.items():
        if value in readers and readers[value][0].op_type in weighted:
            shapes[value] = list(tensor.dims)
    rng = np.random.default_rng(0)
    made = {v: _values(rng, *readers[v], shape) for v, shape in shapes.items() if v in readers}
    nodes = [n for n in graph.node if n.op_type != "ConstantOfShape"]
    used = {value for node in nodes for value in node.input}
    kept = [t for v, t in stored.items() if v not in made and v in used]
    copies = [type(t).FromString(t.SerializeToString()) for t in kept]
    copies += [numpy_helper.from_array(array, v) for v, array in made.items()]
    feeds = [v for v in graph.input if v.name in used and v.name not in {t.name for t in copies}]
    feeds = [type(v).FromString(v.SerializeToString()) for v in feeds]
    nodes = [type(n).FromString(n.SerializeToString()) for n in nodes]
    for field, items in ((graph.node, nodes), (graph.initializer, copies), (graph.input, feeds)):
        del field[:]
        field.extend(items)
    model.ir_version = 4
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def images(count: int, seed: int = 0) -> list[NDArray[Any]]:
    """Smooth noise of mean 0 and variance about 1, like a normalised photograph's."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        coarse = rng.standard_normal((1, 3, 28, 28)).astype(np.float32)
        fine = rng.standard_normal(SHAPE).astype(np.float32)
        found.append(np.kron(coarse, np.ones((8, 8), np.float32)) * 0.8 + 0.6 * fine)
    return found


def _values(
    rng: np.random.Generator, node: Any, index: int, shape: list[int]
) -> NDArray[np.float32]:
    if node.op_type == "BatchNormalization":
        low, high = {1: (0.5, 1.0), 4: (0.8, 1.2)}.get(index, (-0.1, 0.1))
        values = rng.uniform(low, high, shape)
    elif node.op_type in ("Conv", "Gemm") and index == 1:
        gain = 2 if node.op_type == "Conv" else 1
        values = rng.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
    else:
        values = rng.standard_normal(shape) * 0.05
    return np.asarray(values, np.float32)
