"""Ops as plugins: built, serialized, brought back and run, on stand-ins whose device is the host.

The same way that a real library takes, but for the arithmetic: parser, builder and runtime are
those of tests/fakes/tensorrt. tests/ops/test_tensorrt_rtx.py has a real builder and no GPU.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests import child
from tests.ops import plugin_models as models
from tests.ops.build import graph, op_node, plugin_library
from tests.python.messages import assert_three_parts
from tests.trt.engines import Fake
from zerolane.engine import OpLibraryUse
from zerolane.ops import engines

CALLS = ("plugins.created", "plugins.attached", "plugins.shaped", "plugins.enqueued")


@pytest.fixture(scope="module", autouse=True)
def plug() -> zl.ops.OpLibrary:
    return zl.ops.load(plugin_library())


def build(fake: Fake, model: bytes, *, isolate: bool = False, **fields: Any) -> zl.Engine:
    backend = fake.family.backend
    return zl.Build(model, backend=backend, cache=False, isolate=isolate, **fields).run()


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def reference(model: bytes, *inputs: np.ndarray[Any, Any]) -> Any:
    """The CPU bodies inside of ONNX Runtime."""
    session = zl.load(model, backend="onnxruntime")
    return session(*inputs)


@pytest.mark.parametrize("isolate", [False, True])
def test_the_way_of_a_plugin(fake: Fake, isolate: bool) -> None:
    """Attributes of every kind arrive, as do constants; scratch memory is aligned."""
    model = models.scale(rows="N", **models.ATTRIBUTES)
    with fake.control.counting("creators.registered", "creators.deregistered") as grown:
        engine = build(fake, model, isolate=isolate, shapes={"x": [(1, 5), (4, 5), (40, 5)]})
        if not isolate:
            ((_, node, counts),) = engine.manifest.extra["plugins"]  # type: ignore[misc]
            assert node == "scale"
            assert min(counts.values()) > 0
        with fake.control.counting(*CALLS) as calls:
            session = zl.load(engine)
            for rows in (3, 3, 3, 17, 3, 40, 1):
                x = numbers(rows, 5)
                np.testing.assert_allclose(session(x), reference(model, x), rtol=1e-6)
        del session
    assert calls["plugins.created"] == 1
    assert all(calls[name] > 0 for name in CALLS)
    builds = 0 if isolate else 1
    assert grown == {"creators.registered": 1 + builds, "creators.deregistered": 1 + builds}


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(models.HALF, "float16"), (models.INT32, "int32"), (models.INT64, "int64"), (3, "int8")],
)
def test_element_types(fake: Fake, code: int, dtype: str) -> None:
    session = zl.load(build(fake, models.scale(code)))
    x = np.arange(15).reshape(3, 5).astype(dtype)
    y = session(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, 2 * x + 3)


def test_graphs_replay_plugins(fake: Fake) -> None:
    """A captured run is enqueued once and for all, and reads what the memory holds by then."""
    session = zl.load(build(fake, models.scale()))
    binding = session.bind()
    with fake.control.counting("plugins.enqueued") as grown:
        for i in range(20):
            binding.inputs["x"][...] = i
            np.testing.assert_array_equal(binding()["y"], np.full((3, 5), 2.0 * i + 3, np.float32))
    assert grown["plugins.enqueued"] <= 3


def test_contexts_share_an_engine(fake: Fake) -> None:
    session = zl.load(build(fake, models.scale(rows="N"), shapes={"x": [(1, 5), (2, 5), (9, 5)]}))
    with fake.control.counting("plugins.attached", "plugins.created") as grown:
        bindings = [session.bind(x=(rows, 5)) for rows in (1, 5, 9)]
        for binding in bindings:
            binding.inputs["x"][...] = 1
        for binding in bindings:
            np.testing.assert_array_equal(binding()["y"], 5)
    assert grown == {"plugins.attached": 3, "plugins.created": 0}


def test_arithmetic_on_extents(fake: Fake) -> None:
    shapes = {"x": [(1, 1), (5, 4), (9, 11)]}
    session = zl.load(build(fake, models.extents("N", "M"), shapes=shapes))
    for rows, columns in ((1, 1), (5, 4), (9, 11), (2, 7)):
        y = session(np.zeros((rows, columns), np.float32))
        assert y.shape == (
            *(rows // 2, -(-rows // 2), max(rows, columns), min(rows, 3)),
            rows * columns,
        )
        assert y.min(initial=1) == 1
    fixed = zl.load(build(fake, models.extents(5, 4)))
    assert fixed(np.zeros((5, 4), np.float32)).shape == (2, 3, 5, 3, 20)


def test_inputs_in_a_row(fake: Fake) -> None:
    shapes = {"a": [(1, 3), (2, 3), (4, 3)], "c": [(1, 3), (1, 3), (5, 3)]}
    session = zl.load(build(fake, models.join(), shapes=shapes))
    a, b, c = numbers(4, 3), numbers(2, 3), numbers(5, 3)
    np.testing.assert_array_equal(session(a, b, c), np.concatenate([a, b, c]))
    np.testing.assert_array_equal(session(a[:1], b, c[:2]), np.concatenate([a[:1], b, c[:2]]))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("row_count", "total"), [(True, True), (False, True), (False, False)])
def test_what_a_node_leaves_out(fake: Fake, bias: bool, row_count: bool, total: bool) -> None:
    model = models.affine(bias, total, row_count)
    session = zl.load(build(fake, model, shapes={"x": [(1, 4), (2, 4), (7, 4)]}))
    x, b, w = numbers(7, 4), numbers(4), numbers(1, 4)[0]
    found = session(*([x, b, w] if bias else [x, w]))
    y = x * w + (b if bias else 0)
    wanted = {"y": y, "rows": 7, "total": y.sum()}
    names = [spec.name for spec in session.outputs]
    assert names == ["y", *["rows"] * row_count, *["total"] * total]
    for name in names:
        value = found if names == ["y"] else getattr(found, name)
        np.testing.assert_allclose(value, wanted[name], rtol=1e-5)


def test_sizes_that_the_data_decides(fake: Fake) -> None:
    with fake.control.counting("parsed", "size_tensors") as grown:
        engine = build(fake, models.above(threshold=0.5), shapes={"x": [(1,), (8,), (1000,)]})
    assert grown["parsed"] == 2, "the first reading tells how many sizes there are"
    assert grown["size_tensors"] > 0
    session = zl.load(engine)
    for x in (numbers(1000), np.zeros(7, np.float32), np.ones(3, np.float32), numbers(8)):
        values, places, doubled = session(x)
        np.testing.assert_array_equal(values, x[x > 0.5])
        np.testing.assert_array_equal(places, np.argwhere(x > 0.5))
        np.testing.assert_array_equal(doubled, 2 * x)


def test_ops_behind_sizes_that_the_data_decides(fake: Fake) -> None:
    engine = build(fake, models.above_twice(), shapes={"x": [(1,), (8,), (1000,)]})
    session = zl.load(engine)
    for x in (numbers(1000), -np.ones(5, np.float32), numbers(3)):
        y, places = session(x)
        first = -x[x > 0]
        np.testing.assert_allclose(y, 3 * first[first > -1], rtol=1e-6)
        np.testing.assert_array_equal(places, np.argwhere(first > -1))


def test_bytes_go_through_plugins(fake: Fake) -> None:
    engine = build(fake, models.invert(), shapes={"x": [(1, 7), (2, 7), (5, 7)]})
    session = zl.load(engine)
    assert [spec.dtype for spec in (*session.inputs, *session.outputs)] == [
        *("uint8", "uint8", "float32")
    ]
    x = np.arange(35, dtype=np.uint8).reshape(5, 7) * 7
    y, f = session(x)
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y, x)
    np.testing.assert_allclose(f, x / 255, rtol=1e-6)
    with pytest.raises(zl.InvalidArgument, match="uint8"):
        session(x.astype(np.int8))


@pytest.mark.parametrize("version", [1, 2])
def test_names_that_others_have_too(fake: Fake, version: int) -> None:
    model = models.domains(version)
    session = zl.load(build(fake, model, shapes={"x": [(1, 3), (2, 3), (4, 3)]}))
    x = numbers(4, 3)
    np.testing.assert_allclose(session(x), 2 * x - 1 + 100 * version, rtol=1e-6)
    np.testing.assert_allclose(session(x), reference(model, x), rtol=1e-6)


@pytest.mark.parametrize(
    ("how", "kind", "text"),
    [
        (3, zl.InternalError, "bytes of scratch memory"),
        (12, zl.InternalError, "must not hang on known"),
        (13, zl.DeviceError, "returned status 7"),
        (14, zl.InternalError, "the body failed"),
        (15, zl.InvalidArgument, "not this input"),
    ],
)
def test_what_a_running_op_fails_with(fake: Fake, how: int, kind: Any, text: str) -> None:
    engine = build(fake, models.faulty(how, "N"), shapes={"x": [(1, 4), (2, 4), (9, 4)]})
    session = zl.load(engine)
    healthy = zl.load(build(fake, models.scale()))
    for _ in range(3):
        with pytest.raises(kind, match=text) as caught:
            session(numbers(5, 4))
        assert type(caught.value) is kind
        assert "node 'the_node' (plug::Faulty) of <bytes>" in str(caught.value)
        assert_three_parts(str(caught.value))
        np.testing.assert_array_equal(healthy(np.ones((3, 5), np.float32)), 5)


def test_no_memory_for_constants(fake: Fake) -> None:
    session = zl.load(build(fake, models.scale(factor=-7.0)))
    fake.cuda.fail("pool_allocate", fake.cuda.OUT_OF_MEMORY, times=100)
    with pytest.raises(zl.OutOfMemory):
        session(np.ones((3, 5), np.float32))
    fake.cuda.heal()
    np.testing.assert_array_equal(session(np.ones((3, 5), np.float32)), -4)


@pytest.mark.parametrize("how", [4, 5, 6, 10])
def test_what_an_op_fails_with_in_a_build(fake: Fake, how: int) -> None:
    with pytest.raises(zl.Error, match=r"node 'the_node' \(plug::Faulty\)") as caught:
        build(fake, models.faulty(how))
    assert_three_parts(str(caught.value))
    assert not isinstance(caught.value, zl.BackendError)


def test_an_op_that_nobody_has_defined(fake: Fake) -> None:
    model = graph([op_node("plug::No", ["x"], ["y"], "n")], {"x": (1, [3])}, {"y": (1, [3])})
    with pytest.raises(zl.UnsupportedGraph, match="no library has defined plug::No"):
        build(fake, model)


SECTIONS = [
    (b"zl:call", b"0000000000000000", "is of an older form"),
    (b"zl:call", b"ffffffffffffffff", "holds -1"),
    (b"factor", b"0000000000c05840", None),  # 99: other attributes are fine
    (b"factor", b"00000000d012f341", "from -1000 to 1000"),
    (b"mode", b"6e6f6e65", "expected one of"),
    (b"steps", b"0500000000000000", "does not hold its own length"),
]


@pytest.mark.parametrize(("field", "start", "text"), SECTIONS)
def test_a_damaged_plan(fake: Fake, field: bytes, start: bytes, text: str | None) -> None:
    """The stand-in keeps fields as hexadecimal digits; `start` goes over the first of them."""
    engine = build(fake, models.scale(**models.ATTRIBUTES))
    plan = bytearray(engine.plan)
    line = plan.index(b"field\t" + field + b"\t")
    at = plan.index(b"\n", line)
    data = plan.rindex(b"\t", line, at) + 1
    plan[data : data + len(start)] = start
    damaged = zl.Engine(replace(engine.manifest, plan_digest="", plan_size=0), bytes(plan))
    if text is None:
        zl.load(damaged)
        return
    with pytest.raises(zl.Error, match=text) as caught:
        zl.load(damaged)
    assert isinstance(caught.value, zl.InvalidModel | zl.InvalidArgument)
    assert_three_parts(str(caught.value))


LOAD = """
import sys
import numpy as np
from tests.fakes.tensorrt import stand_in
stand_in.install(sys.argv[1])
import zerolane as zl
try:
    session = zl.load(sys.argv[2])
except zl.Error as error:
    print(error.code, error)
else:
    print(session(np.ones((3, 5), np.float32)).tolist()[0], zl.ops.loaded()[0].path)
"""


def test_an_engine_loads_its_libraries(fake: Fake, tmp_path: Path) -> None:
    engine = build(fake, models.scale())
    (use,) = engine.manifest.op_libraries
    copy = tmp_path / "libplugins.so"
    shutil.copy(plugin_library(), copy)
    moved = replace(engine.manifest, op_libraries=(replace(use, path=str(copy)),))
    path = tmp_path / "elsewhere" / "scale.engine"
    path.parent.mkdir()
    zl.Engine(moved, engine.plan).save(path)

    def load() -> str:
        return child.run(LOAD, fake.family.name, path, timeout=120).strip()

    assert load() == f"[5.0, 5.0, 5.0, 5.0, 5.0] {copy}"
    beside = path.parent / copy.name
    shutil.move(copy, beside)
    assert load() == f"[5.0, 5.0, 5.0, 5.0, 5.0] {beside}"
    with open(beside, "ab") as file:
        file.write(b"\0")
    told = load()
    assert told.startswith(f"unavailable loading op library 'plug_ops': '{copy}' is not there")
    assert use.sha256[:16] in told
    os.unlink(beside)
    assert load() == told


def test_a_library_that_is_loaded_from_elsewhere_serves(fake: Fake, tmp_path: Path) -> None:
    engine = build(fake, models.scale())
    (use,) = engine.manifest.op_libraries
    gone = replace(use, path=str(tmp_path / "nowhere.so"))
    assert engines.load([gone], None) == [(use.path, {"plug::Scale": 1})]
    other = OpLibraryUse("no_ops", "1", str(tmp_path / "nowhere.so"), "0" * 64, {"no::Op": 1})
    with pytest.raises(zl.Unavailable, match="'no_ops'") as caught:
        engines.load([other], None)
    assert_three_parts(str(caught.value))


def test_an_engine_that_says_nothing_of_its_library(fake: Fake) -> None:
    """Its plugins have no creator then; the library's own words name them."""
    engine = build(fake, models.scale(factor=-9.0))
    silent = zl.Engine(replace(engine.manifest, op_libraries=()), engine.plan)
    with pytest.raises(zl.InvalidModel, match="plug::Scale"):
        zl.load(silent)


def test_building_where_sessions_run(fake: Fake) -> None:
    """Registries are apart: what a build registers and takes away is no session's."""
    session = zl.load(build(fake, models.scale()))
    for factor in range(3):
        build(fake, models.scale(factor=float(factor)))
        np.testing.assert_array_equal(session(np.ones((3, 5), np.float32)), 5)
