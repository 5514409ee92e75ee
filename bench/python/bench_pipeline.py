# SPDX-License-Identifier: Apache-2.0
"""A picture service as a pipeline: JPEG decode, letterbox, a CNN, the five best classes.

The decode is OpenCV's, as a Python stage; the CNN is onnx's light squeezenet with random weights
and its softmax taken off, as the top-5 makes it. Beside it the same steps one by one in Python with
OpenCV, NumPy and onnxruntime, with one caller and with two, each with one thread inside the CNN.

**The floor** is what the stages take, on as many threads as there are callers. "By itself": each
stage is called in a loop of its own, where it finds its weights and its input in the caches; the
floor is the sum of these. "In turn": all are called one after the other, on inputs of their own and
with nothing handed on; what the stages take there, they take in any program that calls them in
turn. Frames a second are callers divided by the time.

Then what a stage costs around its work: pipelines of one and of nine tiny stages, bound; the
difference by stage, and that less the bare C loop of such a model.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import models, settings
from bench.python.bench_ops_image import photograph
from bench.results import Check, Report, Series, ratio_check
from bench.rivals import all_drivers
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, paired_ratio, summarize
from bench.timing import Plan, interleave

NAME = "pipeline"
TITLE = "JPEG to the five best classes; what a stage costs"
SIDE = 224
FRAMES = 12  # a block of one caller
LONG = 9  # tiny stages

Array = NDArray[Any]
Step = Callable[[], object]


def classifier(folder: Path) -> Path:
    """The light squeezenet with random weights, from its input to the logits [1, 1000].

    Its own weights are all alike and are made by nodes at each load, which hides them from those
    who rewrite graphs, zerolane among them; a trained model holds them as initializers.
    """
    import onnx
    from onnx import helper, numpy_helper

    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(source / "light_squeezenet.onnx")
    graph = model.graph
    rng = np.random.default_rng(0)
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    made = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    kept = [node for node in graph.node if node.op_type != "ConstantOfShape"]
    assert kept[-1].op_type == "Softmax", "the light squeezenet ends otherwise"
    kept[-1] = helper.make_node("Flatten", [kept[-1].input[0]], ["logits"], axis=1)
    weights = []
    for node in made:
        shape = shapes[node.input[0]]
        values = rng.standard_normal(shape) * (2 / max(1, np.prod(shape[1:]))) ** 0.5
        weights.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
    names = {name for node in made for name in node.input}
    inputs = [value for value in graph.input if value.name not in names]
    weights += [t for t in graph.initializer if t.name not in names]
    outputs = [helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 1000])]
    held = {t.name for t in weights}
    inputs = [value for value in inputs if value.name not in held]
    whole = helper.make_graph(kept, "squeezenet", inputs, outputs, weights)
    opsets = [helper.make_opsetid("", 9)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "squeezenet_random.onnx"
    onnx.save(helper.make_model(whole, ir_version=8, opset_imports=opsets), path)
    return path


def decode(jpeg: Array) -> Array:
    import cv2

    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_COLOR))


class Rival:
    """The steps one by one, as a Python service has them."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        providers = ["CPUExecutionProvider"]
        self.session = onnxruntime.InferenceSession(str(path), options, providers)
        self.input = self.session.get_inputs()[0].name

    def planes(self, image: Array) -> Array:
        import cv2

        height, width = image.shape[:2]
        scale = min(SIDE / height, SIDE / width)
        inner = (round(width * scale), round(height * scale))
        small = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
        top, left = (SIDE - inner[1]) // 2, (SIDE - inner[0]) // 2
        boxed = cv2.copyMakeBorder(
            small,
            *(top, SIDE - inner[1] - top, left, SIDE - inner[0] - left),
            cv2.BORDER_CONSTANT,
            value=(114, 114, 114),
        )
        planes = boxed[:, :, ::-1].astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(planes.transpose(2, 0, 1))[None]

    def __call__(self, jpeg: Array) -> tuple[Array, Array]:
        feed = {self.input: self.planes(decode(jpeg))}
        logits: Array = self.session.run(None, feed)[0][0]
        best = np.argpartition(logits, -5)[-5:]
        best = best[np.argsort(-logits[best])]
        shifted = np.exp(logits - logits.max())
        return (shifted / shifted.sum())[best], best


def on_threads(steps: Sequence[Step], count: int) -> float:
    """Nanoseconds a call: the mean of the threads, which start together and call as often."""
    if len(steps) == 1:
        start = perf_counter_ns()
        for _ in range(count):
            steps[0]()
        return (perf_counter_ns() - start) / count
    ends = [0] * len(steps)
    ready = threading.Barrier(len(steps) + 1)

    def work(index: int, step: Step) -> None:
        ready.wait()
        for _ in range(count):
            step()
        ends[index] = perf_counter_ns()

    threads = [threading.Thread(target=work, args=item) for item in enumerate(steps)]
    for thread in threads:
        thread.start()
    ready.wait()
    start = perf_counter_ns()
    for thread in threads:
        thread.join()
    return (float(np.mean(ends)) - start) / count


def frames(report: Report, options: Settings) -> None:
    """Frames a second of the pipeline, of its floor and of the rival, with one caller and two."""
    import cv2

    import zerolane as zl

    cv2.setNumThreads(1)
    path = classifier(settings.BUILD_FOLDER / "models")
    encoded, jpeg = cv2.imencode(".jpg", cv2.resize(photograph(), (640, 427)))
    assert encoded, "OpenCV encoded no JPEG"
    jpeg = np.ascontiguousarray(jpeg.reshape(-1))
    letterbox = zl.ops.Letterbox(size=[SIDE, SIDE], swap_red_blue=True)
    model, best = zl.load(path, threads=1), zl.ops.SoftmaxTopK(k=5)
    pipeline = zl.Pipeline(
        [zl.Stage(decode, name="decode"), letterbox, model, best], inputs={"jpeg": "uint8"}
    )
    rival = Rival(path)
    report.settings |= {"picture": "640 x 427", "jpeg_bytes": jpeg.nbytes, "side": SIDE}

    image = decode(jpeg)
    planes = letterbox(image)[0]
    # Two ways of rounding to uint8.
    np.testing.assert_allclose(planes, rival.planes(image), atol=1.01 / 255)
    logits = rival.session.run(None, {rival.input: planes})[0]
    np.testing.assert_array_equal(best(logits).indices, pipeline(jpeg).indices)

    def bound_model() -> Step:
        # Bound to memory as in the pipeline; one for each caller.
        return model.bind(planes.copy())

    def bound_op(op: Any, array: Array) -> Step:
        return zl.Pipeline([op]).bind(array)

    stages: dict[str, Callable[[], Step]] = {
        "decode": lambda: lambda: decode(jpeg),
        "letterbox": lambda: bound_op(letterbox, image),
        "squeezenet": bound_model,
        "top-5": lambda: bound_op(best, model(planes)),
    }
    rounds = 9 if options.quick else 40
    for callers in (1, 2):
        subject = f"{callers} caller{'s' if callers > 1 else ''}"
        progress(f"{NAME}: {subject}, {rounds} rounds")
        contestants: dict[str, list[Step]] = {
            "zerolane.pipeline": [lambda: pipeline(jpeg)] * callers,
            "sequential Python": [lambda: rival(jpeg)] * callers,
        }
        contestants |= {name: [make() for _ in range(callers)] for name, make in stages.items()}
        steps = [[contestants[name][i] for name in stages] for i in range(callers)]
        contestants["stages in turn"] = [in_turn(mine) for mine in steps]
        times = rounds_of(contestants, rounds)
        floor = list(np.sum([times[name] for name in stages], axis=0))
        ours, theirs = times["zerolane.pipeline"], times["sequential Python"]
        turns = times["stages in turn"]
        report.checks += [
            Check("pipeline", subject, rate(callers, ours), "frames/s"),
            Check("sequential Python", subject, rate(callers, theirs), "frames/s"),
            Check("floor, each stage by itself", subject, rate(callers, floor), "frames/s"),
            Check("floor, stages in turn", subject, rate(callers, turns), "frames/s"),
            ratio_check(
                "pipeline / floor by itself", subject, paired_ratio(floor, ours), 0.95, ">="
            ),
            ratio_check("pipeline / floor in turn", subject, paired_ratio(turns, ours), 0.95, ">="),
            ratio_check("in turn / by itself", subject, paired_ratio(floor, turns), None, ">="),
            ratio_check(
                "pipeline / sequential Python", subject, paired_ratio(theirs, ours), None, ">="
            ),
        ]
        for name, samples in times.items():
            us = [ns / 1000 for ns in samples]
            report.series.append(Series(subject, name, "us", summarize(us).as_dict(), curve(us)))
    for stage in pipeline.stats().stages:
        note = f"of {stage.count} calls, with one caller and with two"
        report.checks.append(
            Check(f"stage {stage.name}", stage.kind, stage.p50_us, "us", note=note)
        )


def in_turn(steps: Sequence[Step]) -> Step:
    def call() -> None:
        for step in steps:
            step()

    return call


def rate(callers: int, nanoseconds: Sequence[float]) -> float:
    return callers * 1e9 / float(np.median(nanoseconds))


def rounds_of(contestants: dict[str, list[Step]], rounds: int) -> dict[str, list[float]]:
    """Blocks in turn, each round beginning with the next. Short steps are called more often."""
    counts: dict[str, int] = {}
    for name, steps in contestants.items():
        on_threads(steps, 2)
        ns = on_threads(steps, 3)
        counts[name] = max(FRAMES, min(2000, int(2e7 / ns)))
    order = list(contestants)
    times: dict[str, list[float]] = {name: [] for name in order}
    for r in range(rounds):
        first = r % len(order)
        for name in (*order[first:], *order[:first]):
            times[name].append(on_threads(contestants[name], counts[name]))
    return times


def tiny(report: Report, options: Settings) -> None:
    """What a stage costs: bound pipelines of one and of nine stages with next to no work."""
    import zerolane as zl

    case = models.one_operator(settings.BUILD_FOLDER / "models")
    x = case.inputs["x"]
    session, op = zl.load(case.path, threads=1), zl.ops.ScaledGelu()

    def chain(what: Any, count: int) -> Form:
        binding = zl.Pipeline([what] * count, gil="hold").bind(x)
        return Form(f"{count}", lambda: {"y": np.array(binding()["y"])}, binding)

    wanted = np.maximum(x, 0)
    bare = next(d for d in all_drivers() if d.name == "c").load(case.path, 1)
    loop = bare.form("loop", case.inputs, {"y": wanted})
    alone = session.bind(x, gil="hold")
    forms = [
        _named("1 session", chain(session, 1)),
        _named("9 sessions", chain(session, LONG)),
        _named("1 op", chain(op, 1)),
        _named("9 ops", chain(op, LONG)),
        _named("session.bind", Form("", lambda: {"y": np.array(alone()["y"])}, alone)),
        _named("c.loop", loop),
    ]
    progress(f"{NAME}: {len(forms)} bound forms of tiny stages")
    timings = interleave(forms, Plan.of(options.quick))
    blocks = {name: timing.blocks for name, timing in timings.items()}
    for name, timing in timings.items():
        summary = summarize(timing.blocks).as_dict()
        report.series.append(Series("tiny stages", name, "ns", summary, curve(timing.singles)))
    sessions = (blocks["9 sessions"] - blocks["1 session"]) / (LONG - 1)
    ops = (blocks["9 ops"] - blocks["1 op"]) / (LONG - 1)
    report.checks += [
        _of("a stage that is a one-operator model", sessions, "1 of 9"),
        _of("of it, beyond the bare C loop", sessions - blocks["c.loop"], "1 of 9"),
        _of("a stage that is an op on 4 floats", ops, "1 of 9"),
        _of("a pipeline of one session, beyond that session bound",
            blocks["1 session"] - blocks["session.bind"], "whole"),
    ]  # fmt: skip


def _named(name: str, form: Form) -> Form:
    return Form(name, form.outputs, form.fn, form.args, form.native)


def _of(measure: str, samples: Array, subject: str) -> Check:
    low, middle, high = np.percentile(samples, (25, 50, 75))
    return Check(measure, subject, float(middle), "ns", (float(low), float(high)))


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    frames(report, options)
    tiny(report, options)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
