"""Seeded random graphs: whatever the shape and the keep list, types and numbers are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are converted with onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

import zerolane as zl  # noqa: E402
from tests.optimize import graphs  # noqa: E402
from tests.optimize.graphs import FLOAT, node  # noqa: E402

SIZE = 4
ONE = ("Relu", "Tanh", "Sigmoid", "Neg", "Abs", "Identity", "Softmax")
TWO = ("Add", "Sub", "Mul", "Max", "MatMul")


def random_model(seed: int) -> tuple[onnx.ModelProto, list[str]]:
    """A graph of 4 x 4 values, bounded by Tanh; and the names of some of its nodes."""
    rng = np.random.default_rng(seed)
    values = ["x", "w0", "w1"]
    nodes: list[Any] = []

    def name(stem: str) -> str:
        return f"{stem}{len(nodes)}"

    def pick() -> str:
        return values[int(rng.integers(max(0, len(values) - 6), len(values)))]

    def add(operator: str, inputs: list[str], **attributes: Any) -> str:
        output = name("v")
        nodes.append(node(operator, inputs, [output], name=name("n"), **attributes))
        return output

    for _ in range(int(rng.integers(4, 24))):
        kind = rng.integers(0, 10)
        if kind < 3:
            made = add(str(rng.choice(ONE)), [pick()])
        elif kind < 6:
            made = add("Tanh", [add(str(rng.choice(TWO)), [pick(), pick()])])
        elif kind == 6:
            made = add("Transpose", [add("Reshape", [pick(), "square"])], perm=[1, 0])
        elif kind == 7:
            target = int(rng.choice([TensorProto.FLOAT16, TensorProto.DOUBLE, FLOAT]))
            made = add("Cast", [add("Cast", [pick()], to=target)], to=FLOAT)
        elif kind == 8:
            made = add("Where", [add("Greater", [pick(), "limit"]), pick(), pick()])
        else:
            branches = {}
            for branch, operator in (("then_branch", "Add"), ("else_branch", "Mul")):
                inner, bounded = name(f"{branch}_i"), name(f"{branch}_o")
                branches[branch] = helper.make_graph(
                    [node(operator, [pick(), pick()], [inner]), node("Tanh", [inner], [bounded])],
                    branch,
                    [],
                    [helper.make_tensor_value_info(bounded, FLOAT, [SIZE, SIZE])],
                )
            made = add("If", ["go"], **branches)
        values.append(made)
    outputs = [values[-1], *(v for v in values[3:-1] if rng.random() < 0.2)]
    model = graphs.model(
        nodes,
        {"x": [SIZE, SIZE], "go": []},
        {output: [SIZE, SIZE] for output in outputs},
        {
            "w0": graphs.random(SIZE, SIZE, seed=seed),
            "w1": graphs.random(SIZE, SIZE, seed=seed + 1),
            "square": np.array([SIZE, SIZE]),
            "limit": np.float32(0.25),
        },
        types={"go": TensorProto.BOOL},
    )
    keep = [n.name for n in nodes if rng.random() < 0.25 and n.op_type not in ("Cast", "If")]
    return model, keep


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("seed", range(40))
def test_random_graphs(seed: int, dtype: str, tmp_path: Path) -> None:
    model, keep = random_model(seed)
    samples = [{"x": graphs.random(4, 4, seed=seed), "go": np.array(go)} for go in (True, False)]
    for kept in ([], keep):
        for keep_io in (True, False):
            report = getattr(zl.optimize, dtype)(
                model, tmp_path / "m.onnx", keep=kept, keep_io=keep_io, samples=samples
            )
            result = onnx.load(tmp_path / "m.onnx")
            graphs.types_of(result)
            onnx.checker.check_model(result, full_check=True)
            assert report.worst < {"fp16": 0.01, "bf16": 0.08}[dtype], str(report)
            again = getattr(zl.optimize, dtype)(
                tmp_path / "m.onnx", tmp_path / "n.onnx", keep=(), keep_io=keep_io, verify=False
            )
            if not kept:
                assert again.converted == 0, str(again)
    everything = [n.name for n in model.graph.node if n.op_type not in ("Cast", "If")]
    owners = [n.name for n in model.graph.node if n.op_type == "If"]
    report = getattr(zl.optimize, dtype)(
        model, tmp_path / "m.onnx", keep=[*everything, *owners], samples=samples
    )
    assert report.converted == 0
    assert report.worst == 0


@pytest.mark.parametrize("seed", range(0, 40, 5))
def test_another_interpreter_agrees(seed: int, tmp_path: Path) -> None:
    """onnx's reference evaluator computes in NumPy's float16, with no casts of its own."""
    model, keep = random_model(seed)
    zl.optimize.fp16(model, tmp_path / "m.onnx", keep=keep)
    inputs = {"x": graphs.random(4, 4, seed=seed), "go": np.array(True)}
    wanted = ReferenceEvaluator(model).run(None, inputs)
    got = ReferenceEvaluator(onnx.load(tmp_path / "m.onnx")).run(None, inputs)
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == b.dtype
        assert np.abs(a - b).max() < 0.02


def test_weights_are_rounded_once(tmp_path: Path) -> None:
    model, _ = random_model(3)
    zl.optimize.fp16(model, tmp_path / "m.onnx", verify=False)
    weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer:
        before = weights[tensor.name.removesuffix("_fp16")]
        assert np.array_equal(numpy_helper.to_array(tensor), before.astype(tensor_dtype(tensor)))


def tensor_dtype(tensor: Any) -> Any:
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)
