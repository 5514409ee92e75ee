"""Taking channels away: weights get smaller, and what attributes and constants say follows."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto

from zerolane.model_file import Payloads
from zerolane.optimize.graph_passes.dead import remove_dead
from zerolane.optimize.pruning.channels import Ids
from zerolane.optimize.pruning.flow import Flow, array_of, set_array
from zerolane.optimize.pruning.rules import RULES


def prepare(model: ModelProto) -> None:
    """Constants of the main graph become plain initializers, so that they can get smaller.

    Constant nodes do, and initializers that are listed as inputs too, which callers could replace.
    """
    graph = model.graph
    constant = {t.name for t in graph.initializer}
    for value in list(graph.input):
        if value.name in constant:
            graph.input.remove(value)
    for node in list(graph.node):
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            continue
        value = next((a for a in node.attribute if a.name == "value"), None)
        tensor = onnx.TensorProto()
        if value is not None:
            tensor.CopyFrom(value.t)
        else:
            whole = next((a for a in node.attribute if a.name in ("value_int", "value_ints")), None)
            if whole is None:
                continue
            one = whole.type == AttributeProto.INT
            array = np.array(whole.i if one else list(whole.ints), np.int64)
            tensor = onnx.numpy_helper.from_array(array)
        if node.output[0] in {o.name for o in graph.output}:
            continue
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def follow(model: ModelProto, payloads: Payloads) -> Flow:
    """The channels of a light model without functions, which the flow may later change."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, tuple[int | None, ...]] = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kind = value.type.tensor_type
        if value.type.HasField("tensor_type") and kind.HasField("shape"):
            dims = (d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
            shapes[value.name] = tuple(dims)
    flow = Flow(model, payloads, shapes)
    flow.follow(RULES)
    return flow


def shrink(flow: Flow, gone: Iterable[int]) -> None:
    """Take the classes of channels away, in the model of the flow."""
    classes = np.array(sorted(gone), np.int64)

    def kept(ids: Ids) -> NDArray[np.bool_]:
        return ~np.isin(flow.channels.classes(ids), classes)

    for edit in flow.edits:
        edit(kept)
    for name, axes in flow.weights.items():
        tensor = flow.constants[name]
        array = before = array_of(tensor, flow.payloads)
        for axis, ids in enumerate(axes):
            if ids is not None:
                stays = kept(ids)
                if not stays.all():
                    array = np.compress(stays, array, axis)
        if array is not before:
            set_array(tensor, flow.payloads, array)
    del flow.graph.value_info[:]  # they tell the old sizes
    remove_dead(flow.model)
