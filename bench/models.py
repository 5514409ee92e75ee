# SPDX-License-Identifier: Apache-2.0
"""The models that are timed, each with one real input of batch 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import settings

Array = NDArray[Any]
Feed = dict[str, Array]
Stored = Callable[[str], Array]


@dataclass(frozen=True)
class Case:
    """A model file and the inputs it is timed with, in the model's input order."""

    name: str
    path: Path
    inputs: Feed


def one_operator(folder: Path) -> Case:
    """Relu on f32[1,4]: all that is left to time is the call."""
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"])
    path = _save(folder / "one_operator.onnx", [node], [1, 4], [1, 4], {})
    return Case("one_operator", path, {"x": np.array([[-1, 0, 1, 2]], np.float32)})


def dynamic_operator(folder: Path) -> Case:
    """Relu on f32[N,M], for callers that change the shape with every call."""
    from onnx import helper

    node = helper.make_node("Relu", ["x"], ["y"])
    path = _save(folder / "dynamic_operator.onnx", [node], ["N", "M"], ["N", "M"], {})
    return Case("dynamic_operator", path, {"x": np.ones((1, 4), np.float32)})


def policy(folder: Path, batch: int | str = 1) -> Case:
    """A control policy of three dense layers, 64-256-256-12, with fixed random weights.

    batch: its batch dimension, a name for an open one.
    """
    from onnx import helper

    rng = np.random.default_rng(0)
    widths = (64, 256, 256, 12)
    weights: Feed = {}
    nodes = []
    value = "x"
    for i, (rows, columns) in enumerate(pairwise(widths)):
        weights[f"w{i}"] = rng.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        weights[f"b{i}"] = rng.normal(0, 0.1, columns).astype(np.float32)
        last = i == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [value, f"w{i}", f"b{i}"], [f"g{i}"]))
        nodes.append(
            helper.make_node("Tanh" if last else "Relu", [f"g{i}"], ["y" if last else f"h{i}"])
        )
        value = f"h{i}"
    path = folder / ("policy.onnx" if batch == 1 else f"policy_{batch}.onnx")
    _save(path, nodes, [batch, widths[0]], [batch, widths[-1]], weights)
    return Case("policy", path, {"x": rng.normal(0, 1, (1, widths[0])).astype(np.float32)})


def light(name: str, batch: int | str = 1) -> Path:
    """A network of the onnx package's own tests ("squeezenet", "shufflenet"), constant weights.

    batch: a name makes its batch dimension open; a file with it is written beside the made models.
    """
    import onnx

    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    if batch == 1:
        return path
    model = onnx.load(path)
    own = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in own:
            value.type.tensor_type.shape.dim[0].dim_param = str(batch)
    del model.graph.value_info[:]
    target = settings.BUILD_FOLDER / "models" / f"light_{name}_{batch}.onnx"
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target)
    return target


def _save(path: Path, nodes: list[Any], x: list[Any], y: list[Any], weights: Feed) -> Path:
    """Writes a model x -> y at an opset and IR version that every supported library reads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        path.stem,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [numpy_helper.from_array(w, name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def _first(*names: str) -> Callable[[Stored], Feed]:
    """The first row of each stored array."""
    return lambda stored: {name: stored(name)[:1] for name in names}


def _speech_frame(stored: Stored) -> Feed:
    """The first frame marked as speech, with the state at zeros, as at the start of a stream."""
    frame = int(np.argmax(stored("speech")))
    audio = stored("audio").reshape(-1, 256)[frame : frame + 1]
    return {"audio": np.ascontiguousarray(audio), "state": np.zeros((1, 1, 64), np.float32)}


def _board(stored: Stored) -> Feed:
    return {"board": stored("board")[:1], "legal": np.ones((1, 9), np.bool_)}


def _table_row(stored: Stored) -> Feed:
    return {
        "colour": stored("colour").astype(object).reshape(-1, 1)[:1],
        "weight": stored("weight").reshape(-1, 1)[:1],
        "red_weight": stored("red_weight").reshape(-1, 1)[:1],
    }


def _sentence(stored: Stored) -> Feed:
    return {name: stored(name)[:1] for name in ("input_ids", "attention_mask")}


TRAINED: dict[str, Callable[[Stored], Feed]] = {
    "digits_cnn": _first("image"),
    "digit_det": _first("image"),
    "line_ctc": _first("image"),
    "stream_vad": _speech_frame,
    "text_embed": _sentence,
    "wine_forest": _first("X"),
    "mixed_table": _table_row,
    "ttt_policy": _board,
}


def trained(folder: Path) -> Iterator[Case]:
    """The trained test models present in `folder`, with inputs from their case files."""
    for name, read in TRAINED.items():
        path = folder / f"{name}.onnx"
        if path.exists():
            with np.load(folder / f"{name}.case.npz", allow_pickle=False) as stored:
                yield Case(name, path, read(stored.__getitem__))


def all_cases(built: Path, folder: Path) -> list[Case]:
    """One operator, the control policy, every trained model. `built` receives the made files."""
    return [one_operator(built), policy(built), *trained(folder)]
