"""`zl.ops.attach`: ops inside the model's file give what they give beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import zerolane as zl

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper  # noqa: E402

pytestmark = pytest.mark.usefixtures("test_ops")
MODELS = Path(__file__).parents[1] / "models"


@zl.op("attach::FromBytes", outputs=("image", "bright"))
def from_bytes(
    image: Annotated[np.ndarray, "uint8[N, H, W]"],
) -> tuple[
    Annotated[np.ndarray, "float32[N, 1, H, W]"],
    Annotated[np.ndarray, "int64[N]"],
]:
    return (image / 16).astype(np.float32)[:, None], (image > 8).sum((1, 2)).astype(np.int64)


@zl.op("attach::Best")
def best(scores: Annotated[np.ndarray, "float32[N, C]"]) -> Annotated[np.ndarray, "int64[N]"]:
    return scores.argmax(1)


def two_inputs() -> Any:
    nodes = [helper.make_node("Add", ["a", "b"], ["c"]), helper.make_node("Neg", ["c"], ["d"])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [value("a", TensorProto.FLOAT, ["N", 3]), value("b", TensorProto.FLOAT, ["N", 3])],
        [value("c", TensorProto.FLOAT, ["N", 3]), value("d", TensorProto.FLOAT, ["N", 3])],
    )
    return helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 18)])


def test_from_bytes_to_digits(tmp_path: Path) -> None:
    out = tmp_path / "digits.onnx"
    told = zl.ops.attach(
        MODELS / "digits_cnn.onnx",
        out,
        before={"image": zl.ops.Op("attach::FromBytes")},
        after=[(zl.ops.Op("attach::Best"), ["logits"])],
        shapes={"FromBytes.image": ["N", 8, 8]},
        keep=["bright"],
    )
    assert told.inputs == {"FromBytes.image": "uint8"}
    assert told.outputs == {"y": "int64", "bright": "int64"}
    s = zl.load(out)
    assert [(i.name, i.dtype, i.shape) for i in s.inputs] == [
        ("FromBytes.image", "uint8", ("N", 8, 8))
    ]
    case = np.load(MODELS / "digits_cnn.case.npz")
    images = np.round(case["image"][:, 0] * 16).astype(np.uint8)
    digits, bright = s(images)
    assert (digits == case["label"]).mean() > 0.97
    assert bright.tolist() == (images > 8).sum((1, 2)).tolist()


def test_chains_and_what_is_read(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    told = zl.ops.attach(
        two_inputs(),
        out,
        before={
            "a": zl.ops.Op("test::Scale", version=1, factor=3.0),
            "b": zl.ops.Op("test::Scale", version=1, steps=[]),
        },
        after=[
            (zl.ops.Op("test::Scale", version=1, offsets=[1.0]), ["d"]),
            (zl.ops.Op("test::AddAll"), ["c", "y", "c"]),
        ],
        keep=["d"],
    )
    # The first "x" and "y" have those names, later ones say whose they are.
    assert list(told.inputs) == ["x", "Scale.x"]
    assert list(told.outputs) == ["d", "AddAll.y"]
    x = np.float32([[1, 2, 3]])
    d, total = zl.load(out)(x, x)
    c = x * 3 + x * 2
    assert d.tolist() == (-c).tolist()
    assert total.tolist() == (c + (-c * 2 + 1) + c).tolist()


def test_attributes_travel(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    op = zl.ops.Op(
        "test::Scale", version=1, factor=0.5, times=2, mode="square", offsets=[0.5], steps=[]
    )
    zl.ops.attach(two_inputs(), out, after=[(op, ["c"])])
    x = np.float32([[1, 2, 3]])
    _, y = zl.load(out)(x, x)
    assert y.tolist() == op(x + x).tolist()


def test_optional_inputs_stay_out(tmp_path: Path) -> None:
    out = tmp_path / "m.onnx"
    model = two_inputs()
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [3]))
    zl.ops.attach(model, out, after=[(zl.ops.Op("test::Affine"), ["c", "", "w"])])
    written = onnx.load(out)
    assert [node.op_type for node in written.graph.node] == ["Add", "Neg", "Affine"]
    assert list(written.graph.node[-1].input) == ["c", "", "w"]
    assert {i.domain: i.version for i in written.opset_import} == {"": 18, "test": 1}
    x = np.float32([[1, 2, 3]])
    _, y, total = zl.load(out)(x, x, np.float32([1, 0, 2]))
    assert y.tolist() == [[2, 0, 12]]
    assert total == 14


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"before": {"z": "scale"}}, "there is no input 'z', the inputs are 'a', 'b'"),
        ({"after": [("scale", ["z"])]}, "'z', and there is 'a', 'b', 'c', 'd'"),
        ({"keep": ["z"]}, "'z' was to be kept"),
        ({"before": {"a": "lookup"}}, ""),
        ({"after": [("lookup", ["c"])]}, "was to work on float32"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, arguments: dict[str, Any], part: str) -> None:
    ops = {
        "scale": zl.ops.Op("test::Scale", version=1),
        "lookup": zl.ops.Op("test::Lookup", table=[1.0]),
    }
    if "before" in arguments:
        arguments = {"before": {k: ops[v] for k, v in arguments["before"].items()}}
    if "after" in arguments:
        arguments = {"after": [(ops[v], reads) for v, reads in arguments["after"]]}
    out = tmp_path / "m.onnx"
    if not part:
        zl.ops.attach(two_inputs(), out, **arguments)
        return
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.ops.attach(two_inputs(), out, **arguments)
    assert part in str(caught.value)
    assert not out.exists()


def test_the_model_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(two_inputs(), path)
    with pytest.raises(zl.InvalidArgument, match="would overwrite the model itself"):
        zl.ops.attach(path, path)
    with pytest.raises(zl.NotFound):
        zl.ops.attach(tmp_path / "none.onnx", tmp_path / "out.onnx")
