"""What an UnsupportedGraph tells as its largest part does build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import zerolane as zl
from tests.build import models

pytestmark = pytest.mark.usefixtures("rtx")


def node(op_type: str, inputs: Sequence[str], output: str, **attributes: Any) -> Any:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


def branches() -> onnx.ModelProto:
    """Two branches, the longer one without a refused node, that meet in a refused one."""
    nodes = [
        node("Relu", ["x"], "a1"),
        node("Det", ["a1"], "bad_1"),
        node("Conv", ["x", "w"], "b1", pads=[1, 1, 1, 1]),
        node("Relu", ["b1"], "b2"),
        node("Neg", ["b2"], "b3"),
        node("Unique", ["b3"], "bad_2"),
        node("Add", ["bad_1", "bad_2"], "y"),
    ]
    weight = numpy_helper.from_array(np.ones((2, 2, 3, 3), np.float32), "w")
    inputs = [models.tensor("x", [1, 2, 4, 4])]
    return models.model(nodes, inputs, [models.tensor("y", [1, "n"])], (weight,))


def tail() -> onnx.ModelProto:
    """A refused node first, then a chain that ends in two outputs."""
    nodes = [
        node("Det", ["x"], "bad"),
        node("Exp", ["bad"], "a"),
        node("MatMul", ["z", "w"], "b"),
        node("Tanh", ["b"], "c"),
        node("Add", ["c", "b"], "y"),
        node("Sigmoid", ["y"], "y2"),
    ]
    weight = numpy_helper.from_array(np.eye(5, dtype=np.float32), "w")
    inputs = [models.tensor("x", [2, 2]), models.tensor("z", [3, 5])]
    outputs = [models.tensor("a", []), models.tensor("y", [3, 5]), models.tensor("y2", [3, 5])]
    return models.model(nodes, inputs, outputs, (weight,))


GRAPHS = {
    "chain": lambda: onnx.load_from_string(models.two_refused()),
    "branches": branches,
    "tail": tail,
}


def extract(model: onnx.ModelProto, part: Sequence[int]) -> onnx.ModelProto:
    """The nodes of `part` as a model: what they take from elsewhere are inputs, with the types that
    ONNX infers; what others take from them, and outputs, are outputs."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    known = {v.name: v for v in (*graph.input, *graph.value_info, *graph.output)}
    weights = {tensor.name: tensor for tensor in graph.initializer}
    inside = [graph.node[i] for i in part]
    outside = [n for i, n in enumerate(graph.node) if i not in part]
    made = {name for n in inside for name in n.output}
    used = [name for n in inside for name in n.input]
    wanted = {name for n in outside for name in n.input} | {v.name for v in graph.output}

    def value(name: str) -> Any:
        # Behind a refused node ONNX may know nothing: such a tensor is a matrix of these tests.
        found = known.get(name)
        typed = found is not None and found.type.tensor_type.HasField("shape")
        return found if typed else models.tensor(name, [3, 3])

    inputs = dict.fromkeys(name for name in used if name not in made and name not in weights)
    return models.model(
        inside,
        [value(name) for name in inputs],
        [value(n.output[0]) for n in inside if n.output[0] in wanted],
        tuple(tensor for name, tensor in weights.items() if name in used),
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_the_largest_part_builds(name: str) -> None:
    model = GRAPHS[name]()
    with pytest.raises(zl.UnsupportedGraph) as caught:
        zl.build(model.SerializeToString(), cache=False)
    report = caught.value.report
    refused = {n.index for n in report.nodes}
    assert refused == {i for i, n in enumerate(model.graph.node) if n.op_type in ("Det", "Unique")}
    part = report.largest_part
    assert len(part) >= 2
    assert not refused & set(part)
    rest = extract(model, part)
    assert len(rest.graph.node) == len(part)
    engine = zl.build(rest.SerializeToString(), cache=False)
    assert [s.name for s in engine.manifest.outputs] == [v.name for v in rest.graph.output]
    assert engine.manifest.extra["layers"]
