"""Models that the tests build from, with a shape for each free dimension."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from tests.models import large
from tests.models.task_checks import FOLDER

SIZES = (1, 4, 16)
TRAINED = ("digits_cnn", "line_ctc", "stream_vad", "ttt_policy")
LIGHT = ("light_resnet50", "light_squeezenet")


def light_path(name: str) -> Path:
    """A model of the onnx package's own tests: whole networks with constant weights."""
    return Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"{name}.onnx"


def every_model(folder: Path) -> dict[str, Path]:
    """The trained models, the 21 MB one (written into `folder`), and the light ones."""
    found = {name: FOLDER / f"{name}.onnx" for name in TRAINED}
    found["text_embed"] = folder / "text_embed.onnx"
    if not found["text_embed"].exists():
        onnx.save(large.text_embed(), found["text_embed"])
    return found | {name: light_path(name) for name in LIGHT}


def free_shapes(path: Path) -> dict[str, list[tuple[int, ...]]] | None:
    """1 to 16, best 4, for each free dimension of each input; None for a fixed model."""
    found = {}
    graph = onnx.load(path, load_external_data=False).graph
    own = {weight.name for weight in graph.initializer}
    for value in graph.input:
        dims = [d.dim_value or None for d in value.type.tensor_type.shape.dim]
        if value.name not in own and None in dims:
            found[value.name] = [tuple(d or size for d in dims) for size in SIZES]
    return found or None


def tensor(name: str, shape: list[int | str], element: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, element, shape)


def model(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: tuple[Any, ...] = ()
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, list(weights))
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def relu(rows: int | str = 2) -> bytes:
    """x [rows,3] -> y."""
    node = helper.make_node("Relu", ["x"], ["y"], name="only")
    made = model([node], [tensor("x", [rows, 3])], [tensor("y", [rows, 3])])
    return bytes(made.SerializeToString())


def two_refused() -> bytes:
    """Six nodes, of which Det (1) and Unique (4) are known to no TensorRT."""
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node("Det", ["a"], ["b"], name="bad_det"),
        helper.make_node("Relu", ["b"], ["c"], name="middle_1"),
        helper.make_node("Neg", ["c"], ["d"], name="middle_2"),
        helper.make_node("Unique", ["d"], ["e"], name="bad_unique"),
        helper.make_node("Relu", ["e"], ["y"], name="last"),
    ]
    return bytes(model(nodes, [tensor("x", [3, 3])], [tensor("y", ["n"])]).SerializeToString())


def crashing() -> bytes:
    """A node that ends the parser of TensorRT-RTX 1.7.1: TopK with a count that no one knows."""
    node = helper.make_node("TopK", ["x", "x"], ["y", "z"], name="the_bad_one")
    made = model([node], [tensor("x", [2, 3])], [tensor("y", [2, 3])])
    return bytes(made.SerializeToString())
