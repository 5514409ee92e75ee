"""Multiply-adds by rule, held against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import numpy as np  # noqa: E402
from onnx import TensorProto  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.models import task_checks  # noqa: E402
from tests.optimize.graphs import model, node, random  # noqa: E402
from zerolane.optimize.macs import node_macs, shares  # noqa: E402


def count(made: Any, **shapes: Any) -> int:
    return sum(n.macs for n in node_macs(made, shapes))


@pytest.mark.parametrize(
    ("one", "x", "y", "weights", "wanted"),
    [
        (("Conv", {"pads": [1, 1, 1, 1]}), [2, 3, 5, 7], [2, 4, 5, 7], {"w": random(4, 3, 3, 3)},
         2 * 4 * 5 * 7 * 3 * 9),
        (("Conv", {"group": 4}), [1, 4, 5, 5], [1, 8, 4, 4], {"w": random(8, 1, 2, 2)},
         8 * 16 * 4),
        (("ConvTranspose", {"strides": [2, 2]}), [1, 3, 4, 4], [1, 5, 8, 8],
         {"w": random(3, 5, 2, 2)}, 3 * 16 * 5 * 4),
        (("MatMul", {}), [2, 3, 5], [2, 3, 7], {"w": random(5, 7)}, 2 * 3 * 5 * 7),
        (("Gemm", {"transA": 1, "transB": 1}), [5, 3], [3, 7], {"w": random(7, 5)}, 3 * 5 * 7),
        (("LSTM", {"hidden_size": 4}), [6, 2, 3], [6, 1, 2, 4],
         {"w": random(1, 16, 3), "r": random(1, 16, 4)}, 6 * 2 * 4 * (3 + 4) * 4),
        (("GRU", {"hidden_size": 4}), [6, 2, 3], [6, 1, 2, 4],
         {"w": random(1, 12, 3), "r": random(1, 12, 4)}, 6 * 2 * 3 * (3 + 4) * 4),
        (("Softmax", {}), [2, 3], [2, 3], {}, 0),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)  # fmt: skip
def test_rules(one: Any, x: Any, y: Any, weights: Any, wanted: int) -> None:
    made = model([node(one[0], ["x", *weights], ["y"], **one[1])], {"x": x}, {"y": y}, weights)
    assert count(made) == wanted


@pytest.mark.parametrize("rank", [3, 4])
def test_attention(rank: int) -> None:
    heads, queries, keys, size, wide = 2, 3, 5, 4, 6

    def shape(rows: int, width: int) -> list[int | str]:
        return [1, heads, rows, width] if rank == 4 else [1, rows, heads * width]

    options = {} if rank == 4 else {"q_num_heads": heads, "kv_num_heads": heads}
    made = model(
        [node("Attention", ["q", "k", "v"], ["y"], **options)],
        {"q": shape(queries, size), "k": shape(keys, size), "v": shape(keys, wide)},
        {"y": shape(queries, wide)},
        opset=23,
    )
    assert count(made) == heads * queries * keys * (size + wide)


def test_free_dimensions_count_as_one_or_as_given() -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["y"])],
        {"x": ["N", 5]},
        {"y": ["N", 7]},
        {"w": random(5, 7)},
    )
    assert count(made) == 35
    assert count(made, x=(4, 5)) == 140


def test_quantized_weights_count_by_what_is_stored() -> None:
    """Both operands behind DequantizeLinear are multiplied as int8; one of them alone is not."""
    scale, zero = np.float32(0.1), np.int8(0)
    q = [
        node("DequantizeLinear", ["w8", "s", "z"], ["w"]),
        node("QuantizeLinear", ["x", "s", "z"], ["x8"]),
        node("DequantizeLinear", ["x8", "s", "z"], ["xd"]),
    ]
    weights = {"w8": np.ones((5, 7), np.int8), "s": scale, "z": zero}
    both = model([*q, node("MatMul", ["xd", "w"], ["y"])], {"x": [2, 5]}, {"y": [2, 7]}, weights)
    assert shares(node_macs(both)) == {"int8": 1}
    one = model([*q, node("MatMul", ["x", "w"], ["y"])], {"x": [2, 5]}, {"y": [2, 7]}, weights)
    assert shares(node_macs(one)) == {"int8 weights": 1}
    weights |= {"f": random(5, 7)}
    kept = model([*q, node("MatMul", ["xd", "f"], ["y"])], {"x": [2, 5]}, {"y": [2, 7]}, weights)
    assert shares(node_macs(kept)) == {"float32": 1}
    pair = [*q, node("Transpose", ["x"], ["xt"]), node("MatMul", ["xt", "xd"], ["y"])]
    computed = model(pair, {"x": [2, 5]}, {"y": [5, 5]}, weights)
    assert shares(node_macs(computed)) == {"float32": 1}


def test_the_share_proves_a_precision(tmp_path: Path) -> None:
    source = task_checks.FOLDER / "digits_cnn.onnx"
    report = zl.optimize.fp16(source, tmp_path / "m.onnx")
    assert report.macs == {"float16": 1}
    assert "multiply-adds: 100.0% float16" in str(report)
    kept = zl.optimize.fp16(source, tmp_path / "m.onnx", keep=["op:Gemm"])
    assert 0 < kept.macs["float32"] < 0.2 < kept.macs["float16"] < 1
    told = zl.inspect(tmp_path / "m.onnx", backends=False)
    total = sum(told.macs.values())
    assert {k: v / total for k, v in told.macs.items()} == kept.macs
    assert total == sum(zl.inspect(source, backends=False).macs.values())
    assert "float16" in str(told)
    assert told.as_dict()["macs"] == dict(told.macs)


def test_what_cannot_be_counted_is_left_out() -> None:
    made = model([node("Relu", ["x"], ["y"])], {"x": [2]}, {"y": [2]})
    assert node_macs(made) == []
    assert shares([]) == {}
    bad = model([node("Nothing", ["x"], ["y"], domain="test")], {"x": [2]}, {"y": [2]},
                types={"y": TensorProto.FLOAT}, domains=["test"])  # fmt: skip
    assert node_macs(bad) == []
