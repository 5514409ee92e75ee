"""What exporters leave in a model of the machine that it was made on."""

from __future__ import annotations

from onnx import GraphProto, ModelProto

from zerolane.optimize.onnx_graph import bodies_of


def strip(model: ModelProto) -> int:
    """Take out stack traces, paths and comments of graphs, nodes and values; returns how many.

    PyTorch notes at each node which lines of which files it came from. Metadata of the model itself
    stays, as do names: they do not change what it computes, but people know nodes by them.
    """
    count = _strip_graph(model.graph)
    for function in model.functions:
        count += _clear(function)
        for node in function.node:
            count += _clear(node)
    return count


def _strip_graph(graph: GraphProto) -> int:
    count = _clear(graph)
    for part in (graph.node, graph.input, graph.output, graph.value_info, graph.initializer):
        count += sum(_clear(owner) for owner in part)
    for node in graph.node:
        count += sum(_strip_graph(body) for body in bodies_of(node))
    return count


def _clear(owner: object) -> int:
    count = 0
    entries = getattr(owner, "metadata_props", None)
    if entries:
        count += len(entries)
        del entries[:]
    if getattr(owner, "doc_string", ""):
        owner.ClearField("doc_string")  # type: ignore[attr-defined]
        count += 1
    return count
