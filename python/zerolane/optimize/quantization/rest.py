"""What stays float in float16, so that what was quantized is still computed in integers.

A runtime computes a layer in integers where it finds DequantizeLinear right before it. A cast
between the two hides that: the layer is then computed in float16.
"""

from __future__ import annotations

from collections.abc import Iterable, Set

from onnx import ModelProto

from zerolane.model_file import Payloads
from zerolane.optimize.onnx_graph import Node, view
from zerolane.optimize.precision.casts import Pass, convert

LEAST_OPSET = 19
"""From here on, scales may be float16, and so what DequantizeLinear gives."""

_FUSED = frozenset(("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish"))


def to_float16(model: ModelProto, payloads: Payloads, target: str) -> ModelProto:
    """The model with what is left of float32 in float16; inputs and outputs stay float32.

    For TensorRT the scales become float16, and with them the layers' other operands. A layer with a
    scale that float16 does not hold keeps float32 around its integers. So do all of them for the
    CPU, and what is fused into them: ONNX Runtime's integer kernels take float32 scales only.
    """
    if target == "cpu":
        return _converted(model, payloads, _in_integers(model)).model
    trial = ModelProto()
    trial.CopyFrom(model)
    kept = _converted(trial, Payloads(list(payloads.arrays)), []).kept
    return _converted(model, payloads, _all_or_none(model, {name for name, _, _ in kept})).model


def _converted(model: ModelProto, payloads: Payloads, keep: Iterable[str]) -> Pass:
    names = [f"node:{name}" for name in keep]
    return convert(model, payloads, "float16", keep=names, keep_io=True, keep_defaults=True)


def _in_integers(model: ModelProto) -> list[str]:
    """Q/DQ, what reads DequantizeLinear, and activations behind that."""
    found: dict[Node, None] = {}
    for node in view(model).walk():
        read = _producers(node)
        if (
            node.op in ("QuantizeLinear", "DequantizeLinear")
            or any(made.op == "DequantizeLinear" for made in read)
            or (node.op in _FUSED and bool(read) and read[0] in found)
        ):
            found[node] = None
    return [node.name for node in found]


def _all_or_none(model: ModelProto, kept: Set[str]) -> list[str]:
    """More to keep, so that layers and all DequantizeLinear before them are of one type."""
    groups = []
    for node in view(model).walk():
        before = [made for made in _producers(node) if made.op == "DequantizeLinear"]
        if before:
            groups.append({node.name, *(made.name for made in before)})
    found: set[str] = set()
    changed = True
    while changed:
        mixed = [g for g in groups if not g <= found and g & (found | kept) and not g <= kept]
        found = found.union(*mixed)
        changed = bool(mixed)
    return sorted(found)


def _producers(node: Node) -> list[Node]:
    return [v.producer for v in node.inputs if v is not None and v.producer is not None]
