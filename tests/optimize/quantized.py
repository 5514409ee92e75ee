"""Models and samples that the tests of quantization share."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import zerolane as zl
from tests.models import scenes, task_checks
from tests.models.task_checks import FOLDER, VAD_FRAME, VAD_STATE_SHAPE

Rows = list[dict[str, NDArray[Any]]]


def calibration(name: str) -> Rows:
    """Samples like those the model was trained for.

    Of scenes and lines, none that the task check draws. Of digits and speech it scores these too.
    """
    digits = scenes.held_back_digits()
    rng = np.random.default_rng(7)
    if name in ("digits_cnn", "digits_mlp"):
        return [{"image": digits.images[i : i + 32, None]} for i in range(0, 320, 32)]
    if name == "digit_det":
        images, _ = scenes.draw_scenes(rng, digits, 32)
        return [{"image": part} for part in np.split(images, 8)]
    if name == "line_ctc":
        images, _ = scenes.draw_lines(rng, digits, 16, 8)
        return [{"image": part} for part in np.split(images, 4)]
    assert name == "stream_vad"
    session = zl.load(FOLDER / "stream_vad.onnx")
    audio = task_checks.load_case(name)["audio"].reshape(-1)
    state = np.zeros(VAD_STATE_SHAPE, np.float32)
    rows: Rows = []
    for frame in audio.reshape(-1, 1, VAD_FRAME)[:200]:
        rows.append({"audio": frame, "state": state})
        state = np.array(session.run(rows[-1])["state_out"])
    return rows


def chain(
    scales: list[float], width: int = 24, *, opset: int = 17, seed: int = 0
) -> onnx.ModelProto:
    """Dense layers fc0, fc1, ... with Relu between; scales: a factor on one input of each layer.

    A factor far from 1 makes the layer's input need more than 8 bits: one column of the layer
    before is `1 / factor` large, and is multiplied back here.
    """
    rng = np.random.default_rng(seed)
    nodes, weights = [], []
    value = "x"
    before = None
    for index, scale in enumerate(scales):
        w = (rng.standard_normal((width, width)) * np.sqrt(2 / width)).astype(np.float32)
        w[0] *= np.float32(1 / scale)
        if before is not None:
            column = np.abs(before[:, 0]) if scale != 1 else before[:, 0]  # no Relu cuts it off
            before[:, 0] = column * np.float32(scale)
        weights.append((f"w{index}", w))
        before = w
        nodes.append(helper.make_node("MatMul", [value, f"w{index}"], [f"h{index}"], f"fc{index}"))
        value = f"h{index}"
        if index + 1 < len(scales):
            nodes.append(helper.make_node("Relu", [value], [f"r{index}"], f"relu{index}"))
            value = f"r{index}"
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", width])],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, ["N", width])],
        [numpy_helper.from_array(w, name) for name, w in weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def convolutions(seed: int = 0, size: int = 14, pads: int = 1, kernel: int = 3) -> onnx.ModelProto:
    """An image network with all that lies between layers: batch norm, pooling, residual, concat."""
    rng = np.random.default_rng(seed)
    inits: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []

    def weight(name: str, *shape: int) -> str:
        fan = int(np.prod(shape[1:])) or 1
        values = rng.standard_normal(shape) * np.sqrt(2 / fan)
        inits.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(x: str, name: str, cin: int, cout: int, k: int, **attributes: Any) -> str:
        inputs = [x, weight(f"{name}_w", cout, cin, k, k), weight(f"{name}_b", cout)]
        nodes.append(helper.make_node("Conv", inputs, [name], name, **attributes))
        return name

    def add(op: str, inputs: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [out], f"{out}_node", **attributes))
        return out

    first = conv("x", "stem", 3, 8, kernel, strides=[2, 2], pads=[pads] * 4)
    for name, low, high in (("s", 0.5, 1.5), ("o", -0.1, 0.1), ("m", -0.1, 0.1), ("v", 0.5, 1.5)):
        values = rng.uniform(low, high, 8).astype(np.float32)
        inits.append(numpy_helper.from_array(values, f"bn_{name}"))
    normed = add("BatchNormalization", [first, "bn_s", "bn_o", "bn_m", "bn_v"], "bn")
    pooled = add("MaxPool", [add("Relu", [normed], "r0")], "p0", kernel_shape=[2, 2])
    left = conv(pooled, "left", 8, 8, 3, pads=[1] * 4)
    summed = add("Relu", [add("Add", [left, pooled], "sum")], "r1")
    one = add("Relu", [conv(summed, "one", 8, 5, 1)], "r2")
    two = add("Relu", [conv(summed, "two", 8, 7, 3, pads=[1] * 4)], "r3")
    both = add("Concat", [one, two], "both", axis=1)
    last = add("Relu", [conv(both, "last", 12, 11, 3, pads=[1] * 4)], "r4")
    mean = add("Flatten", [add("GlobalAveragePool", [last], "gap")], "flat")
    nodes.append(helper.make_node("Gemm", [mean, weight("fc_w", 10, 11)], ["y"], "fc", transB=1))
    graph = helper.make_graph(
        nodes,
        "convolutions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, size, size + 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        inits,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def images(model: onnx.ModelProto, count: int = 5) -> list[NDArray[Any]]:
    """Random inputs of a model with one input."""
    shape = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
    rng = np.random.default_rng(3)
    return [rng.standard_normal(shape).astype(np.float32) for _ in range(count)]


def as_run(path: Path) -> Counter[str]:
    """The operators that ONNX Runtime's CPU provider runs for a file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path.with_suffix(".as_run.onnx"))
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    optimized = onnx.load(options.optimized_model_filepath)
    return Counter(node.op_type for node in optimized.graph.node)


def initializers(path: Path) -> dict[str, onnx.TensorProto]:
    return {t.name: t for t in onnx.load(path).graph.initializer}
