"""Real engines of real models, by TensorRT-RTX, without a GPU."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import zerolane as zl
from tests import child
from tests.build import models
from tests.models import small
from zerolane import _native
from zerolane.model.steps import read_steps

pytestmark = pytest.mark.usefixtures("rtx")

NAMES = (*models.TRAINED, "text_embed", *models.LIGHT)

# The same builds with the vendor's own Python bindings. In a process of its own: both would share
# one library, and its one global logger.
PEER = """
import json, sys
import tensorrt_rtx_bindings as trt

for path, shapes, output in json.loads(sys.argv[1]):
    log = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    assert parser.parse_from_file(path)
    config = builder.create_builder_config()
    if shapes:
        profile = builder.create_optimization_profile()
        for name, bounds in shapes.items():
            profile.set_shape(name, *bounds)
        config.add_optimization_profile(profile)
    with open(output, "wb") as file:
        file.write(builder.build_serialized_network(network, config))
"""


def assert_same_plan(one: bytes | memoryview, other: bytes | memoryview, what: str) -> None:
    """The library numbers and orders the names that it makes up, and not alike from run to run.

    Two runs of the same build differ in some ten or some hundred bytes, whoever asks for it.
    """
    a, b = (np.frombuffer(plan, np.uint8) for plan in (one, other))
    assert a.size == b.size, what
    assert bytes(a[:64]) == bytes(b[:64]), f"header of {what}"
    assert np.count_nonzero(a != b) < a.size / 1000, what


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return models.every_model(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("isolate", [True, False], ids=["child", "in_process"])
def test_models_build(name: str, isolate: bool, paths: dict[str, Path], rtx: str) -> None:
    shapes = models.free_shapes(paths[name])
    engine = zl.build(paths[name], shapes=shapes, cache=False, isolate=isolate)
    m = engine.manifest
    assert bytes(engine.plan[:4]) == b"vtrt"
    assert (m.model, m.backend, m.library_version) == (paths[name].name, "tensorrt-rtx", rtx)
    assert m.model_digest == hashlib.sha256(paths[name].read_bytes()).hexdigest()
    assert m.plan_size == engine.plan.nbytes > 10_000
    graph = onnx.load(paths[name]).graph
    own = {tensor.name for tensor in graph.initializer}
    assert [s.name for s in m.inputs] == [v.name for v in graph.input if v.name not in own]
    assert [s.name for s in m.outputs] == [v.name for v in graph.output]
    assert set(m.profiles[0]) == set(shapes) if shapes else m.profiles == ()
    assert isinstance(m.extra["layers"], int)


def test_plans_are_those_of_the_vendors_bindings(paths: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings", reason="the peer is not installed")
    plans = {name: tmp_path / f"{name}.plan" for name in NAMES}
    shapes = {name: models.free_shapes(paths[name]) for name in NAMES}
    work = [(str(paths[name]), shapes[name], str(plans[name])) for name in NAMES]
    # Its package warns on stderr of what it cannot preload.
    peer = child.start(PEER, json.dumps(work))
    _, errors = peer.communicate(timeout=300)
    assert peer.returncode == 0, errors
    for name in NAMES:
        engine = zl.build(paths[name], shapes=shapes[name], cache=False)
        assert_same_plan(engine.plan, plans[name].read_bytes(), name)


def test_bytes_and_file_give_the_same_plan(paths: dict[str, Path]) -> None:
    path = paths["digits_cnn"]
    shapes = models.free_shapes(path)
    first = zl.build(path, shapes=shapes, cache=False)
    for given in (path, path.read_bytes(), bytearray(path.read_bytes())):
        for isolate in (True, False):
            other = zl.build(given, shapes=shapes, cache=False, isolate=isolate)
            assert_same_plan(other.plan, first.plan, f"{type(given)}, {isolate}")


@pytest.mark.parametrize("isolate", [True, False])
def test_external_data(isolate: bool, tmp_path: Path) -> None:
    weight = onnx.numpy_helper.from_array(np.arange(3000, dtype=np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"], name="add")
    inputs, outputs = [models.tensor("x", [2, 3000])], [models.tensor("y", [2, 3000])]
    made = models.model([node], inputs, outputs, (weight,))
    whole = zl.build(made.SerializeToString(), cache=False, isolate=isolate)
    path = tmp_path / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    beside = zl.build(path, cache=False, isolate=isolate)
    content = path.read_bytes()
    assert len(content) < 1000
    given = zl.build(content, folder=tmp_path, cache=False, isolate=isolate)
    assert whole.plan.nbytes == beside.plan.nbytes == given.plan.nbytes > 12_000
    data = np.arange(3000, dtype=np.float32).tobytes()
    assert all(data in bytes(engine.plan) for engine in (whole, beside, given))
    digest = hashlib.sha256((tmp_path / "w.bin").read_bytes()).hexdigest()
    assert beside.manifest.external_data == given.manifest.external_data == {"w.bin": digest}


def test_external_data_in_another_precision(tmp_path: Path) -> None:
    made = small.matmul_chain(1, 32)
    content = made.SerializeToString()  # saving takes the weights out of it
    path = tmp_path / "model.onnx"
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    shapes = {"x": (2, 32)}
    fields: Any = {"shapes": shapes, "precision": "fp16", "cache": False}
    whole = zl.build(content, **fields)
    assert zl.build(path, **fields).plan.nbytes == whole.plan.nbytes
    assert zl.build(path.read_bytes(), folder=tmp_path, **fields).plan.nbytes == whole.plan.nbytes


@pytest.mark.parametrize("isolate", [True, False])
def test_what_the_model_says_of_itself(isolate: bool, tmp_path: Path) -> None:
    """It travels in the manifest, so that a session of the engine file alone can tell it."""
    made = onnx.load_from_string(models.relu())
    made.producer_name, made.domain, made.doc_string = "maker", "org.example", "über"
    made.model_version, made.graph.name = 7, "graph of one"
    made.metadata_props.add(key="labels", value="a,b")
    content = made.SerializeToString()
    for given in (content, tmp_path / "model.onnx"):
        (tmp_path / "model.onnx").write_bytes(content)
        zl.build(given, cache=False, isolate=isolate).save(tmp_path / "a.engine")
        told = zl.Engine.read(tmp_path / "a.engine").manifest.extra["metadata"]
        assert told == {
            "producer": "maker",
            "graph_name": "graph of one",
            "domain": "org.example",
            "description": "über",
            "version": 7,
            "custom": {"labels": "a,b"},
        }


@pytest.mark.parametrize("isolate", [True, False])
def test_data_that_changes_during_a_build_of_bytes(isolate: bool, tmp_path: Path) -> None:
    """An engine of which nobody knows the weights is not kept."""
    weight = onnx.numpy_helper.from_array(np.arange(3000, dtype=np.float32), "w")
    node = onnx.helper.make_node("Add", ["x", "w"], ["y"], name="add")
    inputs, outputs = [models.tensor("x", [2, 3000])], [models.tensor("y", [2, 3000])]
    onnx.save(
        models.model([node], inputs, outputs, (weight,)),
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    content = (tmp_path / "model.onnx").read_bytes()

    def build(change: bool) -> bool:
        def tell(done: float, doing: str) -> None:
            if change:
                (tmp_path / "w.bin").write_bytes(np.full(3000, 2, np.float32).tobytes())

        job = zl.Build(content, folder=tmp_path, isolate=isolate, progress=tell)
        job.run()
        return job.from_cache

    assert [build(True), build(False), build(False)] == [False, False, True]


def test_several_profiles() -> None:
    content = models.relu("n")
    one = zl.build(content, shapes={"x": ((1, 3), (2, 3), (4, 3))}, cache=False)
    two = zl.build(content, profiles=[{"x": (1, 3)}, {"x": ((2, 3), (4, 3), (8, 3))}], cache=False)
    assert len(one.manifest.profiles) == 1
    assert two.manifest.profiles[1] == {"x": ((2, 3), (4, 3), (8, 3))}
    assert two.plan.nbytes > one.plan.nbytes
    assert two.manifest.inputs[0].shape == ("n", 3)


CHANGING = (
    {"compute_capabilities": ["8.9"]},
    {"compute_capabilities": ["8.9", "12.0"]},
    {"profiling_verbosity": "detailed"},
)
# With weights, TensorRT-RTX makes a refittable engine only where there is a GPU.
ACCEPTED = (
    {"refit": True},
    {"strip_weights": True},
    {"optimization_level": 0},
    {"optimization_level": 5},
    {"memory_pools": {"workspace": 2**20, "tactic_shared_memory": 2**16}},
    {"refit": "identical"},
    {"refit": "individual"},
    {"weight_streaming": True},
    {"sparse_weights": True},
    {"tf32": False},
    {"strict_nans": True},
    {"direct_io": True},
    {"debug": True},
    {"tiling_level": 2},
    {"avg_timing_iterations": 4},
    {"max_aux_streams": 2},
)


@pytest.mark.parametrize("option", CHANGING, ids=str)
def test_options_that_change_the_plan(option: Any, paths: dict[str, Path]) -> None:
    shapes = models.free_shapes(paths["digits_cnn"])
    plain = zl.build(paths["digits_cnn"], shapes=shapes)
    other = zl.build(paths["digits_cnn"], shapes=shapes, **option)
    assert bytes(other.plan) != bytes(plain.plan)
    assert other.manifest.key != plain.manifest.key


@pytest.mark.parametrize("option", ACCEPTED, ids=str)
def test_options_that_the_library_takes(option: Any) -> None:
    assert zl.build(models.relu(), cache=False, **option).plan.nbytes > 10_000


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"hardware_compatibility": "ampere+"}, zl.Unsupported),
        ({"version_compatible": True}, zl.Error),
        ({"memory_pools": {"dla_managed_sram": 2**20}}, zl.InvalidArgument),
    ],
    ids=str,
)
@pytest.mark.parametrize("isolate", [True, False])
def test_options_that_the_library_refuses(
    option: Any, error: type[zl.Error], isolate: bool
) -> None:
    with pytest.raises(error) as caught:
        zl.build(models.relu(), cache=False, isolate=isolate, **option)
    assert not isinstance(caught.value, zl.InternalError | zl.BackendCrashed)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # of accuracy, which is the pass's own subject
def test_precision(precision: str, paths: dict[str, Path]) -> None:
    path = paths["line_ctc"]
    shapes = models.free_shapes(path)
    typed = zl.build(path, shapes=shapes, cache=False)
    narrow = zl.build(path, shapes=shapes, precision=precision, cache=False)
    custom = narrow.manifest.extra["metadata"]["custom"]  # type: ignore[index]
    assert [step.step for step in read_steps(custom)] == [precision]
    assert narrow.manifest.precision == precision
    assert narrow.manifest.model_digest == typed.manifest.model_digest
    assert narrow.manifest.inputs[0].dtype == "float32", "inputs keep their types"
    assert narrow.manifest.key != typed.manifest.key
    assert bytes(narrow.plan) != bytes(typed.plan)
    if precision == "fp16":
        assert narrow.plan.nbytes < typed.plan.nbytes, "half the weights"


@pytest.mark.parametrize("isolate", [True, False])
def test_messages_reach_logging(isolate: bool, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(1, "zerolane"):
        zl.build(models.light_path("light_squeezenet"), cache=False, isolate=isolate)
        assert "Parsing node" not in caplog.text
        caplog.clear()
        path = models.light_path("light_squeezenet")
        zl.build(path, cache=False, isolate=isolate, log_level="verbose")
    said = [record.getMessage() for record in caplog.records]
    assert sum("Parsing node" in text for text in said) == len(onnx.load(path).graph.node)
    assert not any("dropped" in text for text in said)
    assert {record.name for record in caplog.records} == {"zerolane.tensorrt-rtx"}


def test_nothing_on_stderr_without_logging() -> None:
    code = """
    import sys, zerolane as zl
    for isolate in (True, False):
        zl.build(sys.argv[1], cache=False, isolate=isolate, log_level="verbose", progress=True)
    """
    child.run(code, models.light_path("light_squeezenet"))


@pytest.mark.parametrize("isolate", [True, False])
def test_progress(isolate: bool, cache_folder: Path) -> None:
    path = models.light_path("light_resnet50")
    told: list[tuple[float, str]] = []

    def tell(done: float, doing: str) -> None:
        told.append((done, doing))

    zl.build(path, isolate=isolate, progress=tell, optimization_level=1)
    fractions = [done for done, _ in told]
    assert len(told) > 2
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert any("Building engine" in text or "Determining" in text for _, text in told)
    assert not any(" of about " in text for _, text in told), "nothing is known of it yet"
    told.clear()
    zl.build(path, isolate=isolate, progress=tell, optimization_level=2)
    assert all(" of about " in text for _, text in told[:-1]), "the build before is a forecast"
    assert list(cache_folder.rglob("*.partial")) == []


def test_a_callback_that_fails() -> None:
    class Broken(Exception):
        pass

    def tell(done: float, doing: str) -> None:
        raise Broken

    for isolate in (True, False):
        with pytest.raises(Broken):
            zl.build(
                models.light_path("light_resnet50"), cache=False, isolate=isolate, progress=tell
            )


def test_the_cache(cache_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "zerolane")
    first = zl.Build(models.relu())
    engine = first.run()
    again = zl.Build(models.relu())
    assert bytes(again.run().plan) == bytes(engine.plan)
    assert (first.from_cache, again.from_cache) == (False, True)
    other = zl.Build(models.relu(), optimization_level=1)
    assert "cache" not in caplog.text
    other.run()
    assert not other.from_cache
    assert (
        f"the nearest engine, {engine.manifest.key[:12]}: flags.optimization_level" in caplog.text
    )
    assert len(list(cache_folder.rglob("*.engine"))) == 2
    path = cache_folder / "saved.engine"
    engine.save(path)
    assert zl.Engine.read(path).manifest == engine.manifest


def test_import_costs_nothing() -> None:
    child.run(
        "import sys, zerolane.builder; assert 'numpy' not in sys.modules; "
        "assert 'zerolane._native' not in sys.modules"
    )


def test_the_native_plan_owns_its_memory() -> None:
    from zerolane.builder.options import BuildOptions
    from zerolane.builder.request import find_library, native_options

    built = _native.build_engine(
        find_library("tensorrt-rtx").path,
        "model",
        None,
        models.relu(),
        native_options(BuildOptions(), ()),
        None,
        None,
        None,
    )
    view = memoryview(built.pop("plan"))
    del built
    assert view.readonly
    assert bytes(view[:4]) == b"vtrt"
    assert sys.getrefcount(view.obj) >= 1


def test_log_levels_do_not_stick(caplog: pytest.LogCaptureFixture) -> None:
    """In this process the library has one logger: what one build asked for ends with it."""
    zl.build(models.relu(), cache=False, isolate=False, log_level="verbose")
    with caplog.at_level(logging.DEBUG, "zerolane"):
        zl.build(models.relu(), cache=False, isolate=False)
    assert caplog.records == []
