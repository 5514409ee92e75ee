"""A sentence-embedding transformer of about 21 MB with random weights, built in a moment.

The same signature and layer plan as the trained `text_embed` (see `make/text_embed.py`), for tests
of size: loading, memory, external data. Its embeddings mean nothing. Needs onnx and NumPy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VOCABULARY = 40000
WIDTH = 128
HEADS = 4
LAYERS = 2
LONGEST = 64


class _Graph:
    """Collects nodes and weights; every method returns the name of the value that it adds."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._rng = np.random.default_rng(0)

    def weight(self, array: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def random(self, *shape: int, scale: float) -> str:
        values = self._rng.standard_normal(shape, dtype=np.float32)
        return self.weight(values * np.float32(scale))

    def number(self, value: float) -> str:
        return self.weight(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        return self.weight(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def linear(self, x: str, size_in: int, size_out: int) -> str:
        product = self.add("MatMul", x, self.random(size_in, size_out, scale=size_in**-0.5))
        return self.add("Add", product, self.random(size_out, scale=0.02))

    def norm(self, x: str) -> str:
        scale = self.weight(np.ones(WIDTH, np.float32))
        return self.add("LayerNormalization", x, scale, self.random(WIDTH, scale=0.02), axis=-1)

    def heads(self, x: str, axes: list[int]) -> str:
        """[N,T,WIDTH] -> [N,HEADS,T,WIDTH/HEADS], its axes then in the order given."""
        split = self.add("Reshape", x, self.integers(0, 0, HEADS, WIDTH // HEADS))
        return self.add("Transpose", split, perm=axes)

    def attention(self, x: str, bias: str) -> str:
        normed = self.norm(x)
        q = self.heads(self.linear(normed, WIDTH, WIDTH), [0, 2, 1, 3])
        k_transposed = self.heads(self.linear(normed, WIDTH, WIDTH), [0, 2, 3, 1])
        v = self.heads(self.linear(normed, WIDTH, WIDTH), [0, 2, 1, 3])
        scores = self.add("MatMul", q, k_transposed)
        scores = self.add("Div", scores, self.number((WIDTH // HEADS) ** 0.5))
        weights = self.add("Softmax", self.add("Add", scores, bias), axis=-1)
        mixed = self.add("Transpose", self.add("MatMul", weights, v), perm=[0, 2, 1, 3])
        joined = self.add("Reshape", mixed, self.integers(0, 0, WIDTH))
        return self.add("Add", x, self.linear(joined, WIDTH, WIDTH))

    def feed_forward(self, x: str) -> str:
        hidden = self.linear(self.norm(x), WIDTH, 2 * WIDTH)
        erf = self.add("Erf", self.add("Div", hidden, self.number(2**0.5)))
        gate = self.add("Mul", self.add("Add", erf, self.number(1)), self.number(0.5))
        return self.add("Add", x, self.linear(self.add("Mul", hidden, gate), 2 * WIDTH, WIDTH))


def text_embed() -> onnx.ModelProto:
    """input_ids, attention_mask i64 [N,T] -> embedding f32 [N,128] of unit length.

    Ids are in 0..39999, T is at most 64, and a row's mask must hold at least one 1.
    """
    g = _Graph()
    words = g.add("Gather", g.random(VOCABULARY, WIDTH, scale=1), "input_ids")
    length = g.add("Shape", "input_ids", start=1, end=2)
    table = g.random(LONGEST, WIDTH, scale=0.02)
    places = g.add("Slice", table, g.integers(0), length, g.integers(0))
    x = g.add("Add", words, places)

    mask = g.add("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = g.add("Mul", g.add("Sub", g.number(1), mask), g.number(-1e4))
    bias = g.add("Unsqueeze", hidden, g.integers(1, 2))
    for _ in range(LAYERS):
        x = g.feed_forward(g.attention(x, bias))

    weight = g.add("Unsqueeze", mask, g.integers(-1))
    total = g.add("ReduceSum", g.add("Mul", x, weight), g.integers(1), keepdims=0)
    mean = g.add("Div", total, g.add("ReduceSum", weight, g.integers(1), keepdims=0))
    size = g.add("ReduceL2", mean, axes=[-1], keepdims=1)
    g.add("Div", mean, g.add("Add", size, g.number(1e-6)))
    g.nodes[-1].output[0] = "embedding"

    tokens = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["N", "T"])
        for name in ("input_ids", "attention_mask")
    ]
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", WIDTH])
    graph = helper.make_graph(g.nodes, "text_embed", tokens, [embedding], g.weights)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
