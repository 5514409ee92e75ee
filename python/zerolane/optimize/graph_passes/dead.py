"""What nothing reads is taken out: nodes, initializers, types, functions, optional outputs."""

from __future__ import annotations

from onnx import GraphProto, ModelProto, NodeProto, defs

from zerolane.optimize.graph_passes.cut import reads
from zerolane.optimize.onnx_graph import bodies_of, opsets


def remove_dead(model: ModelProto) -> None:
    """Remove, in place, what no output of the model depends on. Inputs and outputs stay."""
    _clean(model.graph, opsets(model))
    called = _operators(model.graph)
    for function in model.functions:
        for node in function.node:
            called.add((node.domain, node.op_type))
    for index in reversed(range(len(model.functions))):
        function = model.functions[index]
        if (function.domain, function.name) not in called:
            del model.functions[index]
    domains = {_domain(d) for d, _ in called} | {""}
    domains |= {_domain(f.domain) for f in model.functions}
    domains |= {_domain(o.domain) for f in model.functions for o in f.opset_import}
    kept = [o for o in model.opset_import if _domain(o.domain) in domains]
    if len(kept) < len(model.opset_import):
        pairs = [(o.domain, o.version) for o in kept]
        del model.opset_import[:]
        for domain, version in pairs:
            model.opset_import.add(domain=domain, version=version)


def _clean(graph: GraphProto, versions: dict[str, int]) -> None:
    wanted = {v.name for v in graph.output}
    alive = []
    for node in reversed(graph.node):
        if not wanted.isdisjoint(node.output) or not any(node.output):
            for body in bodies_of(node):
                _clean(body, versions)
            wanted |= reads(node)
            alive.append(node)
    fed = {v.name for v in graph.input}
    copies = [type(n).FromString(n.SerializeToString()) for n in reversed(alive)]
    for node in copies:
        _drop_optional_outputs(node, wanted, versions)
    del graph.node[:]
    graph.node.extend(copies)
    for index in reversed(range(len(graph.initializer))):
        name = graph.initializer[index].name
        if name not in wanted and name not in fed:
            del graph.initializer[index]
    for index in reversed(range(len(graph.sparse_initializer))):
        if graph.sparse_initializer[index].values.name not in wanted:
            del graph.sparse_initializer[index]
    there = {name for node in graph.node for name in node.output}
    for index in reversed(range(len(graph.value_info))):
        if graph.value_info[index].name not in there:
            del graph.value_info[index]


def _drop_optional_outputs(node: NodeProto, wanted: set[str], versions: dict[str, int]) -> None:
    """Such as the mask of Dropout: a runtime computes what is named."""
    domain = _domain(node.domain)
    try:
        schema = defs.get_schema(node.op_type, versions.get(domain, 1), domain)
    except defs.SchemaError:
        return
    if any(p.option == defs.OpSchema.FormalParameterOption.Variadic for p in schema.outputs):
        return
    names = list(node.output)
    while len(names) > schema.min_output and names[-1] not in wanted:
        names.pop()
    if len(names) < len(node.output):
        del node.output[:]
        node.output.extend(names)


def _operators(graph: GraphProto) -> set[tuple[str, str]]:
    found = {(node.domain, node.op_type) for node in graph.node}
    for node in graph.node:
        for body in bodies_of(node):
            found |= _operators(body)
    return found


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain
