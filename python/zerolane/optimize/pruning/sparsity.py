"""Masks of weights: the largest stay, of all or two of every four along the summed axis."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto

from zerolane.model_file import Payloads
from zerolane.optimize.pruning.activations import attribute
from zerolane.optimize.pruning.flow import array_of

Mask = NDArray[np.bool_]

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_QUAD, _KEPT = 4, 2


@dataclass(frozen=True)
class Weight:
    """A weight of the main graph and the axis that its layers sum over."""

    name: str
    axis: int
    node: str
    op: str
    shape: tuple[int, ...]
    reason: str = ""
    """Why it cannot have the 2:4 pattern; empty where it can."""


def weights(model: ModelProto) -> list[Weight]:
    """The weights of Conv, ConvTranspose, Gemm and MatMul, each once.

    The pattern is along what TensorRT sums over: input channels of a convolution, at each place of
    the kernel (K x C x R x S with C a multiple of 4), the inner dimension of a product.
    """
    tensors = {t.name: t for t in model.graph.initializer}
    found: dict[str, Weight] = {}
    for node in model.graph.node:
        place = _place(node, tensors)
        if place is None:
            continue
        name, axis, reason = place
        shape = tuple(tensors[name].dims)
        if shape[axis] % _QUAD and not reason:
            reason = f"its axis of {shape[axis]} is no multiple of {_QUAD}"
        if name in found and found[name].axis != axis:
            reason = "two layers sum over different axes of it"
        told = str(node.name or node.output[0])
        found[name] = Weight(name, axis, told, node.op_type, shape, reason)
    return list(found.values())


def _place(node: NodeProto, tensors: dict[str, TensorProto]) -> tuple[str, int, str] | None:
    if node.domain not in ("", "ai.onnx") or len(node.input) < 2:
        return None

    def known(name: str, rank: int) -> bool:
        tensor = tensors.get(name)
        return tensor is not None and tensor.data_type in _FLOATS and len(tensor.dims) >= rank

    if node.op_type in ("Conv", "ConvTranspose") and known(node.input[1], 3):
        grouped = attribute(node, "group", 1) != 1
        if node.op_type == "ConvTranspose":
            return node.input[1], 0, "TensorRT has no sparse kernels for ConvTranspose"
        return node.input[1], 1, "it is a grouped convolution" if grouped else ""
    if node.op_type == "Gemm" and known(node.input[1], 2):
        return node.input[1], 1 if attribute(node, "transB", 0) else 0, ""
    if node.op_type == "MatMul":
        if known(node.input[1], 2):
            return node.input[1], len(tensors[node.input[1]].dims) - 2, ""
        if known(node.input[0], 2):
            return node.input[0], len(tensors[node.input[0]].dims) - 1, ""
    return None


def two_of_four(weight: NDArray[Any], axis: int) -> Mask:
    """The two largest magnitudes of every four neighbours along the axis; the first of equals."""
    last = np.moveaxis(np.abs(weight.astype(np.float32)), axis, -1)
    quads = last.reshape(*last.shape[:-1], -1, _QUAD)
    mask = np.empty(quads.shape, bool)
    for place in range(_QUAD):  # rather than sorting, whose indices are four times the weights
        own = quads[..., place]
        larger = np.zeros(own.shape, np.int8)
        for other in range(_QUAD):
            if other != place:
                before = np.greater_equal if other < place else np.greater
                larger += before(quads[..., other], own)
        mask[..., place] = larger < _KEPT
    return np.moveaxis(mask.reshape(last.shape), -1, axis)


def is_two_of_four(weight: NDArray[Any], axis: int) -> bool:
    """Whether two of every four neighbours along the axis are zero, at least."""
    last = np.moveaxis(weight, axis, -1)
    if last.shape[-1] % _QUAD:
        return False
    quads = last.reshape(*last.shape[:-1], -1, _QUAD)
    return bool((np.count_nonzero(quads, axis=-1) <= _KEPT).all())


def pattern_masks(
    model: ModelProto, payloads: Payloads, left_out: Collection[str]
) -> dict[str, Mask]:
    """2:4 masks by the name of the weight; `left_out` are names of weights."""
    tensors = {t.name: t for t in model.graph.initializer}
    return {
        w.name: two_of_four(array_of(tensors[w.name], payloads), w.axis)
        for w in weights(model)
        if not w.reason and w.name not in left_out
    }


def magnitude_masks(
    model: ModelProto, payloads: Payloads, ratio: float, scope: str, left_out: Collection[str]
) -> dict[str, Mask]:
    """Masks in which the smallest `ratio` of all weights ("global") or of each ("layer") go.

    Magnitudes as they are (Han et al., "Learning both Weights and Connections for Efficient Neural
    Networks", 2015).
    """
    tensors = {t.name: t for t in model.graph.initializer}
    names = [w.name for w in weights(model) if w.name not in left_out]
    sizes = {n: np.abs(array_of(tensors[n], payloads).astype(np.float32)).ravel() for n in names}
    if scope == "layer" or not names:
        kept = {name: _largest(sizes[name], ratio) for name in names}
    else:
        parts = np.cumsum([len(sizes[n]) for n in names])[:-1]
        whole = _largest(np.concatenate([sizes[n] for n in names]), ratio)
        kept = dict(zip(names, np.split(whole, parts), strict=True))
    return {name: kept[name].reshape(tuple(tensors[name].dims)) for name in names}


def _largest(sizes: NDArray[np.float32], ratio: float) -> Mask:
    """All but the smallest `ratio`; of equal ones the first go."""
    gone = round(len(sizes) * ratio)
    if gone == 0:
        return np.ones(len(sizes), bool)
    limit = np.partition(sizes, gone - 1)[gone - 1]
    mask = np.asarray(sizes > limit)
    equal = np.flatnonzero(sizes == limit)
    mask[equal[gone - int((sizes < limit).sum()) :]] = True
    return mask
