"""What pipelines compute, against the same steps one by one."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="models are built with onnx")
pytest.importorskip("onnxruntime", reason="models run in ONNX Runtime")

import zerolane as zl
from tests.pipeline.parts import (
    cases,
    confident,
    digits_in_scenes,
    load,
    tiny,
)
from zerolane import _native

RNG = np.random.default_rng(5)


def normal(*shape: int) -> NDArray[np.float32]:
    return RNG.standard_normal(shape, dtype=np.float32)


class Row(NamedTuple):
    """A pipeline, what it is given, and the same steps by hand."""

    make: Callable[[], zl.Pipeline]
    inputs: list[dict[str, NDArray[Any]]]
    steps: Callable[..., dict[str, Any]]


def model_then_op() -> Row:
    model, op = load("digits_cnn"), zl.ops.SoftmaxTopK(k=3)

    def steps(image: NDArray[Any]) -> dict[str, Any]:
        return op(model(image))._asdict()  # type: ignore[no-any-return]

    images = [{"image": normal(n, 1, 8, 8)} for n in (1, 3, 7, 3, 0)]
    return Row(lambda: zl.Pipeline([model, op]), images, steps)


def op_then_model() -> Row:
    op = zl.ops.Letterbox(size=8)
    model = load("digits_cnn")

    def steps(image: NDArray[Any]) -> dict[str, Any]:
        return {"logits": model(op(image).planes)}

    pictures = [
        {"image": RNG.integers(0, 256, shape, dtype=np.uint8)}
        for shape in ((5, 7, 1), (31, 4, 1), (2, 9, 9, 1), (5, 7, 1))
    ]
    return Row(lambda: zl.Pipeline([op, model]), pictures, steps)


def ensemble() -> Row:
    mlp, cnn = load("digits_mlp"), load("digits_cnn")

    def vote(a: NDArray[Any], b: NDArray[Any]) -> Any:
        return (a + b) / 2

    def make() -> zl.Pipeline:
        return zl.Pipeline(
            [
                zl.Stage(mlp, inputs={"image": "image"}, outputs={"logits": "one"}),
                zl.Stage(cnn, inputs={"image": "image"}, outputs={"logits": "two"}),
                zl.Stage(vote, inputs={"a": "one", "b": "two"}, outputs=["mean"]),
            ]
        )

    def steps(image: NDArray[Any]) -> dict[str, Any]:
        return {"mean": vote(mlp(image), cnn(image))}

    return Row(make, [{"image": normal(n, 1, 8, 8)} for n in (2, 5, 0, 2)], steps)


def crops() -> Row:
    detect, classify = load("digit_det"), load("digits_cnn")
    crop = zl.ops.RoiAlign(output_height=8, output_width=8)

    def steps(image: NDArray[Any]) -> dict[str, Any]:
        found = detect(image)
        rois, picture = confident(image, found.boxes, found.scores)
        return {"rois": rois, "picture": picture, "logits": classify(crop(image, rois, picture))}

    scenes = cases("digit_det")["image"]
    empty = np.zeros((2, 1, 48, 64), np.float32)
    given = [scenes, scenes[:1], empty, scenes[2:], empty, scenes]
    return Row(digits_in_scenes, [{"image": image} for image in given], steps)


def nested() -> Row:
    a, b = tiny("relu", ("N", 4)), tiny("identity", "float32", ("N", 4))
    inner = zl.Pipeline([a, lambda y: y - 1], name="inner")

    def steps(x: NDArray[Any]) -> dict[str, Any]:
        return {"y": b(a(x) - 1)}

    make = lambda: zl.Pipeline([inner, b])  # noqa: E731
    return Row(make, [{"x": normal(n, 4)} for n in (3, 1, 5000, 0)], steps)


def data_decides() -> Row:
    where, back = tiny("nonzero"), tiny("cast", "int64", "float32", (1, "K"))

    def steps(x: NDArray[Any]) -> dict[str, Any]:
        return {"y": back(where(x))}

    rows = [[1, 0, 2], [0, 0, 0], [1, 2, 3], [0, 0, 4], [4, 0, 0]]
    given = [{"x": np.array(row, np.float32)} for row in rows]
    return Row(lambda: zl.Pipeline([where, back]), given, steps)


def sequences() -> Row:
    split, join = tiny("sequence_output"), tiny("sequence_input")
    given = [{"x": normal(n, 2)} for n in (3, 1, 4)]
    return Row(lambda: zl.Pipeline([split, join]), given, lambda x: {"y": x})


ROWS = [model_then_op, op_then_model, ensemble, crops, nested, data_decides, sequences]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.__name__)
@pytest.mark.parametrize("form", ["call", "dict", "run", "submit", "arun", "bind"])
def test_as_the_steps_one_by_one(row: Callable[[], Row], form: str) -> None:
    made = row()
    pipeline = made.make()
    for inputs in made.inputs:
        expected = made.steps(**inputs)
        names = [spec.name for spec in pipeline.outputs]
        assert names == list(expected)
        if form == "call":
            given = pipeline(*inputs.values())
            found = {names[0]: given} if len(names) == 1 else dict(zip(names, given, strict=True))
        elif form == "dict":
            found = pipeline(inputs)
        elif form == "run":
            found = pipeline.run(inputs)
        elif form == "submit":
            found = pipeline.submit(inputs).result()
        elif form == "arun":
            found = asyncio.run(pipeline.arun(inputs))
        else:
            found = dict(pipeline.bind(*inputs.values())())
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, rtol=1e-6, atol=1e-6, strict=True)


def test_a_binding_follows_what_its_inputs_hold() -> None:
    pipeline = digits_in_scenes()
    scenes = cases("digit_det")["image"]
    binding = pipeline.bind(image=scenes.shape)
    for image in (scenes, np.zeros_like(scenes), scenes[::-1]):
        binding.inputs["image"][...] = image
        found = binding()
        expected = pipeline({"image": image})
        for name in ("rois", "picture", "logits"):
            np.testing.assert_allclose(found[name], expected[name], strict=True)


def test_specs_are_those_of_the_whole() -> None:
    pipeline = digits_in_scenes()
    assert [(s.name, s.dtype, s.shape) for s in pipeline.inputs] == [
        ("image", "float32", ("N", 1, "H", "W"))
    ]
    assert [(s.name, s.dtype, s.shape) for s in pipeline.outputs] == [
        ("rois", "float32", ("crops", 4)),
        ("picture", "int64", ("crops",)),
        ("logits", "float32", ("crops", 10)),
    ]
    assert pipeline.stages == ("detect", "select", "crop", "classify")
    assert list(pipeline.why) == list(pipeline.stages)
    assert pipeline.backend == "onnxruntime, python, op"
    assert "select (python)" in repr(pipeline)


def test_memory_of_the_caller_is_used_in_place() -> None:
    pipeline = zl.Pipeline([tiny("relu", ("N",)), tiny("identity")])
    x, y = normal(2000), np.empty(2000, np.float32)
    assert pipeline.run({"x": x}, out={"y": y})["y"] is y
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    binding = pipeline.bind(x, out={"y": y})
    binding()
    assert binding.outputs["y"] is y


def test_only_some_outputs() -> None:
    calls = []

    def watch(x: NDArray[Any]) -> NDArray[Any]:
        calls.append(1)
        return x

    relu = tiny("relu", ("N",))
    pipeline = zl.Pipeline(
        [relu, zl.Stage(watch, inputs=["y"], outputs=["seen"])], outputs=["y", "seen"]
    )
    x = normal(3)
    assert list(pipeline.run({"x": x}, outputs=["y"])) == ["y"]
    assert calls == []
    assert list(pipeline(x)._fields) == ["y", "seen"]
    assert calls == [1]


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    pipeline = zl.Pipeline([tiny("relu", ("N",)), zl.ops.ScaledGelu()])
    y = pipeline(torch.ones(5))
    assert isinstance(y, torch.Tensor)
    assert y.shape == (5,)


@pytest.mark.parametrize("python", [False, True])
def test_many_threads_on_one_pipeline(python: bool) -> None:
    stages: list[Any] = [tiny("relu", ("N", 4)), zl.ops.ScaledGelu()]
    if python:
        stages.insert(1, lambda y: y * 2)
    pipeline = zl.Pipeline(stages)
    wrong = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            x = rng.standard_normal((int(rng.integers(0, 40)), 4), dtype=np.float32)
            y = np.maximum(x, 0) * (2 if python else 1)
            if not np.array_equal(pipeline(x), zl.ops.ScaledGelu()(y)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [stage.count for stage in pipeline.stats().stages] == [360] * len(stages)


def test_a_future_outlives_its_pipeline() -> None:
    before = _native.live_objects()
    futures = [
        zl.Pipeline([tiny("relu", ("N",)), lambda y: y + 1]).submit(normal(3000)) for _ in range(4)
    ]
    gc.collect()
    for future in futures:
        assert (future.result() >= 1).all()
    del future, futures
    gc.collect()
    after = _native.live_objects()
    assert after["sessions"] <= before["sessions"]


def test_cancelled_and_late_between_its_stages() -> None:
    entered, go_on = threading.Event(), threading.Event()
    after = []

    def last(wait: NDArray[Any]) -> NDArray[Any]:
        after.append(1)
        return wait

    def wait(y: NDArray[Any]) -> NDArray[Any]:
        entered.set()
        go_on.wait(60)
        return y

    pipeline = zl.Pipeline([tiny("relu", ("N",)), wait, last])
    x = normal(3)
    future = pipeline.submit(x)
    entered.wait(60)
    assert future.cancel()
    go_on.set()
    with pytest.raises(zl.Cancelled):
        future.result()
    assert after == []
    go_on.clear()
    with pytest.raises(zl.DeadlineExceeded):
        pipeline.run({"x": x}, deadline_ms=1e-3)
    go_on.set()
    np.testing.assert_array_equal(pipeline(x), np.maximum(x, 0))


def test_a_deadline_ends_the_model_that_runs() -> None:
    pipeline = zl.Pipeline(
        [
            zl.Stage(tiny("identity", "float32", (64, 64)), inputs=["start"]),
            zl.Stage(tiny("long_loop", 64), inputs={"steps": "steps", "x": "y"}, outputs=["end"]),
        ],
        outputs=["end"],
    )
    x = normal(64, 64)
    given = {"start": x, "steps": np.array(10**7)}
    with pytest.raises(zl.DeadlineExceeded):
        pipeline.run(given, deadline_ms=20)
    found = pipeline.run(given | {"steps": np.array(2)})["end"]
    np.testing.assert_allclose(found, np.roll(x, 2, axis=-1))


def test_stats_and_trace_show_each_stage(tmp_path: Path) -> None:
    pipeline = zl.Pipeline(
        [tiny("relu", ("N",)), zl.ops.ScaledGelu(), zl.Stage(lambda y: y, name="last")], name="p"
    )
    for _ in range(3):
        pipeline(normal(5))
    stats = pipeline.stats()
    assert [(s.name, s.kind, s.count) for s in stats.stages] == [
        (pipeline.stages[0], "session", 3),
        ("ScaledGelu", "op", 3),
        ("last", "python", 3),
    ]
    assert sum(s.share for s in stats.stages) == pytest.approx(1)
    assert stats["last"].p50_us > 0
    assert "last (python)" in str(stats)
    json.dumps(stats.as_dict())
    with zl.trace(tmp_path / "t.json"):
        pipeline(normal(5))
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    stages = [event for event in events if event["name"] == "stage"]
    subjects = [event["args"]["subject"] for event in stages]
    assert subjects == [f"p/{pipeline.stages[0]}", "p/ScaledGelu", "p/last (python)"]
    (whole,) = [event for event in events if event["name"] == "pipeline"]
    for event in stages:
        assert whole["ts"] <= event["ts"]
        assert event["ts"] + event["dur"] <= whole["ts"] + whole["dur"] + 0.01


def test_an_op_made_in_python_is_a_stage() -> None:
    @zl.op("pipeline_tests::Halve")
    def halve(
        x: Annotated[NDArray[Any], "float32[..., N]"],
    ) -> Annotated[NDArray[Any], "float32[..., N]"]:
        return x / 2

    pipeline = zl.Pipeline([tiny("relu", ("N",)), zl.ops.Op("pipeline_tests::Halve")])
    assert pipeline.outputs[0].shape == ("N",)
    for size in (3, 0, 3000):
        x = normal(size)
        np.testing.assert_array_equal(pipeline(x), np.maximum(x, 0) / 2)


def test_measured_like_a_session() -> None:
    pipeline = zl.Pipeline([load("digits_mlp"), zl.ops.SoftmaxTopK(k=2)])
    assert zl.bench(pipeline, calls=20, warmup=2).calls >= 20
    assert zl.bench(pipeline, calls=20, warmup=2, mode="run").model == "pipeline"
    with pytest.raises(zl.Unsupported):
        pipeline.engine_facts()


def test_pickled_where_its_stages_can_be() -> None:
    pipeline = zl.Pipeline([load("digits_mlp"), np.exp, zl.ops.ScaledGelu(alpha=2.0)], name="q")
    again = pickle.loads(pickle.dumps(pipeline))
    x = normal(2, 1, 8, 8)
    np.testing.assert_array_equal(again(x), pipeline(x))
    assert (again.name, again.stages) == (pipeline.name, pipeline.stages)
    with pytest.raises(TypeError, match="its Python stage 'python' cannot be pickled"):
        pickle.dumps(zl.Pipeline([load("digits_mlp"), lambda y: y]))
