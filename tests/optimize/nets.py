"""Small networks in which channels are tied together in one way each, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18


class Net:
    """Nodes in order; values are told by name."""

    def __init__(self, shape: tuple[int | str, ...], *, opset: int = OPSET, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
        self.opset = opset

    def constant(self, array: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def random(self, *shape: int) -> str:
        fan = max(int(np.prod(shape[1:])), 1)
        values = self.rng.normal(0, 1 / np.sqrt(fan), shape)
        return self.constant(values.astype(np.float32))

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        names = [f"v{len(self.nodes)}_{k}" for k in range(outputs)]
        self.nodes.append(
            helper.make_node(op, list(inputs), names, f"n{len(self.nodes)}_{op}", **attributes)
        )
        return names[0] if outputs == 1 else names

    def conv(
        self,
        x: str,
        ins: int,
        outs: int,
        k: int = 3,
        group: int = 1,
        bias: bool = True,
        **more: Any,
    ) -> str:
        operands = [x, self.random(outs, ins // group, k, k)]
        operands += [self.random(outs)] if bias else []
        pads = [k // 2] * 4
        return str(self.add("Conv", *operands, pads=pads, group=group, **more))

    def norm(self, x: str, channels: int) -> str:
        rest = [self.random(channels) for _ in range(3)]
        variance = self.constant(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        return str(self.add("BatchNormalization", x, *rest, variance))

    def gemm(self, x: str, ins: int, outs: int) -> str:
        return str(self.add("Gemm", x, self.random(outs, ins), self.random(outs), transB=1))

    def model(self, *outputs: str, shape: Any = None) -> onnx.ModelProto:
        """The model; shape: of its outputs, where onnx cannot infer it."""
        told = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, told, self.weights)
        made = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8
        )
        inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
        for output, typed in zip(made.graph.output, inferred.graph.output, strict=True):
            output.CopyFrom(typed)
        return made


Tied = Callable[[], tuple[onnx.ModelProto, int]]
"""The model, and the multiply-adds' share in per cent that half of the channels leaves at most."""


def _images(channels: int = 3) -> Net:
    return Net(("N", channels, 8, 10))


def chain() -> tuple[onnx.ModelProto, int]:
    net = _images()
    x = net.conv("x", 3, 16)
    x = net.add("Relu", net.norm(x, 16))
    x = net.add("MaxPool", net.conv(x, 16, 12, bias=False), kernel_shape=[2, 2], strides=[2, 2])
    x = net.add("LeakyRelu", x)
    x = net.add("Flatten", x)
    return net.model(net.gemm(net.add("Tanh", net.gemm(x, 12 * 20, 14)), 14, 5)), 55


def residual() -> tuple[onnx.ModelProto, int]:
    net = _images()
    x = net.conv("x", 3, 16)
    for _ in range(2):
        y = net.conv(net.add("Relu", net.conv(x, 16, 20)), 20, 16)
        x = net.add("Relu", net.add("Add", x, y))
    return net.model(net.conv(x, 16, 4, 1)), 40


def concatenated() -> tuple[onnx.ModelProto, int]:
    net = _images()
    a, b = net.conv("x", 3, 12), net.conv("x", 3, 8, 1)
    both = net.add("Concat", a, "x", b, axis=1)
    y = net.conv(both, 23, 10)
    first, second = net.add("Split", both, net.constant(np.array([12, 11])), outputs=2, axis=1)
    z = net.add("Add", net.conv(first, 12, 10), net.conv(second, 11, 10))
    return net.model(net.conv(net.add("Mul", y, z), 10, 3)), 60


def depthwise() -> tuple[onnx.ModelProto, int]:
    net = _images()
    x = net.add("Clip", net.conv("x", 3, 16), net.constant(np.float32(0)))
    x = net.conv(x, 16, 16, group=16)
    x = net.add("HardSwish", net.norm(x, 16))
    x = net.conv(x, 16, 24, 1)
    x = net.conv(x, 24, 48, group=24)
    return net.model(net.conv(net.add("Relu", x), 48, 5, 1)), 60


def grouped() -> tuple[onnx.ModelProto, int]:
    net = _images()
    x = net.conv(net.conv("x", 3, 24), 24, 32, group=4)
    slope = net.random(32, 1, 1)
    return net.model(net.conv(net.add("PRelu", x, slope), 32, 6)), 60


def shuffled() -> tuple[onnx.ModelProto, int]:
    net = _images()
    x = net.conv("x", 3, 24)
    x = net.add("Reshape", x, net.constant(np.array([0, 2, 12, 8, 10])))
    x = net.add("Transpose", x, perm=[0, 2, 1, 3, 4])
    x = net.add("Reshape", x, net.constant(np.array([-1, 24, 8, 10])))
    return net.model(net.conv(x, 24, 6)), 60


def squeezed() -> tuple[onnx.ModelProto, int]:
    """A squeeze-and-excitation block."""
    net = _images()
    x = net.conv("x", 3, 16)
    s = net.add("ReduceMean", x, net.constant(np.array([2, 3])), keepdims=1)
    s = net.add("Relu", net.conv(s, 16, 8, 1))
    s = net.add("Sigmoid", net.conv(s, 8, 16, 1))
    return net.model(net.conv(net.add("Mul", x, s), 16, 6)), 60


def transformer() -> tuple[onnx.ModelProto, int]:
    """Two heads of attention and a feed-forward layer; the model's width stays."""
    net = Net(("N", "T", 24))
    x = "x"
    heads = net.constant(np.array([0, 0, 2, 12]))
    parts = []
    for _ in range(3):
        y = net.add("Add", net.add("MatMul", x, net.random(24, 24)), net.random(24))
        parts.append(net.add("Reshape", y, heads))
    q, v = (net.add("Transpose", parts[i], perm=[0, 2, 1, 3]) for i in (0, 2))
    k = net.add("Transpose", parts[1], perm=[0, 2, 3, 1])
    scores = net.add("Softmax", net.add("MatMul", q, k), axis=-1)
    y = net.add("Transpose", net.add("MatMul", scores, v), perm=[0, 2, 1, 3])
    y = net.add("Reshape", y, net.constant(np.array([0, 0, 24])))
    x = net.add("Add", x, net.add("MatMul", y, net.random(24, 24)))
    h = net.add("LayerNormalization", x, net.random(24), net.random(24))
    h = net.add("Erf", net.add("Add", net.add("MatMul", h, net.random(24, 40)), net.random(40)))
    return net.model(net.add("Add", x, net.add("MatMul", h, net.random(40, 24)))), 60


def moved() -> tuple[onnx.ModelProto, int]:
    """Slices, gathered channels, padding, resizing, ConvTranspose, pixels from channels."""
    net = _images()
    x = net.conv("x", 3, 16)
    cut = net.add("Slice", x, *(net.constant(np.array(v)) for v in ([4], [12], [1])))
    order = np.array([3, 2, 1, 0, 15, 14, 9])
    some = net.add("Gather", x, net.constant(order), axis=1)
    y = net.conv(net.add("Concat", cut, some, axis=-3), 15, 16)
    pads = net.constant(np.array([0, 0, 1, 2, 0, 0, 1, 0]))
    y = net.add("Pad", y, pads)
    scales = net.constant(np.array([1, 1, 2, 2], np.float32))
    y = net.add("Resize", y, "", scales, mode="nearest")
    y = net.add("ConvTranspose", y, net.random(16, 12, 2, 2), net.random(12), strides=[2, 2])
    y = net.add("InstanceNormalization", y, net.random(12), net.random(12))
    y = net.add("DepthToSpace", y, blocksize=2)
    y = net.add("SpaceToDepth", net.conv(y, 3, 8), blocksize=2)
    y = net.add("Squeeze", net.add("Unsqueeze", y, net.constant(np.array([1]))),
                net.constant(np.array([1])))  # fmt: skip
    return net.model(net.conv(y, 32, 3)), 70


def viewed() -> tuple[onnx.ModelProto, int]:
    """Shapes computed from sizes, as exporters write x.view(x.size(0), -1)."""
    net = _images()
    x = net.conv("x", 3, 16)
    size = net.add("Shape", x)
    batch = net.add("Gather", size, net.constant(np.array(0)), axis=0)
    batch = net.add("Unsqueeze", batch, net.constant(np.array([0])))
    shape = net.add("Concat", batch, net.constant(np.array([-1])), axis=0)
    x = net.add("Reshape", x, shape)
    x = net.gemm(x, 16 * 80, 12)
    return net.model(net.gemm(net.add("Relu", x), 12, 4)), 60


def shared() -> tuple[onnx.ModelProto, int]:
    """One weight in two layers, and a mask chosen by another layer."""
    net = _images()
    weight, bias = net.random(16, 3, 3, 3), net.random(16)
    a = net.add("Conv", "x", weight, bias, pads=[1] * 4)
    b = net.add("Conv", net.add("Neg", "x"), weight, bias, pads=[1] * 4)
    mask = net.add("Greater", net.conv("x", 3, 16), net.constant(np.float32(0)))
    return net.model(net.conv(net.add("Where", mask, a, b), 16, 4)), 60


def rescaled() -> tuple[onnx.ModelProto, int]:
    """Scales and slopes that are moved before they are used, as exporters write them."""
    net = _images()
    x = net.conv("x", 3, 16)
    scale = net.add("Unsqueeze", net.random(16), net.constant(np.array([1, 2])))
    slope = net.add("Reshape", net.random(16), net.constant(np.array([1, 16, 1, 1])))
    x = net.add("PRelu", net.add("Mul", x, scale), net.add("Identity", slope))
    axes = net.add("Concat", *(net.constant(np.array([k])) for k in (2, 3)), axis=0)
    axes = net.add("Reshape", axes, net.constant(np.array([-1])))
    x = net.add("ReduceMean", net.conv(x, 16, 10), axes, keepdims=0)
    weight = net.add("Transpose", net.random(4, 10), perm=[1, 0])
    return net.model(net.add("MatMul", x, weight), shape=["N", 4]), 60


TIED: tuple[Tied, ...] = (
    chain,
    residual,
    concatenated,
    depthwise,
    grouped,
    shuffled,
    squeezed,
    transformer,
    moved,
    viewed,
    shared,
    rescaled,
)


def inputs(model: onnx.ModelProto, rows: int = 3) -> dict[str, NDArray[np.float32]]:
    shape = [d.dim_value or rows for d in model.graph.input[0].type.tensor_type.shape.dim]
    return {"x": np.random.default_rng(5).normal(size=shape).astype(np.float32)}
