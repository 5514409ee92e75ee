"""Which nodes become integer, and which values have to be quantized for that.

A layer is a Conv, ConvTranspose, Gemm or MatMul with constant weights. On ONNX Runtime's CPU
provider a layer runs in integers only between DequantizeLinear and QuantizeLinear, and the nodes
between layers (pooling, residual sums, concatenation) run in integers too where both sides are:
"carriers". TensorRT is told less, and fuses more itself: only what a layer reads is quantized.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from zerolane.optimize.onnx_graph import Node, Scope, Value
from zerolane.optimize.precision.keep import match

CONVOLUTIONS = ("Conv", "ConvTranspose")
LAYERS = (*CONVOLUTIONS, "Gemm", "MatMul")

SAME = frozenset(
    ("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Concat", "Identity")
)
"""Carriers whose values are some of what they read: one scale for what goes in and out."""

OWN = frozenset(("Add", "GlobalAveragePool", "AveragePool"))
"""Carriers whose result has a scale of its own."""

_ACTIVATIONS = ("Relu", "Clip")
_QUANTIZED_OPS = frozenset(
    (
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"),
        *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
        *("com.microsoft.MatMulNBits", "com.microsoft.QAttention", "com.microsoft.QGemm"),
        *("com.microsoft.DynamicQuantizeMatMul", "com.microsoft.MatMulIntegerToFloat"),
        *("com.microsoft.DynamicQuantizeLSTM", "com.microsoft.QLinearAdd"),
    )
)


@dataclass(eq=False)
class Layer:
    """A node with constant weights, and the activation that follows it alone.

    result: the value behind the activation.
    """

    node: Node
    activation: Node | None
    result: Value

    @property
    def name(self) -> str:
        return self.node.name


@dataclass
class Places:
    """What is to be quantized.

    reads: for each quantized value, the inputs (node, index) that are to read it so. `everyone`:
        those of them that all their readers get so, floating ones and the model's outputs too.
    groups: values that share one scale, by one of them: the leader.
    sources: the values that have to be watched while samples run, by leader.
    """

    layers: list[Layer] = field(default_factory=list)
    carriers: list[Node] = field(default_factory=list)
    reads: dict[Value, list[tuple[Node, int]]] = field(default_factory=dict)
    everyone: set[Value] = field(default_factory=set)
    leader: dict[Value, Value] = field(default_factory=dict)
    sources: dict[Value, list[Value]] = field(default_factory=dict)


def already_quantized(scope: Scope) -> Node | None:
    """A node that says the model is quantized already."""
    return next((n for n in scope.walk() if n.op in _QUANTIZED_OPS), None)


def find_layers(scope: Scope) -> tuple[list[Layer], list[tuple[Node, str]]]:
    """The layers of the main graph, and the nodes like them that cannot be, with the reason."""
    layers: list[Layer] = []
    refused: list[tuple[Node, str]] = []
    for node in scope.walk():
        if node.op in LAYERS:
            reason = _refusal(node, scope)
            if reason is not None:
                refused.append((node, reason))
                continue
            result = node.outputs[0]
            assert result is not None
            activation = _activation_behind(result)
            if activation is not None:
                assert activation.outputs[0] is not None
                result = activation.outputs[0]
            layers.append(Layer(node, activation, result))
        elif node.op in ("LSTM", "GRU", "RNN"):
            refused.append((node, f"{node.op} has no integer form here"))
        elif node.op in ("Attention", "Einsum"):
            refused.append((node, f"{node.op} has no integer form"))
    return layers, refused


def _refusal(node: Node, scope: Scope) -> str | None:
    if node.scope is not scope:
        return "it lies in the body of a control-flow node"
    if len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        return "it has no weights"
    x, weight = node.inputs[0], node.inputs[1]
    if weight.constant is None or weight.fed:
        return "its second operand is computed"
    if not x.is_float or not weight.is_float:
        return "its operands are not float32"
    if x.constant is not None:
        return "its first operand is constant"
    if node.op == "MatMul" and len(weight.constant.dims) != 2:
        return f"its weights have rank {len(weight.constant.dims)}, not 2"
    if node.op == "Gemm" and _number(node, "transA", 0) != 0:
        return "its first operand is transposed"
    if node.op == "Gemm" and (_number(node, "alpha", 1) != 1 or _number(node, "beta", 1) != 1):
        return "its alpha or beta is not 1"
    if node.op != "MatMul" and len(node.inputs) > 2 and node.inputs[2] is not None:
        bias = node.inputs[2].constant
        if bias is None or len(bias.dims) != 1:
            return "its bias is computed, or no vector"
    return None


def _number(node: Node, name: str, default: float) -> float:
    attribute = node.attribute(name)
    if attribute is None:
        return default
    return float(attribute.f if attribute.type == attribute.FLOAT else attribute.i)


def _activation_behind(value: Value) -> Node | None:
    """The Relu or Clip from 0 that alone reads a value: integer kernels clip at no cost."""
    if value.returned or len(value.uses) != 1:
        return None
    node = value.uses[0][0]
    if node.op not in _ACTIVATIONS or node.scope is not value.scope:
        return None
    return node if node.op == "Relu" or _clips_at_zero(node) else None


def _clips_at_zero(node: Node) -> bool:
    low = node.inputs[1] if len(node.inputs) > 1 else None
    if low is None or low.constant is None:
        return False
    raw = low.constant
    return list(raw.float_data) == [0.0] or raw.raw_data == bytes(4)


def without(layers: Sequence[Layer], keep: Sequence[str], nodes: Sequence[Node]) -> list[Layer]:
    """The layers that the keep list leaves; an entry may name the activation too."""
    kept = match(keep, nodes) if keep else set()
    return [x for x in layers if x.node not in kept and x.activation not in kept]


def plan(layers: Sequence[Layer], kept: Collection[Node], *, carry: bool) -> Places:
    """Which values are quantized so that these layers are.

    carry: as ONNX Runtime's CPU provider needs it, results and carriers (none of `kept`) too.
    """
    places = Places(layers=list(layers))
    results = {layer.result: layer for layer in layers}
    if carry:
        places.carriers = _carriers(layers, results, kept)
    for layer in layers:
        x = layer.node.inputs[0]
        assert x is not None
        places.reads.setdefault(x, []).append((layer.node, 0))
    for node in places.carriers:
        for index in _data_inputs(node):
            value = node.inputs[index]
            assert value is not None
            places.reads.setdefault(value, []).append((node, index))
    if carry:
        for layer in layers:
            if layer.node.op in CONVOLUTIONS:
                places.reads.setdefault(layer.result, [])
        made = {*results, *map(_result, places.carriers)}
        places.everyone = made & places.reads.keys()
    _group(places)
    return places


def _data_inputs(node: Node) -> list[int]:
    return [*range(len(node.inputs))] if node.op in ("Add", "Concat") else [0]


def _carriers(
    layers: Sequence[Layer], results: dict[Value, Layer], kept: Collection[Node]
) -> list[Node]:
    """Nodes that read quantized results only, and lead to a layer by way of such nodes."""
    scope = layers[0].node.scope if layers else None
    if scope is None:
        return []
    integer = set(results)
    candidates: list[Node] = []
    for node in scope.nodes:
        if node.op not in SAME | OWN or node in kept or node.outputs[0] is None:
            continue
        if any(v is not None for v in node.outputs[1:]):
            continue
        inputs = [node.inputs[i] for i in _data_inputs(node)]
        if all(v is not None and v in integer for v in inputs):
            candidates.append(node)
            integer.add(_result(node))
    targets = {layer.node for layer in layers}
    leading: set[Node] = set()
    for node in reversed(candidates):
        if any(user in targets or user in leading for user, _ in _result(node).uses):
            leading.add(node)
    return [n for n in candidates if n in leading]


def _follower(node: Node) -> Node | None:
    """The activation that alone reads what an Add gives."""
    if node.op != "Add" or node.outputs[0] is None:
        return None
    return _activation_behind(node.outputs[0])


def _result(node: Node) -> Value:
    """What a carrier gives, behind its activation where it has one."""
    follower = _follower(node)
    value = node.outputs[0] if follower is None else follower.outputs[0]
    assert value is not None
    return value


def _group(places: Places) -> None:
    """Unites the scales around the carriers that pass values on."""
    leader: dict[Value, Value] = {v: v for v in places.reads}

    def find(value: Value) -> Value:
        while leader[value] is not value:
            value = leader[value]
        return value

    passed: set[Value] = set()
    for node in places.carriers:
        out = _result(node)
        if out not in leader:
            continue
        if node.op in SAME:
            passed.add(out)
            for index in _data_inputs(node):
                value = node.inputs[index]
                assert value is not None
                leader[find(value)] = find(out)
    places.leader = {v: find(v) for v in leader}
    for value in places.reads:
        if value not in passed:
            places.sources.setdefault(places.leader[value], []).append(value)
