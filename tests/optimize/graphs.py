"""Hand-built models for the precision pass, and checks of what it writes. Needs onnx."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

FLOAT, FLOAT16, BFLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16
CODES = {"fp16": FLOAT16, "bf16": BFLOAT16}

node = helper.make_node
value = helper.make_tensor_value_info


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
    weights: Mapping[str, Any] | None = None,
    *,
    opset: int = 17,
    ir: int = 8,
    types: Mapping[str, int] | None = None,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
) -> ModelProto:
    """A model; inputs and outputs are float32 unless `types` says otherwise."""
    kinds = dict(types or {})
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in (weights or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [value(name, kinds.get(name, FLOAT), shape) for name, shape in inputs.items()],
        [value(name, kinds.get(name, FLOAT), shape) for name, shape in outputs.items()],
        tensors,
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    made: ModelProto = helper.make_model(
        graph, ir_version=ir, opset_imports=opsets, functions=list(functions)
    )
    return made


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    values = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(scale)
    return np.asarray(values)


def graphs_of(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all bodies in it."""
    yield graph
    for one in graph.node:
        for attribute in one.attribute:
            for body in (attribute.g, *attribute.graphs):
                if body.node:
                    yield from graphs_of(body)


def operators(proto: ModelProto) -> Counter[str]:
    return Counter(n.op_type for g in graphs_of(proto.graph) for n in g.node)


def types_of(proto: ModelProto) -> dict[str, int]:
    """Element type of every value, by strict inference: raises if the model is not well typed."""
    inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True)
    found = {}
    for graph in graphs_of(inferred.graph):
        for info in (*graph.input, *graph.output, *graph.value_info):
            found[info.name] = info.type.tensor_type.elem_type
        found.update({t.name: t.data_type for t in graph.initializer})
    return found


def assert_tidy(proto: ModelProto) -> None:
    """Valid and strongly typed; no cast that does nothing, that undoes another or is done twice;
    no value without a use; no stale value_info."""
    onnx.checker.check_model(proto, full_check=True)
    types = types_of(proto)
    casts: dict[str, NodeProto] = {}
    seen: set[tuple[str, int]] = set()
    used: set[str] = set()
    made: list[str] = []
    for graph in graphs_of(proto.graph):
        used |= {v.name for v in graph.output}
        known = {v.name for v in (*graph.input, *graph.output)}
        known |= {t.name for t in graph.initializer} | {o for n in graph.node for o in n.output}
        stale = [v.name for v in graph.value_info if v.name not in known]
        assert not stale, f"value_info of values that do not exist: {stale}"
        wrong = [
            v.name
            for v in graph.value_info
            if v.type.tensor_type.elem_type not in (0, types[v.name])
        ]
        assert not wrong, f"value_info with another type: {wrong}"
        made += [t.name for t in graph.initializer]
        for one in graph.node:
            used |= set(one.input)
            if len(one.output) == 1:
                made += one.output
            if one.op_type == "Cast":
                target = one.attribute[0].i
                source = one.input[0]
                assert target not in CODES.values() or types.get(source) != target, (
                    f"{one.name} casts {source} to its own type"
                )
                assert (source, target) not in seen, f"{source} is cast to {target} twice"
                seen.add((source, target))
                before = casts.get(source)
                if before is not None:
                    floats = (FLOAT, FLOAT16, BFLOAT16)
                    chain = [types[before.input[0]], before.attribute[0].i, target]
                    assert not set(chain) <= set(floats), f"{before.name} and {one.name} undo"
                casts[one.output[0]] = one
    unused = [name for name in made if name and name not in used]
    assert not unused, f"made for nothing: {unused}"


def if_model() -> ModelProto:
    """x f32 [N,4], go bool [] -> y: x @ w + 1 or (x @ w) * x, with w and x @ w captured."""
    y = value("branch_y", FLOAT, ["N", 4])
    then = helper.make_graph([node("Add", ["h", "one"], ["branch_y"])], "then", [], [y])
    other = helper.make_graph([node("Mul", ["h", "x"], ["branch_y"])], "else", [], [y])
    return model(
        [
            node("MatMul", ["x", "w"], ["h"], name="product"),
            node("If", ["go"], ["y"], then_branch=then, else_branch=other, name="choice"),
        ],
        {"x": ["N", 4], "go": []},
        {"y": ["N", 4]},
        {"w": random(4, 4), "one": np.float32(1)},
        types={"go": TensorProto.BOOL},
    )


def loop_model() -> ModelProto:
    """x f32 [4,4], steps -> y: x times the captured w, `steps` times, and all steps stacked."""
    square = [4, 4]
    body = helper.make_graph(
        [
            node("Identity", ["go"], ["on"]),
            node("MatMul", ["before", "w"], ["product"]),
            node("Tanh", ["product"], ["after"]),
            node("Mul", ["after", "half"], ["shown"]),
        ],
        "body",
        [
            value("step", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("before", FLOAT, square),
        ],
        [
            value("on", TensorProto.BOOL, []),
            value("after", FLOAT, square),
            value("shown", FLOAT, square),
        ],
        [numpy_helper.from_array(np.float32(0.5), "half")],
    )
    return model(
        [node("Loop", ["steps", "yes", "x"], ["y", "all"], body=body, name="loop")],
        {"x": square, "steps": []},
        {"y": square, "all": ["S", 4, 4]},
        {"w": random(4, 4, scale=0.5), "yes": np.bool_(True)},
        types={"steps": TensorProto.INT64},
    )


def scan_model() -> ModelProto:
    """x f32 [T,4] -> total f32 [4], running f32 [T,4]: sums of the rows of x times w."""
    row = [4]
    body = helper.make_graph(
        [
            node("Mul", ["row", "w"], ["scaled"]),
            node("Add", ["before", "scaled"], ["after"]),
            node("Identity", ["after"], ["shown"]),
        ],
        "body",
        [value("before", FLOAT, row), value("row", FLOAT, row)],
        [value("after", FLOAT, row), value("shown", FLOAT, row)],
    )
    return model(
        [node("Scan", ["zero", "x"], ["total", "running"], body=body, num_scan_inputs=1)],
        {"x": ["T", 4]},
        {"total": row, "running": ["T", 4]},
        {"w": random(4), "zero": np.zeros(4, np.float32)},
    )


def function_model() -> ModelProto:
    """x f32 [N,4] -> y: a local function twice, MatMul and Relu inside."""
    block = helper.make_function(
        "local.test",
        "Block",
        ["a", "w"],
        ["b"],
        [node("MatMul", ["a", "w"], ["h"]), node("Relu", ["h"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    return model(
        [
            node("Block", ["x", "w0"], ["m"], domain="local.test"),
            node("Block", ["m", "w1"], ["y"], domain="local.test"),
        ],
        {"x": ["N", 4]},
        {"y": ["N", 4]},
        {"w0": random(4, 4), "w1": random(4, 4, seed=1)},
        functions=[block],
        domains=["local.test"],
    )


def quantized_model(opset: int = 17) -> ModelProto:
    """x f32 [N,8] -> y f32 [N,8]: a MatMul with Q/DQ nodes around, weights in int8, then Relu."""
    weights = {
        "w": np.random.default_rng(0).integers(-127, 127, (8, 8)).astype(np.int8),
        "sx": np.float32(0.02),
        "sw": np.float32(0.01),
        "zero": np.int8(0),
    }
    return model(
        [
            node("QuantizeLinear", ["x", "sx", "zero"], ["xq"]),
            node("DequantizeLinear", ["xq", "sx", "zero"], ["xd"]),
            node("DequantizeLinear", ["w", "sw", "zero"], ["wd"]),
            node("MatMul", ["xd", "wd"], ["h"]),
            node("Relu", ["h"], ["y"]),
        ],
        {"x": ["N", 8]},
        {"y": ["N", 8]},
        weights,
        opset=opset,
    )
