"""A model cut down to the part between some of its values."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

import onnx
from onnx import GraphProto, ModelProto, NodeProto, ValueInfoProto

from zerolane.errors import InvalidArgument
from zerolane.optimize.onnx_graph import bodies_of


def cut(model: ModelProto, inputs: Sequence[str], outputs: Sequence[str], doing: str) -> None:
    """Keep what computes `outputs` from `inputs`, in place; empty: the model's own.

    Both are names of values of the main graph. Raises InvalidArgument for a name that is none, and
    where an output also depends on an input that is not among them.
    """
    graph = model.graph
    constant = {t.name for t in graph.initializer} | {
        s.values.name for s in graph.sparse_initializer
    }
    own = [v.name for v in graph.input if v.name not in constant]
    producer = {name: node for node in graph.node for name in node.output if name}
    check_names(model, (*inputs, *outputs), doing)
    told = _types(model)
    ends = set(inputs) if inputs else set(own)
    wanted = list(outputs) or [v.name for v in graph.output]
    kept: set[int] = set()
    used: set[str] = set()
    waiting = [(name, name) for name in wanted]
    while waiting:
        name, output = waiting.pop()
        if name in used:
            continue
        used.add(name)
        if name in ends or name in constant:
            continue
        node = producer.get(name)
        if node is None:
            if name in own:
                raise InvalidArgument(
                    f"{doing}: output {output!r} also depends on the input {name!r}, expected it "
                    f"to be computed from {sorted(ends)} alone; add {name!r} to inputs, or cut "
                    "nearer to the output",
                    name,
                )
            continue
        if id(node) not in kept:
            kept.add(id(node))
            waiting += [(source, output) for source in reads(node)]
    nodes = [n for n in graph.node if id(n) in kept]
    new_inputs = [told[n] for n in (list(inputs) or own) if n in used or n in wanted]
    new_inputs += [v for v in graph.input if v.name in constant and v.name in used]
    _replace(graph, nodes, new_inputs, [_typed(told, n, doing) for n in wanted], used)


def check_names(model: ModelProto, names: Sequence[str], doing: str) -> None:
    """Raises InvalidArgument for a name that is no value of the main graph."""
    known = {v.name for v in model.graph.input} - {t.name for t in model.graph.initializer}
    known |= {name for node in model.graph.node for name in node.output if name}
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            raise InvalidArgument(
                f"{doing}: there is no value {name!r} to cut at, expected the name of an input or "
                f"of a node's output{'; did you mean ' + ', '.join(near) if near else ''}; "
                "netron shows the names",
                name,
            )


def reads(node: NodeProto) -> set[str]:
    """The names that a node takes from outside, those that its bodies capture included."""
    names = {name for name in node.input if name}
    for body in bodies_of(node):
        own = {v.name for v in body.input} | {t.name for t in body.initializer}
        inner: set[str] = set()
        for child in body.node:
            inner |= reads(child) - own
            own.update(child.output)
        names |= inner | ({v.name for v in body.output} - own)
    return names


def _types(model: ModelProto) -> dict[str, ValueInfoProto]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {v.name: v for v in (*graph.value_info, *graph.output, *graph.input)}


def _typed(told: dict[str, ValueInfoProto], name: str, doing: str) -> ValueInfoProto:
    if name not in told:
        raise InvalidArgument(
            f"{doing}: the type of {name!r} is not known, expected one that onnx can infer to make "
            "it an output; cut at another value",
            name,
        )
    return told[name]


def _replace(
    graph: GraphProto,
    nodes: list[NodeProto],
    inputs: list[ValueInfoProto],
    outputs: list[ValueInfoProto],
    used: set[str],
) -> None:
    made = GraphProto()
    made.CopyFrom(graph)
    for field in (made.node, made.input, made.output, made.initializer, made.value_info):
        del field[:]
    made.node.extend(nodes)
    made.input.extend(inputs)
    made.output.extend(outputs)
    made.initializer.extend(t for t in graph.initializer if t.name in used)
    made.value_info.extend(graph.value_info)
    graph.CopyFrom(made)
