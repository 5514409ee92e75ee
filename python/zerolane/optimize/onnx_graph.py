"""A view of an ONNX model as values and nodes with scopes, element types and schemas.

The view points into the proto that it was made from; it does not outlive changes to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, defs
from onnx.defs import OpSchema

FLOAT = int(TensorProto.FLOAT)
CONTROL_FLOW = ("If", "Loop", "Scan")

# Element types of values that are no tensors, or that no inference could tell.
NO_TENSOR, UNKNOWN = -1, 0


@dataclass(eq=False)
class Value:
    """One value in one scope.

    elem: its element type, NO_TENSOR or UNKNOWN.
    constant: the tensor of an initializer or a Constant node.
    fed: it is an input of its graph (or overrides an initializer).
    returned: it is an output of some graph, so that its name and type are seen outside.
    """

    name: str
    scope: Scope
    elem: int = UNKNOWN
    producer: Node | None = None
    constant: TensorProto | None = None
    fed: bool = False
    returned: bool = False
    uses: list[tuple[Node, int]] = field(default_factory=list)

    @property
    def is_float(self) -> bool:
        return self.elem == FLOAT


@dataclass(eq=False)
class Node:
    """One node. An input or output that is left out is None."""

    proto: NodeProto
    scope: Scope
    schema: OpSchema | None
    inputs: list[Value | None] = field(default_factory=list)
    outputs: list[Value | None] = field(default_factory=list)
    bodies: list[Scope] = field(default_factory=list)

    @property
    def op(self) -> str:
        """The operator's type, with its domain where that is not ONNX's own."""
        domain = self.proto.domain
        return self.proto.op_type if domain in ("", "ai.onnx") else f"{domain}.{self.proto.op_type}"

    @property
    def name(self) -> str:
        """Its name, or where it has none that of its first output."""
        return self.proto.name or next((v.name for v in self.outputs if v is not None), "")

    def attribute(self, name: str) -> AttributeProto | None:
        return next((a for a in self.proto.attribute if a.name == name), None)

    def input_port(self, index: int) -> OpSchema.FormalParameter:
        assert self.schema is not None
        return self.schema.inputs[min(index, len(self.schema.inputs) - 1)]

    def output_port(self, index: int) -> OpSchema.FormalParameter:
        assert self.schema is not None
        return self.schema.outputs[min(index, len(self.schema.outputs) - 1)]

    def admits(self, port: OpSchema.FormalParameter, dtype: str) -> bool:
        """Whether the port's type constraint has tensor(dtype)."""
        assert self.schema is not None
        wanted = f"tensor({dtype})"
        for constraint in self.schema.type_constraints:
            if constraint.type_param_str == port.type_str:
                return wanted in constraint.allowed_type_strs
        return bool(port.type_str == wanted)


@dataclass(eq=False)
class Scope:
    """A graph: the main one, or the body of a control-flow node (`owner`)."""

    graph: GraphProto
    parent: Scope | None = None
    owner: Node | None = None
    values: dict[str, Value] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)

    def find(self, name: str) -> Value | None:
        """The value that `name` means here, looking outward."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        return None

    def walk(self) -> Iterator[Node]:
        """All nodes in order, those of bodies after their owner."""
        for node in self.nodes:
            yield node
            for body in node.bodies:
                yield from body.walk()

    def scopes(self) -> Iterator[Scope]:
        """This graph and all bodies within."""
        yield self
        for node in self.nodes:
            for body in node.bodies:
                yield from body.scopes()


def opsets(model: ModelProto) -> dict[str, int]:
    """Opset version by domain; ONNX's own is ""."""
    return {("" if o.domain == "ai.onnx" else o.domain): o.version for o in model.opset_import}


def view(model: ModelProto) -> Scope:
    """The view of a model whose types onnx can infer; types it cannot tell are UNKNOWN."""
    inferred = onnx.shape_inference.infer_shapes(model)
    return _scope(model.graph, inferred.graph, None, None, opsets(model))


def all_names(model: ModelProto) -> set[str]:
    """Every name of a value or node, so that a new one can be made that is none of them."""
    names: set[str] = set()

    def visit(graph: GraphProto) -> None:
        names.update(v.name for v in (*graph.input, *graph.output, *graph.value_info))
        names.update(t.name for t in graph.initializer)
        names.update(t.values.name for t in graph.sparse_initializer)
        for node in graph.node:
            names.update((node.name, *node.input, *node.output))
            for attribute in node.attribute:
                for body in (attribute.g, *attribute.graphs):
                    visit(body)

    visit(model.graph)
    return names


def bodies_of(node: NodeProto) -> list[GraphProto]:
    """The graphs in a node's attributes, in order."""
    found = []
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            found.append(attribute.g)
        found += list(attribute.graphs)
    return found


def _schema(node: NodeProto, versions: dict[str, int]) -> OpSchema | None:
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        return defs.get_schema(node.op_type, versions.get(domain, 1), domain)
    except defs.SchemaError:
        return None


def _elem(value: onnx.ValueInfoProto) -> int:
    kind = value.type.WhichOneof("value")
    if kind == "tensor_type":
        return int(value.type.tensor_type.elem_type)
    return UNKNOWN if kind is None else NO_TENSOR


def _scope(
    graph: GraphProto,
    inferred: GraphProto,
    parent: Scope | None,
    owner: Node | None,
    versions: dict[str, int],
) -> Scope:
    scope = Scope(graph, parent, owner)
    types = {v.name: _elem(v) for v in (*inferred.value_info, *inferred.output)}
    for tensor in graph.initializer:
        scope.values[tensor.name] = Value(tensor.name, scope, tensor.data_type, constant=tensor)
    for sparse in graph.sparse_initializer:
        name = sparse.values.name
        scope.values[name] = Value(name, scope, sparse.values.data_type)
    for fed, typed in zip(graph.input, inferred.input, strict=True):
        value = scope.values.setdefault(fed.name, Value(fed.name, scope, _elem(typed)))
        value.fed = True
    for proto, typed_node in zip(graph.node, inferred.node, strict=True):
        node = Node(proto, scope, _schema(proto, versions))
        for index, name in enumerate(proto.input):
            value_in = scope.find(name) if name else None
            node.inputs.append(value_in)
            if value_in is not None:
                value_in.uses.append((node, index))
        for body, typed_body in zip(bodies_of(proto), bodies_of(typed_node), strict=True):
            node.bodies.append(_scope(body, typed_body, scope, node, versions))
        for name in proto.output:
            value_out = Value(name, scope, types.get(name, UNKNOWN), producer=node)
            node.outputs.append(value_out if name else None)
            if name:
                scope.values[name] = value_out
        if proto.op_type == "Constant" and node.op == "Constant" and node.outputs[0] is not None:
            attribute = node.attribute("value")
            if attribute is not None:
                node.outputs[0].constant = attribute.t
        scope.nodes.append(node)
    for output in graph.output:
        returned = scope.find(output.name)
        if returned is not None:
            returned.returned = True
            scope.outputs.append(returned)
    return scope
