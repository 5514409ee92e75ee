"""How far each layer is off by itself, all layers in one run.

Beside each layer stands its quantized copy, which reads the same exact values; the distance of the
two results, relative to the exact one, leaves the graph. That ranks the layers at the cost of one
run instead of one for each.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import ModelProto, NodeProto, TensorProto, helper

from zerolane.optimize.onnx_graph import view
from zerolane.optimize.quantization.places import find_layers

_SUFFIX = "/zerolane/quantized"


@dataclass(frozen=True, slots=True)
class Twins:
    """A model with a copy of each layer. names: copies by layer. same: the value that a copy's
    result is to be ranged like. distances: output names by layer: of the difference, of the value.
    """

    model: ModelProto
    names: dict[str, str]
    same: dict[str, str]
    distances: dict[str, tuple[str, str]]


def twins(original: ModelProto, layers: list[str]) -> Twins:
    """A copy of the model whose outputs are the distances."""
    model = ModelProto()
    model.CopyFrom(original)
    graph = model.graph
    del graph.output[:]
    del graph.value_info[:]
    made = Twins(model, {}, {}, {})
    wanted = set(layers)
    for index, layer in enumerate(find_layers(view(original))[0]):
        if layer.name not in wanted:
            continue
        name = f"{index}{_SUFFIX}"
        chain = [layer.node.proto] + ([layer.activation.proto] if layer.activation else [])
        value = ""
        for step, proto in enumerate(chain):
            copy = NodeProto()
            copy.CopyFrom(proto)
            copy.name = name if step == 0 else f"{name}/activation"
            if value:
                copy.input[0] = value
            value = f"{copy.name}/result"
            copy.output[0] = value
            graph.node.append(copy)
        made.names[layer.name] = name
        made.same[value] = layer.result.name
        off, size = f"{name}/off", f"{name}/size"
        graph.node.append(helper.make_node("Sub", [layer.result.name, value], [f"{name}/sub"]))
        graph.node.append(helper.make_node("ReduceL2", [f"{name}/sub"], [off], keepdims=0))
        graph.node.append(helper.make_node("ReduceL2", [layer.result.name], [size], keepdims=0))
        for output in (off, size):
            graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, []))
        made.distances[layer.name] = (off, size)
    return made
