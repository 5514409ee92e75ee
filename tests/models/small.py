"""Tiny hand-built models, one behaviour each. Needs onnx and NumPy only.

Every function returns a fresh `onnx.ModelProto`: `.SerializeToString()` is a model in memory,
`onnx.save(model, path)` one on disk. IR version 8 and opset 17 throughout, so that ONNX Runtime
1.19 loads them; `identity`, `cast` and `passthrough` go higher for younger element types. Shapes
are written as in `zl.TensorSpec`: a name or None is a dynamic dimension.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Shape = Sequence[int | str | None]

FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
BOOL = TensorProto.BOOL
STRING = TensorProto.STRING


class ElementType(NamedTuple):
    """An ONNX element type, and the oldest IR version and opset whose Identity takes it."""

    code: int
    ir: int = 8
    opset: int = 17


ELEMENT_TYPES: dict[str, ElementType] = {
    "float32": ElementType(TensorProto.FLOAT),
    "float64": ElementType(TensorProto.DOUBLE),
    "float16": ElementType(TensorProto.FLOAT16),
    "bfloat16": ElementType(TensorProto.BFLOAT16),
    "int8": ElementType(TensorProto.INT8),
    "int16": ElementType(TensorProto.INT16),
    "int32": ElementType(TensorProto.INT32),
    "int64": ElementType(TensorProto.INT64),
    "uint8": ElementType(TensorProto.UINT8),
    "uint16": ElementType(TensorProto.UINT16),
    "uint32": ElementType(TensorProto.UINT32),
    "uint64": ElementType(TensorProto.UINT64),
    "bool": ElementType(TensorProto.BOOL),
    "string": ElementType(TensorProto.STRING),
    "complex64": ElementType(TensorProto.COMPLEX64),
    "complex128": ElementType(TensorProto.COMPLEX128),
    "float8e4m3fn": ElementType(TensorProto.FLOAT8E4M3FN, 9, 19),
    "float8e4m3fnuz": ElementType(TensorProto.FLOAT8E4M3FNUZ, 9, 19),
    "float8e5m2": ElementType(TensorProto.FLOAT8E5M2, 9, 19),
    "float8e5m2fnuz": ElementType(TensorProto.FLOAT8E5M2FNUZ, 9, 19),
    "int4": ElementType(TensorProto.INT4, 10, 21),
    "uint4": ElementType(TensorProto.UINT4, 10, 21),
    # From here on the files are too new for ONNX Runtime 1.19.
    "float4e2m1": ElementType(TensorProto.FLOAT4E2M1, 11, 23),
    "float8e8m0": ElementType(TensorProto.FLOAT8E8M0, 12, 24),
    "int2": ElementType(TensorProto.INT2, 13, 25),
    "uint2": ElementType(TensorProto.UINT2, 13, 25),
}


def _value(name: str, code: int, shape: Shape | None) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, code, shape)


def _model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Mapping[str, NDArray[np.generic]] | None = None,
    *,
    ir: int = 8,
    opset: int = 17,
    other_domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    domains = {"": opset, **(other_domains or {})}
    return helper.make_model(
        helper.make_graph(nodes, "graph", inputs, outputs, tensors),
        ir_version=ir,
        opset_imports=[helper.make_opsetid(name, version) for name, version in domains.items()],
    )


# One operator


def relu(shape: Shape = (1, 4)) -> onnx.ModelProto:
    """x f32 -> y f32: max(x, 0)."""
    node = helper.make_node("Relu", ["x"], ["y"])
    return _model([node], [_value("x", FLOAT, shape)], [_value("y", FLOAT, shape)])


def add(shape: Shape = (1, 4), code: int = FLOAT) -> onnx.ModelProto:
    """a, b -> y: a + b. With `shape=()` inputs and output are scalars."""
    node = helper.make_node("Add", ["a", "b"], ["y"])
    inputs = [_value(name, code, shape) for name in ("a", "b")]
    return _model([node], inputs, [_value("y", code, shape)])


def int_div(code: int = TensorProto.INT32) -> onnx.ModelProto:
    """a, b int [N] -> y int [N]: a / b. Undefined by ONNX for a zero in b."""
    node = helper.make_node("Div", ["a", "b"], ["y"])
    inputs = [_value(name, code, ["N"]) for name in ("a", "b")]
    return _model([node], inputs, [_value("y", code, ["N"])])


def identity(element: str = "float32", shape: Shape = ("N",)) -> onnx.ModelProto:
    """x -> y = x, of any element type by name (a key of `ELEMENT_TYPES`).

    ONNX Runtime 1.31 refuses complex numbers (no such type) and integers below 8 bits, float4e2m1
    and float8e8m0 (no Identity kernel): see `cast` and `passthrough` for those.
    """
    code, ir, opset = ELEMENT_TYPES[element]
    node = helper.make_node("Identity", ["x"], ["y"])
    values = [_value("x", code, shape)], [_value("y", code, shape)]
    return _model([node], *values, ir=ir, opset=opset)


def cast(source: str, target: str, shape: Shape = ("N",)) -> onnx.ModelProto:
    """x of one element type -> y of another, both by name. Takes 4-bit and 2-bit integers too."""
    types = ELEMENT_TYPES[source], ELEMENT_TYPES[target]
    node = helper.make_node("Cast", ["x"], ["y"], to=types[1].code)
    values = [_value("x", types[0].code, shape)], [_value("y", types[1].code, shape)]
    youngest = max(t.ir for t in types), max(t.opset for t in types)
    return _model([node], *values, ir=youngest[0], opset=youngest[1])


def passthrough(element: str = "float32", shape: Shape = ("N",)) -> onnx.ModelProto:
    """x -> x: no node at all, the graph's output is its input, so no kernel limits the type."""
    code, ir, opset = ELEMENT_TYPES[element]
    return _model([], [_value("x", code, shape)], [_value("x", code, shape)], ir=ir, opset=opset)


def string_normalizer() -> onnx.ModelProto:
    """x string [N] -> y string [M]: in upper case, without the words "a" and "the".

    If nothing is left, y is one empty string. ASCII only: the locale is "C", since ONNX Runtime
    does not load the operator where its default locale, en_US, is not installed.
    """
    node = helper.make_node(
        "StringNormalizer",
        ["x"],
        ["y"],
        case_change_action="UPPER",
        locale="C",
        stopwords=["a", "the"],
    )
    return _model([node], [_value("x", STRING, ["N"])], [_value("y", STRING, ["M"])])


def unknown_operator() -> onnx.ModelProto:
    """x f32 [4] -> y f32 [4] by the operator `Absent` of domain `example.test`: cannot load."""
    node = helper.make_node("Absent", ["x"], ["y"], domain="example.test")
    values = [_value("x", FLOAT, [4])], [_value("y", FLOAT, [4])]
    return _model([node], *values, other_domains={"example.test": 1})


# Shapes


def dynamic_dims() -> onnx.ModelProto:
    """x f32 ["N", None, 3] -> y f32 ["N", None, 3]: 2 x. One named and one unnamed dimension."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    shape = ["N", None, 3]
    return _model([node], [_value("x", FLOAT, shape)], [_value("y", FLOAT, shape)])


def passed_input() -> onnx.ModelProto:
    """x f32 ["N", 3] -> x itself, and y f32 ["N", 3]: |x|."""
    x, y = _value("x", FLOAT, ["N", 3]), _value("y", FLOAT, ["N", 3])
    return _model([helper.make_node("Abs", ["x"], ["y"])], [x], [x, y])


def nothing_but_an_input() -> onnx.ModelProto:
    """x f32 ["N", 3] -> x itself. No operator."""
    x = _value("x", FLOAT, ["N", 3])
    return _model([], [x], [x])


def passed_strings() -> onnx.ModelProto:
    """x strings ["N"] -> x itself. No operator."""
    x = _value("x", TensorProto.STRING, ["N"])
    return _model([], [x], [x])


def passed_default() -> onnx.ModelProto:
    """x f32 [2], w f32 [2] with default 2 -> w itself, and y f32 [2]: x + w."""
    x, w, y = (_value(name, FLOAT, [2]) for name in "xwy")
    two = {"w": np.full(2, 2, np.float32)}
    return _model([helper.make_node("Add", ["x", "w"], ["y"])], [x, w], [w, y], two)


def unknown_rank() -> onnx.ModelProto:
    """x f32 of any rank -> y f32 of the same shape: |x|.

    The ONNX checker wants a shape for every input; ONNX Runtime does not.
    """
    node = helper.make_node("Abs", ["x"], ["y"])
    return _model([node], [_value("x", FLOAT, None)], [_value("y", FLOAT, None)])


def nonzero() -> onnx.ModelProto:
    """x f32 [N] -> y i64 [1,K]: where x is not zero. K depends on the data and may be 0."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    return _model([node], [_value("x", FLOAT, ["N"])], [_value("y", INT64, [1, "K"])])


def doubled_rows() -> onnx.ModelProto:
    """x f32 [N,4] -> y f32 [2N,4]: x above x. N may be 0."""
    node = helper.make_node("Concat", ["x", "x"], ["y"], axis=0)
    return _model([node], [_value("x", FLOAT, ["N", 4])], [_value("y", FLOAT, ["M", 4])])


def sum_and_size() -> onnx.ModelProto:
    """x f32 [N] -> total f32 [], size i64 []: two scalar outputs, both 0 for N = 0."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["total"], keepdims=0),
        helper.make_node("Size", ["x"], ["size"]),
    ]
    outputs = [_value("total", FLOAT, []), _value("size", INT64, [])]
    return _model(nodes, [_value("x", FLOAT, ["N"])], outputs)


# Values that are no tensors


def sequence_output() -> onnx.ModelProto:
    """x f32 [N,2] -> rows: a sequence of N tensors f32 [1,2]; empty for N = 0."""
    node = helper.make_node("SplitToSequence", ["x"], ["rows"], axis=0)
    rows = helper.make_tensor_sequence_value_info("rows", FLOAT, [1, 2])
    return _model([node], [_value("x", FLOAT, ["N", 2])], [rows])


def sequence_input() -> onnx.ModelProto:
    """rows: a sequence of tensors f32 [?,2] -> y f32 [N,2], all in one."""
    node = helper.make_node("ConcatFromSequence", ["rows"], ["y"], axis=0)
    rows = helper.make_tensor_sequence_value_info("rows", FLOAT, [None, 2])
    return _model([node], [rows], [_value("y", FLOAT, ["N", 2])])


def map_output(keys: str = "int64") -> onnx.ModelProto:
    """x f32 [N,3] -> maps: N maps from class to x, keys 10, 20, 30 or (string) "a", "b", "c"."""
    classes: dict[str, Any] = (
        {"classlabels_strings": ["a", "b", "c"]}
        if keys == "string"
        else {"classlabels_int64s": [10, 20, 30]}
    )
    node = helper.make_node("ZipMap", ["x"], ["maps"], domain="ai.onnx.ml", **classes)
    one = helper.make_map_type_proto(
        STRING if keys == "string" else INT64, helper.make_tensor_type_proto(FLOAT, None)
    )
    maps = helper.make_value_info("maps", helper.make_sequence_type_proto(one))
    values = [_value("x", FLOAT, ["N", 3])], [maps]
    return _model([node], *values, other_domains={"ai.onnx.ml": 1})


def map_input() -> onnx.ModelProto:
    """features: a map from string to f32 -> y f32 [1,3] in the order "a", "b", "c"; 0 if absent."""
    node = helper.make_node(
        "DictVectorizer",
        ["features"],
        ["y"],
        domain="ai.onnx.ml",
        string_vocabulary=["a", "b", "c"],
    )
    kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    features = helper.make_value_info("features", kind)
    outputs = [_value("y", FLOAT, [1, 3])]
    return _model([node], [features], outputs, other_domains={"ai.onnx.ml": 1})


def optional_input() -> onnx.ModelProto:
    """x f32 [2], bias optional f32 [2] -> y f32 [2]: x + bias, or x where no bias is given."""
    vector = _value("sum", FLOAT, [2])
    with_bias = helper.make_graph(
        [
            helper.make_node("OptionalGetElement", ["bias"], ["given"]),
            helper.make_node("Add", ["x", "given"], ["sum"]),
        ],
        "with_bias",
        [],
        [vector],
    )
    without = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["sum"])], "without_bias", [], [vector]
    )
    nodes = [
        helper.make_node("OptionalHasElement", ["bias"], ["has_bias"]),
        helper.make_node("If", ["has_bias"], ["y"], then_branch=with_bias, else_branch=without),
    ]
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [2]))
    inputs = [_value("x", FLOAT, [2]), helper.make_value_info("bias", kind)]
    return _model(nodes, inputs, [_value("y", FLOAT, [2])])


# Weights


def overridable_initializer() -> onnx.ModelProto:
    """x f32 [4], scale f32 [1] (an input with the stored value 2) -> y f32 [4]: x * scale."""
    node = helper.make_node("Mul", ["x", "scale"], ["y"])
    inputs = [_value("x", FLOAT, [4]), _value("scale", FLOAT, [1])]
    weights = {"scale": np.array([2], np.float32)}
    return _model([node], inputs, [_value("y", FLOAT, [4])], weights)


def external_data(folder: Path, size: int = 64) -> Path:
    """Writes model.onnx with its weights in weights.bin beside it, and returns the model's path.

    x f32 [N,size] -> y f32 [N,size], the columns of x moved one to the right (see `shift_matrix`).
    """
    path = folder / "model.onnx"
    onnx.save(
        matmul_chain(length=1, size=size),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    return path


def control_policy(batch: int | str = 1) -> onnx.ModelProto:
    """obs f32 [batch,64] -> action f32 [batch,12] in -1..1.

    Gemm 64-256, Relu, Gemm 256-256, Relu, Gemm 256-12, Tanh. The weights are random (seeded).
    """
    rng = np.random.default_rng(0)
    sizes = (64, 256, 256, 12)
    weights: dict[str, NDArray[np.generic]] = {}
    nodes: list[NodeProto] = []
    x = "obs"
    for layer, (size_in, size_out) in enumerate(pairwise(sizes)):
        scale = np.float32(size_in**-0.5)
        weights[f"w{layer}"] = rng.standard_normal((size_in, size_out), np.float32) * scale
        weights[f"b{layer}"] = rng.standard_normal(size_out, np.float32) * np.float32(0.1)
        last = size_out == sizes[-1]
        y = "action" if last else f"h{layer}"
        nodes += [
            helper.make_node("Gemm", [x, f"w{layer}", f"b{layer}"], [f"g{layer}"]),
            helper.make_node("Tanh" if last else "Relu", [f"g{layer}"], [y]),
        ]
        x = y
    values = [_value("obs", FLOAT, [batch, 64])], [_value("action", FLOAT, [batch, 12])]
    return _model(nodes, *values, weights)


# Long and wide work


def shift_matrix(size: int) -> NDArray[np.float32]:
    """The dense f32 matrix S for which x @ S is np.roll(x, 1, axis=-1), exactly."""
    return np.roll(np.eye(size, dtype=np.float32), 1, axis=1)


def matmul_chain(length: int = 8, size: int = 512) -> onnx.ModelProto:
    """x f32 [N,size] -> y f32 [N,size]: np.roll(x, length, axis=-1), exact for finite x.

    `length` dense products with one shared matrix: 2 N size^2 operations each. With the default
    size and N in the hundreds, ONNX Runtime splits a product over threads.
    """
    names = ["x", *(f"h{step}" for step in range(1, length)), "y"]
    nodes = [
        helper.make_node("MatMul", [source, "shift"], [target])
        for source, target in pairwise(names)
    ]
    values = [_value("x", FLOAT, ["N", size])], [_value("y", FLOAT, ["N", size])]
    return _model(nodes, *values, {"shift": shift_matrix(size)})


def long_loop(size: int = 256) -> onnx.ModelProto:
    """steps i64 [], x f32 [size,size] -> y f32: np.roll(x, steps, axis=-1) by `steps` MatMuls.

    The Loop may be ended between any two steps. 0.1 to 1 ms a step on one core, so 100,000 steps
    take far longer than any test waits.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["still_go_on"]),
            helper.make_node("MatMul", ["before", "shift"], ["after"]),
        ],
        "body",
        [
            _value("step", INT64, []),
            _value("go_on", BOOL, []),
            _value("before", FLOAT, [size, size]),
        ],
        [_value("still_go_on", BOOL, []), _value("after", FLOAT, [size, size])],
    )
    node = helper.make_node("Loop", ["steps", "", "x"], ["y"], body=body)
    inputs = [_value("steps", INT64, []), _value("x", FLOAT, [size, size])]
    outputs = [_value("y", FLOAT, [size, size])]
    return _model([node], inputs, outputs, {"shift": shift_matrix(size)})
