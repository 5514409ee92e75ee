"""Values inside a model, gathered on samples, and the rows that a layer multiplies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto

from zerolane.model.load import load
from zerolane.model_file import Payloads, write
from zerolane.optimize.graph_passes.cut import cut

Array = NDArray[Any]


class Probe:
    """Runs a light model up to some of its values."""

    def __init__(
        self, model: ModelProto, payloads: Payloads, names: Sequence[str], path: Path
    ) -> None:
        part = ModelProto()
        part.CopyFrom(model)
        self._fed = [v.name for v in part.graph.input]
        names = [n for n in dict.fromkeys(names) if n not in self._fed]
        self._session = None
        if names:
            cut(part, (), names, "gathering activations")
            write(part, payloads, path, external=True)
            self._session = load(path, graph_level="basic")

    def run(self, sample: dict[str, Array]) -> dict[str, Array]:
        """The values by name, those of inputs included."""
        if self._session is None:
            return dict(sample)
        wanted = {spec.name for spec in (*self._session.inputs, *self._session.optional_inputs)}
        return {**sample, **self._session.run({k: v for k, v in sample.items() if k in wanted})}


def spreads(
    model: ModelProto,
    payloads: Payloads,
    samples: Iterable[dict[str, Array]],
    path: Path,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """By value that a layer takes in: how its channels vary together, over samples and places.

    The covariance [C, C], and beyond MOST_TOGETHER channels their variances [C].
    """
    axes: dict[str, int] = {}
    for node in model.graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            axes[node.input[0]] = 1
        elif node.op_type in ("Gemm", "MatMul"):
            first = node.op_type == "Gemm" and attribute(node, "transA", 0)
            axes[node.input[0]] = 0 if first else -1
    constants = {t.name for t in model.graph.initializer}
    names = [name for name in axes if name not in constants]
    probe = Probe(model, payloads, names, path)
    sums: dict[str, tuple[int, Any, Any]] = {}
    for sample in samples:
        values = probe.run(sample)
        for name in names:
            value = np.moveaxis(values[name], axes[name], -1)
            rows = value.reshape(-1, value.shape[-1])
            rows = rows[_some(len(rows), _ROWS, rng)].astype(np.float64)
            together = rows.shape[1] <= MOST_TOGETHER
            square = rows.T @ rows if together else np.square(rows).sum(0)
            count, total, squares = sums.get(name, (0, 0.0, 0.0))
            sums[name] = count + len(rows), total + rows.sum(0), squares + square
    found = {}
    for name, (count, total, squares) in sums.items():
        mean = total / max(count, 1)
        product = np.outer(mean, mean) if squares.ndim == 2 else np.square(mean)
        found[name] = squares / max(count, 1) - product
    return found


MOST_TOGETHER = 4096
_ROWS = 8192  # of one sample


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    for found in node.attribute:
        if found.name == name:
            return list(found.ints) if found.ints else found.s or found.f or found.i
    return default


def layer_rows(
    node: NodeProto, x: Array, y: Array, kernel: Sequence[int], most: int, rng: np.random.Generator
) -> Iterator[tuple[Array, Array, Array]]:
    """(rows of x, rows of y, the item of the batch of each row) of a Conv without groups, Gemm or
    MatMul, `most` rows picked at random where there are more.

    With the weight as a matrix [inputs, outputs] (of a Conv: channels x kernel by outputs), rows of
    x times that are the rows of y without bias.
    """
    if node.op_type != "Conv":
        if node.op_type == "Gemm" and attribute(node, "transA", 0):
            x = x.T
        rows, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1])
        item = np.arange(len(rows)) // max(len(rows) // max(len(x), 1), 1)
        places = _some(len(rows), most, rng)
        yield rows[places], out[places], item[places]
        return
    windows = _windows(node, x, kernel)
    spatial = y.shape[2:]
    count = len(y) * prod(spatial)
    item, *place = np.unravel_index(_some(count, most, rng), (len(y), *spatial))
    at: Any = (item, slice(None), *place)
    picked = windows[at]
    yield picked.reshape(len(picked), -1), y[at], item


def _windows(node: NodeProto, x: Array, kernel: Sequence[int]) -> Array:
    """[N, C, positions..., kernel...], a view of the padded input."""
    rank = len(kernel)
    strides = attribute(node, "strides", [1] * rank)
    dilations = attribute(node, "dilations", [1] * rank)
    pads = attribute(node, "pads", [0] * 2 * rank)
    auto = attribute(node, "auto_pad", b"NOTSET")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = [0] * 2 * rank
        for axis, (size, stride, width) in enumerate(zip(x.shape[2:], strides, reach, strict=True)):
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + rank] = (
                (small, large) if auto == b"SAME_UPPER" else (large, small)
            )
    padded = np.pad(x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)])
    view = sliding_window_view(padded, reach, tuple(range(2, 2 + rank)))
    steps = tuple(slice(None, None, s) for s in strides)
    taps = tuple(slice(None, None, d) for d in dilations)
    return np.asarray(view[(slice(None), slice(None), *steps, *taps)])


def _some(count: int, most: int, rng: np.random.Generator) -> Array:
    if count <= most:
        return np.arange(count)
    return np.sort(rng.choice(count, most, replace=False))
