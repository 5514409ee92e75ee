"""Ops as plugins in engines that a real TensorRT-RTX builds. No GPU: nothing is run."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.build.library import require_rtx
from tests.ops import plugin_models as models
from tests.ops.build import graph, op_node, plugin_library
from tests.python.messages import assert_three_parts
from zerolane.ops import engines

pytest.importorskip("onnx", reason="models are made with onnx")


@pytest.fixture(scope="module", autouse=True)
def release() -> str:
    found = require_rtx()
    if tuple(map(int, found.split(".")))[:2] < (1, 7):
        pytest.skip("TensorRT-RTX takes custom ops from 1.7 on")
    zl.ops.load(plugin_library())
    return found


def build(model: bytes, *, isolate: bool = False, **fields: Any) -> zl.Engine:
    return zl.build(model, cache=False, isolate=isolate, **fields)


def rows(*sizes: int, width: int = 5) -> list[tuple[int, ...]]:
    return [(size, width) for size in sizes]


def asked(engine: zl.Engine) -> list[Any]:
    """What the library asked of each plugin: rows of op, node, count by callback."""
    found: list[Any] = list(engine.manifest.extra["plugins"])  # type: ignore[call-overload]
    return found


@pytest.mark.parametrize("isolate", [True, False])
def test_every_callback_of_a_build_is_called(isolate: bool) -> None:
    model = models.scale(rows="N", **models.ATTRIBUTES)
    engine = build(model, isolate=isolate, shapes={"x": rows(1, 4, 17)})
    ((op, node, counts),) = asked(engine)
    assert (op, node) == ("plug::Scale", "scale")
    wanted = {"types", "shapes", "formats", "configure", "workspace", "serialize"}
    assert set(counts) == wanted
    assert all(counts[name] > 0 for name in wanted), counts
    plan = bytes(engine.plan)
    assert b"plug::Scale" in plan
    assert b"negate\0" in plan, "the attributes are serialized"
    assert struct.pack("<q", models.ATTRIBUTES["big"]) in plan, "integers keep their 64 bits"
    assert struct.pack("<qqqq", 3, 1, 2, 4) in plan
    assert struct.pack("<ddd", 2, 0.5, 1.5) in plan
    assert engine.manifest.outputs[0].shape == ("N", 5)


def test_the_manifest_names_the_library() -> None:
    engine = build(models.scale())
    (use,) = engine.manifest.op_libraries
    assert (use.name, use.version, use.ops) == ("plug_ops", "3.4", {"plug::Scale": 1})
    assert use.path == os.path.realpath(plugin_library())
    assert str(use) == "plug_ops 3.4 (plug::Scale)"
    assert build(graph([op_node("Relu", ["x"], ["y"])], {"x": (1, [2])}, {"y": (1, [2])})).manifest
    assert asked(engine)


@pytest.mark.parametrize(
    "dtype", [models.HALF, models.BFLOAT16, models.INT32, models.INT64, models.INT8]
)
def test_element_types(dtype: int) -> None:
    engine = build(models.scale(dtype))
    (spec,) = engine.manifest.outputs
    names = {2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 16: "bfloat16"}
    assert spec.dtype == engine.manifest.inputs[0].dtype == names[dtype]


def test_arithmetic_on_extents() -> None:
    """Folded where they are numbers; else left to the run."""
    fixed = build(models.extents(5, 4))
    assert fixed.manifest.outputs[0].shape == (2, 3, 5, 3, 20)
    shapes = {"x": [(1, 4), (5, 4), (9, 4)]}
    free = build(models.extents("N", 4), shapes=shapes)
    assert free.manifest.outputs[0].shape == (None,) * 5


def test_inputs_in_a_row() -> None:
    shapes = {"a": [(1, 3), (2, 3), (4, 3)], "c": [(1, 3), (1, 3), (5, 3)]}
    engine = build(models.join(), shapes=shapes)
    assert engine.manifest.outputs[0].shape == (None, 3)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("row_count", [True, False])
def test_what_a_node_leaves_out(bias: bool, total: bool, row_count: bool) -> None:
    engine = build(models.affine(bias, total, row_count), shapes={"x": [(1, 4), (2, 4), (3, 4)]})
    names = [spec.name for spec in engine.manifest.outputs]
    assert names == ["y", *["rows"] * row_count, *["total"] * total]


def test_sizes_that_the_data_decides() -> None:
    engine = build(models.above(), shapes={"x": [(1,), (100,), (1000,)]})
    shapes = {spec.name: spec.shape for spec in engine.manifest.outputs}
    assert shapes == {"values": (None,), "places": (None, 1), "doubled": (None,)}
    again = build(models.above_twice(), shapes={"x": [(1,), (100,), (1000,)]})
    assert [row[1] for row in asked(again)] == ["first", "second", "last"]
    assert all(min(row[2].values()) > 0 for row in asked(again))


def test_bytes_go_through_plugins() -> None:
    """TensorRT has no uint8 there: the network has int8, the engine's user sees uint8."""
    engine = build(models.invert(), shapes={"x": rows(1, 2, 3, width=7)})
    assert [spec.dtype for spec in engine.manifest.inputs] == ["uint8"]
    assert [spec.dtype for spec in engine.manifest.outputs] == ["uint8", "float32"]


def test_bytes_that_are_constants() -> None:
    import onnx

    model = onnx.load_from_string(models.invert())
    table = np.arange(128, 142, dtype=np.uint8).reshape(2, 7)
    model.graph.initializer.append(onnx.numpy_helper.from_array(table, "x"))
    del model.graph.input[:]
    engine = build(model.SerializeToString())
    assert [spec.dtype for spec in engine.manifest.outputs] == ["uint8", "float32"]


def test_bytes_that_an_operator_reads_too() -> None:
    nodes = [
        op_node("plug::Invert", ["x"], ["y", "f"], "inverted"),
        op_node("Cast", ["x"], ["z"], "cast", to=1),
    ]
    model = graph(nodes, {"x": (2, [3])}, {"f": (1, [3]), "z": (1, [3])})
    with pytest.raises(zl.Unsupported, match=r"'cast'.* reads 'x' of uint8") as caught:
        build(model)
    assert_three_parts(str(caught.value))


@pytest.mark.parametrize("version", [1, 2])
def test_names_that_others_have_too(version: int) -> None:
    """Two domains with one name, and a name of ONNX's own."""
    engine = build(models.domains(version), shapes={"x": rows(1, 2, 3, width=3)})
    assert [row[0] for row in asked(engine)] == ["plug::Scale", "other::Scale", "plug::Relu"]
    (use,) = engine.manifest.op_libraries
    assert use.ops == {"plug::Scale": 1, "other::Scale": 1, "plug::Relu": version}


def test_inside_of_functions_and_branches() -> None:
    from onnx import helper

    relu = op_node("plug::Relu", ["a"], ["b"], "inside")
    function = helper.make_function(
        "mine", "F", ["a"], ["b"], [relu], [helper.make_opsetid("plug", 1)]
    )
    nodes = [
        op_node("mine::F", ["x"], ["c"], "call"),
        op_node("mine::F", ["c"], ["y"], "again"),
    ]
    outputs: dict[str, Any] = {"y": (1, [3])}
    model = graph(nodes, {"x": (1, [3])}, outputs, functions=(function,), versions={"plug": 1})
    assert [row[0] for row in asked(build(model))] == ["plug::Relu"]

    then = helper.make_graph(
        [op_node("plug::Relu", ["x"], ["o"], "then")],
        "then",
        [],
        [helper.make_tensor_value_info("o", 1, [3])],
    )
    other = helper.make_graph(
        [op_node("Identity", ["x"], ["p"])],
        "else",
        [],
        [helper.make_tensor_value_info("p", 1, [3])],
    )
    branch = op_node("If", ["c"], ["y"], "branch", then_branch=then, else_branch=other)
    inputs: dict[str, Any] = {"c": (models.BOOL, []), "x": (1, [3])}
    model = graph([branch], inputs, outputs, versions={"plug": 1})
    assert [row[1] for row in asked(build(model))] == ["then"]


def test_an_attribute_that_a_function_is_given() -> None:
    from onnx import AttributeProto, helper

    scale = op_node("plug::Scale", ["a"], ["b"], "inside")
    scale.attribute.append(
        AttributeProto(name="factor", type=AttributeProto.FLOAT, ref_attr_name="f")
    )
    function = helper.make_function(
        "mine", "F", ["a"], ["b"], [scale], [helper.make_opsetid("plug", 1)], attributes=["f"]
    )
    call = op_node("mine::F", ["x"], ["y"], "call", f=2.0)
    model = graph([call], {"x": (1, [3])}, {"y": (1, [3])}, functions=(function,))
    with pytest.raises(zl.Unsupported, match="takes the value from its caller") as caught:
        build(model)
    assert_three_parts(str(caught.value))


FAULTS = {
    1: (zl.InternalError, "init failed"),
    2: (zl.Unsupported, "no scratch today"),
    4: (zl.ShapeMismatch, "this shape is not to be had"),
    5: (zl.InternalError, "something else"),
    6: (zl.InternalError, "did not set output 0"),
    7: (zl.ShapeMismatch, "divided by zero"),
    8: (zl.ShapeMismatch, "overflows"),
    9: (zl.ShapeMismatch, "input 0 has rank 2"),
    10: (zl.Unsupported, "8 dimensions"),
    11: (zl.InternalError, "computes with an extent that the data decides"),
    16: (zl.Unsupported, "counts along axis 1 of output 0"),
}


@pytest.mark.parametrize("how", FAULTS)
@pytest.mark.parametrize("dynamic", [True, False])
def test_what_an_op_fails_with(how: int, dynamic: bool) -> None:
    """In this process, which lives on."""
    shapes = {"x": [(1, 4), (2, 4), (3, 4)]} if dynamic else None
    kind, text = FAULTS[how]
    with pytest.raises(kind, match=text) as caught:
        build(models.faulty(how, "N" if dynamic else 3), shapes=shapes)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert_three_parts(message)
    assert "node 'the_node' (plug::Faulty) of <bytes>" in message
    assert caught.value.subject == "plug::Faulty"


def test_what_an_op_fails_with_in_a_child() -> None:
    with pytest.raises(zl.ShapeMismatch, match="this shape is not to be had") as caught:
        build(models.faulty(4), isolate=True)
    assert caught.value.subject == "plug::Faulty"


@pytest.mark.parametrize(
    ("node", "dtype", "kind", "text"),
    [
        ({"op": "plug::CpuOnly"}, 1, zl.Unsupported, "has a CPU body alone, expected a CUDA body"),
        ({"op": "plug::Scale"}, 1, zl.InvalidArgument, "attribute 'factor' is missing"),
        ({"op": "plug::Scale", "factor": 1e6}, 1, zl.InvalidArgument, "from -1000 to 1000"),
        ({"op": "plug::Scale", "factor": "2"}, 1, zl.InvalidArgument, "it is a string"),
        ({"op": "plug::Scale", "factor": ["a"]}, 1, zl.InvalidArgument, "ONNX's attribute type 8"),
        ({"op": "plug::Scale", "factor": 1.0}, 9, zl.InvalidArgument, "'x' is of bool, expected"),
        ({"op": "plug::Affine"}, 1, zl.InvalidArgument, "1 inputs were given, expected 3"),
    ],
)
def test_nodes_that_do_not_fit(node: dict[str, Any], dtype: int, kind: Any, text: str) -> None:
    given = dict(node)
    made = op_node(given.pop("op"), ["x"], ["y"], "the_node", **given)
    model = graph([made], {"x": (dtype, [3, 4])}, {"y": (dtype, [3, 4])})
    with pytest.raises(kind, match=text) as caught:
        build(model)
    assert_three_parts(str(caught.value))
    assert "the_node" in str(caught.value)


def test_an_op_that_nobody_has_defined() -> None:
    nodes = [
        op_node("plug::Relu", ["x"], ["a"], "known"),
        op_node("plug::Nothing", ["a"], ["y"], "unknown"),
    ]
    model = graph(nodes, {"x": (1, [3])}, {"y": (1, [3])})
    with pytest.raises(zl.UnsupportedGraph, match="no library has defined plug::Nothing") as caught:
        build(model)
    assert [node.name for node in caught.value.report.nodes] == ["unknown"]
    assert_three_parts(str(caught.value))
    assert build(models.scale()).plan.nbytes > 0, "this process lives on"


def test_an_op_of_python_has_no_place_in_an_engine() -> None:
    @zl.op("py_plug::Twice")
    def twice(x: Annotated[np.ndarray, "float32[N]"]) -> Annotated[np.ndarray, "float32[N]"]:
        return 2 * x

    model = graph([op_node("py_plug::Twice", ["x"], ["y"])], {"x": (1, [3])}, {"y": (1, [3])})
    with pytest.raises(zl.Unsupported, match="defined in Python by this process") as caught:
        build(model)
    assert caught.value.subject == "py_plug::Twice"
    assert_three_parts(str(caught.value))


def test_the_parser_alone_is_asked() -> None:
    shapes = models.scale(rows="N")
    assert "takes it: 1 layers" in zl.Build.check(shapes)
    with pytest.raises(zl.ShapeMismatch, match="not to be had"):
        zl.Build.check(models.faulty(4))


def test_half_precision_goes_around_ops() -> None:
    """The ops keep their float32; what is around them is converted."""
    nodes = [
        op_node("Relu", ["x"], ["a"], "before"),
        op_node("other::Scale", ["a"], ["y"], "op", factor=2.0),
    ]
    model = graph(nodes, {"x": (1, [3, 4])}, {"y": (1, [3, 4])})
    engine = build(model, precision="fp16")
    assert [row[0] for row in asked(engine)] == ["other::Scale"]


BUILD_AND_SAY = """
import sys, zerolane as zl
zl.ops.load(sys.argv[1])
job = zl.Build(open(sys.argv[2], "rb").read(), backend="tensorrt-rtx")
job.run()
print(job.from_cache)
"""


def test_the_content_of_the_library_is_a_part_of_the_key(tmp_path: Path) -> None:
    library = tmp_path / "libplugins.so"
    shutil.copy(plugin_library(), library)
    model = tmp_path / "scale.onnx"
    model.write_bytes(models.scale())
    env = {"ZEROLANE_CACHE": str(tmp_path / "cache")}

    def run() -> str:
        return child.run(BUILD_AND_SAY, library, model, env=env, timeout=120).strip()

    assert [run(), run()] == ["False", "True"]
    other = tmp_path / "elsewhere.so"
    shutil.move(library, other)
    library = other
    assert run() == "True", "where it is does not matter"
    with open(library, "ab") as file:
        file.write(b"\0")
    assert run() == "False", "what it holds does"


def test_a_library_that_was_written_since_it_was_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerolane.ops import library as libraries

    path = os.path.realpath(plugin_library())
    stamp = libraries._stamps[path]
    monkeypatch.setitem(libraries._stamps, path, (*stamp[:3], stamp[3] - 1))
    with pytest.raises(zl.Unavailable, match="was written since this process loaded it") as caught:
        engines.uses([("plug", "Scale", 1)], "m.onnx")
    assert_three_parts(str(caught.value))
