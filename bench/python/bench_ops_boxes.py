# SPDX-License-Identifier: Apache-2.0
"""NonMaxSuppression and BoxDecode on one core, beside ONNX Runtime, NumPy, OpenCV and torch.

The scene is made up as a YOLO head of 640 x 640 pixels sees one: 8400 points of three grids, 80
classes, most scores tiny, and round each of 18 objects a cluster of boxes and scores. That all
select the same boxes is checked first. The floor is `copy`: memcpy of half as many bytes as a call
reads and writes, so that it moves as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import settings
from bench.environment import package_version
from bench.results import Check, Report, Series, ratio_check
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from bench.timing import Plan, Timing, interleave

NAME = "ops_boxes"
TITLE = "NonMaxSuppression and BoxDecode, one core, interleaved"
Floats = NDArray[np.float32]
SIZE, CLASSES, IOU, MOST = 640, 80, 0.45, 300

# (measure, time of, divided by the time of, target, how to compare)
SPARSE = (
    ("onnxruntime / zerolane", "onnxruntime", "zerolane", 2.5, ">="),
    ("NumPy / zerolane", "NumPy", "zerolane", 8, ">="),
    ("NMSBoxesBatched / zerolane", "NMSBoxesBatched", "zerolane", 8, ">="),
    ("zerolane / copy", "zerolane", "copy", None, "<="),
    ("zerolane fixed / copy", "zerolane fixed", "copy", None, "<="),
)
DENSE = (
    ("onnxruntime / zerolane", "onnxruntime", "zerolane", None, ">="),
    ("NumPy / zerolane", "NumPy", "zerolane", 30, ">="),
    ("NMSBoxesBatched / zerolane", "NMSBoxesBatched", "zerolane", 30, ">="),
)
DECODE = (
    ("NumPy / zerolane", "NumPy", "zerolane", None, ">="),
    ("torch / zerolane", "torch", "zerolane", None, ">="),
    ("zerolane / copy", "zerolane", "copy", None, "<="),
)
RATIOS: dict[str, tuple[tuple[str, str, str, float | None, str], ...]] = {
    "nms 0.25": SPARSE,
    "nms 0.001": DENSE,
    "decode distances": DECODE,
}


def grid() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The points [n, 2] of strides 8, 16 and 32, and their strides [n]."""
    points, strides = [], []
    for stride in (8, 16, 32):
        y, x = np.meshgrid(*(np.arange(SIZE // stride) + 0.5,) * 2, indexing="ij")
        points.append(np.stack([x.ravel(), y.ravel()], 1) * stride)
        strides.append(np.full(x.size, stride))
    return np.concatenate(points), np.concatenate(strides).astype(float)


def scene() -> tuple[Floats, Floats]:
    """Boxes [1, 8400, 4] as corners, scores [1, 80, 8400]."""
    rng = np.random.default_rng(0)
    points, strides = grid()
    logits = rng.normal(-9.5, 1.3, (CLASSES, len(points)))
    center = points + rng.normal(0, 0.5, points.shape) * strides[:, None]
    size = strides[:, None] * np.exp(rng.normal(1, 0.5, points.shape))
    boxes = np.concatenate([center - size / 2, center + size / 2], 1)
    for _ in range(18):
        size = np.exp(rng.uniform(np.log(24), np.log(320), 2))
        middle = rng.uniform(size / 4, SIZE - size / 4)
        away = np.abs((points - middle) / size).max(1)
        # A grid answers for objects of some six strides.
        level = np.abs(np.log2(strides * 6 / np.sqrt(size.prod())))
        near = np.flatnonzero((away < 0.5) & (level < 1.6))
        logit = rng.uniform(-0.5, 2.5) - 7 * away[near] - 2.5 * level[near]
        own, *alike = rng.integers(CLASSES, size=4)
        for class_id, less, noise in ((own, 0, 0.4), *((other, 4, 0.7) for other in alike)):
            own_logit = logit - less + rng.normal(0, noise, len(near))
            logits[class_id, near] = np.maximum(logits[class_id, near], own_logit)
        wide = np.concatenate([size, size])
        off = rng.normal(0, 0.02, (len(near), 4)) * wide * (1 + 4 * away[near, None])
        boxes[near] = np.concatenate([middle - size / 2, middle + size / 2]) + off
    scores = 1 / (1 + np.exp(-logits))
    return boxes.astype(np.float32)[None], scores.astype(np.float32)[None]


def by_numpy(boxes: Floats, scores: Floats, threshold: float) -> NDArray[np.int64]:
    """The usual code: class by class, the best one against all that are left."""
    rows = []
    for class_id in range(scores.shape[1]):
        index = np.flatnonzero(scores[0, class_id] > threshold)
        index = index[np.argsort(-scores[0, class_id, index], kind="stable")]
        x1, y1, x2, y2 = boxes[0, index].T
        area = (x2 - x1) * (y2 - y1)
        left = np.arange(len(index))
        for _ in range(MOST):
            if len(left) == 0:
                break
            i, left = left[0], left[1:]
            rows.append((0, class_id, index[i]))
            width = np.minimum(x2[i], x2[left]) - np.maximum(x1[i], x1[left])
            height = np.minimum(y2[i], y2[left]) - np.maximum(y1[i], y1[left])
            both = np.maximum(width, 0) * np.maximum(height, 0)
            left = left[both / (area[i] + area[left] - both) <= np.float32(IOU)]
    return np.array(rows, np.int64).reshape(-1, 3)


def by_opencv(boxes: Floats, scores: Floats, threshold: float) -> NDArray[np.int64]:
    """It takes a list of candidates, as x, y, width, height; and has no most of a class."""
    import cv2

    class_id, index = np.nonzero(scores[0] > threshold)
    candidates = boxes[0, index]
    candidates[:, 2:] -= candidates[:, :2]
    kept = cv2.dnn.NMSBoxesBatched(
        candidates, scores[0, class_id, index], class_id.astype(np.int32), threshold, IOU
    )
    kept = np.array(kept, np.int64).ravel()
    return np.stack([np.zeros_like(kept), class_id[kept], index[kept]], 1)


def by_onnxruntime(threshold: float) -> Callable[[Floats, Floats], NDArray[np.int64]]:
    import onnxruntime
    from onnx import TensorProto, helper

    numbers = {
        "most": (TensorProto.INT64, MOST),
        "iou": (TensorProto.FLOAT, IOU),
        "threshold": (TensorProto.FLOAT, threshold),
    }
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("NonMaxSuppression", ["boxes", "scores", *numbers], ["selected"])],
            "nms",
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 3)
                for name in ("boxes", "scores")
            ],
            [helper.make_tensor_value_info("selected", TensorProto.INT64, [None, 3])],
            [helper.make_tensor(name, kind, [1], [v]) for name, (kind, v) in numbers.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda boxes, scores: session.run(None, {"boxes": boxes, "scores": scores})[0]


def form(name: str, fn: Callable[[], Any]) -> Form:
    return Form(name, lambda: {"y": np.array(fn())}, fn)


def copy_of_half(moved: int) -> Form:
    source = np.zeros(moved // 2, np.uint8)
    target = np.zeros_like(source)
    return form("copy", lambda: np.copyto(target, source))


def suppressions(threshold: float) -> list[Form]:
    import zerolane as zl

    boxes, scores = scene()
    how: dict[str, Any] = {"iou_threshold": IOU, "score_threshold": threshold}
    indices = zl.ops.NonMaxSuppressionIndices(max_per_class=MOST, **how)
    fixed = zl.ops.NonMaxSuppression(max_total=MOST, **how)
    rival = by_onnxruntime(threshold)
    return [
        form("zerolane", lambda: indices(boxes, scores)),
        form("onnxruntime", lambda: rival(boxes, scores)),
        form("NumPy", lambda: by_numpy(boxes, scores, threshold)),
        form("NMSBoxesBatched", lambda: by_opencv(boxes, scores, threshold)),
        # The same boxes in another form; not compared.
        form("zerolane fixed", lambda: fixed(boxes, scores).counts),
        copy_of_half(scores.nbytes + boxes.nbytes),
    ]


def decodings() -> list[Form]:
    """[1, 64, 8400] logits of 16 bins for each of four distances to boxes."""
    import torch

    import zerolane as zl

    torch.set_num_threads(1)
    logits = np.random.default_rng(0).normal(0, 2, (1, 64, 8400)).astype(np.float32)
    ours = zl.ops.BoxDecode(image_size=[SIZE, SIZE], bins=16, layout="channels_first")
    points, strides = (a.astype(np.float32) for a in grid())
    bins = np.arange(16, dtype=np.float32)

    def with_numpy() -> Floats:
        x = logits.reshape(1, 4, 16, -1)
        power = np.exp(x - x.max(2, keepdims=True))
        sides = np.einsum("bskn,k->bns", power / power.sum(2, keepdims=True), bins)
        sides = sides * strides[:, None]
        return np.concatenate([points - sides[..., :2], points + sides[..., 2:]], -1)

    x, steps = torch.from_numpy(logits), torch.from_numpy(strides)[:, None]
    where, numbers = torch.from_numpy(points), torch.from_numpy(bins)

    def with_torch() -> Any:
        power = x.view(1, 4, 16, -1).softmax(2)
        sides = torch.einsum("bskn,k->bns", power, numbers) * steps
        return torch.cat([where - sides[..., :2], where + sides[..., 2:]], -1)

    return [
        form("zerolane", lambda: ours(logits)),
        form("NumPy", with_numpy),
        form("torch", with_torch),
        copy_of_half(logits.nbytes + 8400 * 16),
    ]


def check_same(subject: str, forms: list[Form], tolerance: float) -> None:
    """Refuses to compare the speed of different work."""

    def result(form: Form) -> NDArray[Any]:
        # OpenCV gives its boxes in an order of its own.
        y = form.outputs()["y"]
        return y[np.lexsort(y.T[::-1])] if y.shape[-1:] == (3,) else y

    wanted = result(forms[0])
    for other in forms[1:]:
        if other.name in ("copy", "zerolane fixed"):
            continue
        got = result(other)
        if got.shape != wanted.shape or np.abs(got - wanted).max(initial=0) > tolerance:
            raise ValueError(
                f"comparing {subject}: {other.name} made {got.shape} and zerolane {wanted.shape}, "
                f"expected the same within {tolerance}; look at its arguments"
            )


def series_of(subject: str, timings: dict[str, Timing]) -> list[Series]:
    return [
        Series(subject, name, "ns", summarize(timing.blocks).as_dict(), curve(timing.blocks))
        for name, timing in timings.items()
    ]


def checks_of(subject: str, timings: dict[str, Timing]) -> list[Check]:
    return [
        ratio_check(measure, subject, timings[top].over(timings[bottom]), target, compare)
        for measure, top, bottom, target, compare in RATIOS[subject]
    ]


def run(options: Settings) -> Report:
    import cv2

    cv2.setNumThreads(1)
    report = Report(NAME, TITLE, options.as_dict())
    rounds = 12 if options.quick else 60
    subjects: dict[str, tuple[Callable[[], list[Form]], int, float]] = {
        "nms 0.25": (lambda: suppressions(0.25), rounds, 0),
        # A call of OpenCV takes most of a second.
        "nms 0.001": (lambda: suppressions(0.001), rounds // 6, 0),
        "decode distances": (decodings, rounds, 1e-2),
    }
    for subject, (make, turns, tolerance) in subjects.items():
        progress(f"{NAME}: {subject}")
        forms = make()
        check_same(subject, forms, tolerance)
        plan = Plan(rounds=turns, batches=3, singles_us=0)
        timings = interleave(forms, plan)
        report.series += series_of(subject, timings)
        report.checks += checks_of(subject, timings)
    packages = ("onnxruntime", "numpy", "opencv-python-headless", "torch")
    report.settings |= {"rounds": rounds, "versions": {p: package_version(p) for p in packages}}
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
