"""Which nodes stay in float32 when a model goes to a narrower type, and why.

What an operator can take is read from its ONNX schema. The tables below add what no schema says:
operators whose results suffer, and inputs that hold coordinates.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence

from zerolane.errors import InvalidArgument
from zerolane.optimize.onnx_graph import CONTROL_FLOW, FLOAT, NO_TENSOR, UNKNOWN, Node

FLOAT16, BFLOAT16 = "float16", "bfloat16"

_WHOLE = "whole numbers above {exact} are not all {dtype} numbers"
_SUMS = "its squares, products or exponentials leave the range of float16"
_MADE = "it makes its own values, and runtimes have no {dtype} kernel for it"
_PLACES = "it computes with coordinates, which {dtype} does not hold to a fraction of a pixel"
_WAVES = "sums of waves lose their phase in {dtype}, and runtimes have no kernel for it"

FRAGILE: dict[str, str] = {
    **dict.fromkeys(("Range", "CumSum"), _WHOLE),
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"), _MADE
    ),
    **dict.fromkeys(("Bernoulli", "Multinomial", "EyeLike"), _MADE),
    **dict.fromkeys(("HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"), _MADE),
    **dict.fromkeys(("RoiAlign", "MaxRoiPool", "AffineGrid", "GridSample"), _PLACES),
    **dict.fromkeys(("DFT", "STFT"), _WAVES),
    "Celu": "TensorRT-RTX 1.7 does not parse it in {dtype}",
    "LinearAttention": "it adds up its state over all steps, which {dtype} does not hold",
    "MeanVarianceNormalization": "ONNX Runtime 1.31 and TensorRT-RTX 1.7 do not load it in {dtype}",
}
"""Operators kept by default, in either type."""

FRAGILE_IN_FLOAT16 = dict.fromkeys(
    ("CumProd", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare"),
    _SUMS,
)
"""Kept by default in float16 only: bfloat16 has the range of float32."""

FRAGILE_IN_BFLOAT16 = dict.fromkeys(
    ("GRU", "HardSwish", "LpNormalization", "LpPool", "Mish"),
    "TensorRT-RTX 1.7 refuses it in bfloat16",
)
"""Kept by default in bfloat16 only."""

KEPT_INPUTS = {("Resize", "roi"), ("Resize", "scales")}
"""Inputs that hold coordinates or factors of sizes: float32 although the operator is converted."""

_RECURRENT = ("GRU", "LSTM", "RNN")
_SEQUENCE_LENGTHS = 4  # place of this input in the recurrent operators

MOVES = frozenset(
    (
        *("Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Expand", "Tile"),
        *("Gather", "GatherND", "GatherElements", "ScatterND", "ScatterElements", "Compress"),
        *("Slice", "Concat", "Split", "Pad", "DepthToSpace", "SpaceToDepth", "ReverseSequence"),
        *("Trilu", "Dropout"),
    )
)
"""Operators that pass values on unchanged."""

_TAKES_ANY = {("Cast", 0), ("CastLike", 0), ("Shape", 0), ("Size", 0)}


def takes_any(node: Node, index: int) -> bool:
    """Whether this input takes any element type without a change of what the node does."""
    return (node.op, index) in _TAKES_ANY


def computes(node: Node) -> bool:
    """Whether a node does something with float32 values that has to be converted or kept."""
    if node.op in CONTROL_FLOW or node.op in ("Cast", "CastLike", "Constant", "Shape", "Size"):
        return False
    ports = [
        v
        for i, v in enumerate(node.inputs)
        if node.schema is None or (node.op, node.input_port(i).name) not in KEPT_INPUTS
    ]
    return any(v is not None and v.elem in (FLOAT, UNKNOWN) for v in (*ports, *node.outputs))


def type_reason(node: Node) -> str | None:
    """Why the types around a node leave it no choice."""
    values = [v for v in (*node.inputs, *node.outputs) if v is not None]
    if node.schema is None:
        return f"onnx has no schema of {node.op}"
    if any(v.elem == NO_TENSOR for v in values):
        return "sequences, maps and optional values keep their element type"
    unknown = next((v for v in values if v.elem == UNKNOWN), None)
    if unknown is not None:
        return f"the element type of {unknown.name!r} is not known"
    return None


def schema_reason(node: Node, dtype: str) -> str | None:
    """Why the operator's definition leaves a node of known types no choice."""
    assert node.schema is not None
    takes, gives = narrow_ports(node, dtype)
    floats_out = [i for i, v in enumerate(node.outputs) if v is not None and v.is_float]
    if (floats_out and not gives) or not (takes or gives):
        version = node.schema.since_version
        return f"{node.op} of opset {version} takes or gives no {dtype} where it has float32"
    return None


def narrow_ports(node: Node, dtype: str) -> tuple[set[int], set[int]]:
    """Indices of the float32 inputs and outputs that may have `dtype` in a converted node."""
    assert node.schema is not None
    takes: set[int] = set()
    bound: set[str] = set()
    for index, value in enumerate(node.inputs):
        if value is None or not value.is_float or takes_any(node, index):
            continue
        port = node.input_port(index)
        if node.admits(port, dtype) and (node.op, port.name) not in KEPT_INPUTS:
            takes.add(index)
            bound.add(port.type_str)
    gives: set[int] = set()
    for index, value in enumerate(node.outputs):
        if value is None or not value.is_float:
            continue
        port = node.output_port(index)
        if port.type_str in bound or (node.op == "ConstantOfShape" and node.admits(port, dtype)):
            gives.add(index)
    return takes, gives


def fragile_reason(node: Node, dtype: str) -> str | None:
    """Why a node is kept by default though its operator admits `dtype`."""
    if (
        node.op in _RECURRENT
        and len(node.inputs) > _SEQUENCE_LENGTHS
        and node.inputs[_SEQUENCE_LENGTHS]
    ):
        return f"TensorRT-RTX 1.7 refuses it in {dtype} with lengths of sequences"
    own = FRAGILE_IN_FLOAT16 if dtype == FLOAT16 else FRAGILE_IN_BFLOAT16
    text = FRAGILE.get(node.op) or own.get(node.op)
    return text and text.format(dtype=dtype, exact=2048 if dtype == FLOAT16 else 256)


def match(keep: Sequence[str], nodes: Sequence[Node]) -> set[Node]:
    """The nodes that the entries of a keep list mean.

    "op:Softmax" is an operator type, "node:head" a node's name or the name of one of its outputs; a
    plain entry is a name if there is such a node, else a type. *, ? and [] are wildcards.
    """
    if isinstance(keep, str):
        keep = [keep]
    found: set[Node] = set()
    for entry in keep:
        kind, _, pattern = entry.partition(":")
        if kind not in ("op", "node") or not pattern:
            kind, pattern = "", entry
        hit: set[Node] = set()
        if kind != "op":
            hit = {n for n in nodes if _any_matches(pattern, names_of(n))}
        if not hit and kind != "node":
            hit = {n for n in nodes if _any_matches(pattern, (n.op,))}
        if not hit:
            known = [name for n in nodes for name in (*names_of(n), n.op)]
            near = difflib.get_close_matches(pattern, dict.fromkeys(known), 3)
            raise InvalidArgument(
                f"choosing nodes to keep: {entry!r} fits no node and no operator type of the "
                f"model, expected one of them{'; did you mean ' + ', '.join(near) if near else ''}"
                "; `zerolane inspect` lists the operators, 'op:Type' and 'node:name' tell types "
                "from names",
                entry,
            )
        found |= hit
    return found


def names_of(node: Node) -> list[str]:
    """The names by which a keep list can mean a node."""
    own = [node.proto.name] if node.proto.name else []
    return [*own, *(v.name for v in node.outputs if v is not None)]


def _any_matches(pattern: str, names: Iterable[str]) -> bool:
    return any(name == pattern or fnmatch.fnmatchcase(name, pattern) for name in names)
