# SPDX-License-Identifier: Apache-2.0
"""Letterbox, ResizeNormalize and RoiAlign on one core, beside OpenCV, NumPy and ONNX Runtime.

The picture is one of scikit-learn's photographs as 1280 x 720. Every contestant makes new float32
planes at each call and works on one thread; that they make the same planes is checked first. The
floor is `copy`: memcpy of half as many bytes as the picture and the planes have together, so that
it reads and writes as many bytes as a call has to.
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

NAME = "ops_image"
TITLE = "pictures to planes and RoiAlign, one core, interleaved"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

# (measure, time of, divided by the time of, target, how to compare)
RATIOS: dict[str, tuple[tuple[str, str, str, float | None, str], ...]] = {
    "letterbox": (
        ("resize + NumPy / zerolane", "resize + NumPy", "zerolane", 8, ">="),
        ("blobFromImage / zerolane", "blobFromImage", "zerolane", 2, ">="),
        ("blobFromImageWithParams / zerolane", "blobFromImageWithParams", "zerolane", 2, ">="),
        ("zerolane / copy", "zerolane", "copy", 4, "<="),
    ),
    "resize_normalize area": (
        ("resize + NumPy / zerolane", "resize + NumPy", "zerolane", None, ">="),
        ("zerolane / copy", "zerolane", "copy", None, "<="),
    ),
    "roi_align": (("onnxruntime / zerolane", "onnxruntime", "zerolane", None, ">="),),
    "roi_align adaptive": (("onnxruntime / zerolane", "onnxruntime", "zerolane", None, ">="),),
}


def photograph() -> NDArray[np.uint8]:
    import cv2
    from sklearn.datasets import load_sample_images

    picture = load_sample_images().images[0]
    return np.ascontiguousarray(cv2.resize(picture, (1280, 720), interpolation=cv2.INTER_CUBIC))


def form(name: str, fn: Callable[[], Any]) -> Form:
    return Form(name, lambda: {"y": np.array(fn())}, fn)


def copy_of_half(read: int, written: int) -> Form:
    source = np.zeros((read + written) // 2, np.uint8)
    target = np.zeros_like(source)
    return form("copy", lambda: np.copyto(target, source))


def letterboxes(image: NDArray[np.uint8]) -> list[Form]:
    """To 640 x 640, pixels by 255, red and blue exchanged: what a YOLO model takes."""
    import cv2

    import zerolane as zl

    ours = zl.ops.Letterbox(size=[640, 640], swap_red_blue=True)
    grey = (114, 114, 114)
    params = cv2.dnn.Image2BlobParams(
        *((1 / 255,) * 3, (640, 640), (0, 0, 0), True, cv2.CV_32F),
        *(cv2.DATA_LAYOUT_NCHW, cv2.dnn.DNN_PMODE_LETTERBOX, grey),
    )

    def boxed() -> NDArray[np.uint8]:
        inner = cv2.resize(image, (640, 360), interpolation=cv2.INTER_LINEAR)
        return cv2.copyMakeBorder(inner, 140, 140, 0, 0, cv2.BORDER_CONSTANT, value=grey)

    def with_numpy() -> NDArray[np.float32]:
        planes = boxed()[:, :, ::-1].astype(np.float32) / np.float32(255)
        return np.ascontiguousarray(planes.transpose(2, 0, 1))[None]

    return [
        form("zerolane", lambda: ours(image)[0]),
        form("resize + NumPy", with_numpy),
        form(
            "blobFromImage",
            lambda: cv2.dnn.blobFromImage(boxed(), 1 / 255, (640, 640), (0, 0, 0), swapRB=True),
        ),
        form("blobFromImageWithParams", lambda: cv2.dnn.blobFromImageWithParams(image, params)),
        copy_of_half(image.nbytes, 640 * 640 * 3 * 4),
    ]


def area_resizes(image: NDArray[np.uint8]) -> list[Form]:
    """To 224 x 224 by area, mean and deviation of ImageNet: what a classifier takes."""
    import cv2

    import zerolane as zl

    ours = zl.ops.ResizeNormalize(
        size=[224, 224], interpolation="area", mean=MEAN.tolist(), std=STD.tolist()
    )
    mean, std = (255 * MEAN).astype(np.float32), (255 * STD).astype(np.float32)

    def with_numpy() -> NDArray[np.float32]:
        inner = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        planes = (inner.astype(np.float32) - mean) / std
        return np.ascontiguousarray(planes.transpose(2, 0, 1))[None]

    return [
        form("zerolane", lambda: ours(image)),
        form("resize + NumPy", with_numpy),
        copy_of_half(image.nbytes, 224 * 224 * 3 * 4),
    ]


def roi_aligns(sampling_ratio: int) -> list[Form]:
    """300 boxes on 256 maps of 50 x 68, to 7 x 7: the head of a two-stage detector."""
    import onnxruntime
    from onnx import TensorProto, helper

    import zerolane as zl

    rng = np.random.default_rng(0)
    maps = rng.standard_normal((1, 256, 50, 68)).astype(np.float32)
    corner = rng.uniform((0, 0), (1000, 700), (300, 2))
    boxes = np.hstack([corner, corner + rng.uniform(16, 400, (300, 2))]).astype(np.float32)
    which = np.zeros(300, np.int64)
    attributes: dict[str, Any] = {
        "output_height": 7,
        "output_width": 7,
        "sampling_ratio": sampling_ratio,
        "spatial_scale": 1 / 16,
    }
    types = {"X": (TensorProto.FLOAT, 4), "rois": (TensorProto.FLOAT, 2)}
    types |= {"batch_indices": (TensorProto.INT64, 1), "Y": (TensorProto.FLOAT, 4)}
    values = [helper.make_tensor_value_info(n, t, [None] * r) for n, (t, r) in types.items()]
    node = helper.make_node("RoiAlign", list(types)[:3], ["Y"], **attributes)
    model = helper.make_model(
        helper.make_graph([node], "roi_align", values[:3], values[3:]),
        opset_imports=[helper.make_opsetid("", 16)],
        ir_version=9,
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feed = {"X": maps, "rois": boxes, "batch_indices": which}
    ours = zl.ops.RoiAlign(**attributes)
    return [
        form("zerolane", lambda: ours(maps, boxes, which)),
        form("onnxruntime", lambda: session.run(None, feed)[0]),
    ]


def check_same(subject: str, forms: list[Form], tolerance: float) -> None:
    """Refuses to compare the speed of different work."""
    wanted = forms[0].outputs()["y"]
    for other in forms[1:]:
        if other.name == "copy":
            continue
        got = other.outputs()["y"]
        if got.shape != wanted.shape or np.abs(got - wanted).max() > tolerance:
            raise ValueError(
                f"comparing {subject}: {other.name} made {got.shape}, at most "
                f"{np.abs(got - wanted).max() if got.shape == wanted.shape else '-'} from "
                f"zerolane's {wanted.shape}, expected {tolerance}; look at its arguments"
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
    image = photograph()
    # Calls take milliseconds: a block is a few, so that everyone's memory is as warm as in use.
    plan = Plan(rounds=12 if options.quick else 60, batches=3, singles_us=0)
    # OpenCV rounds pixels to whole values.
    subjects: dict[str, tuple[Callable[[], list[Form]], float]] = {
        "letterbox": (lambda: letterboxes(image), 0.8 / 255),
        "resize_normalize area": (lambda: area_resizes(image), 0.51 / 255 / float(STD.min())),
        "roi_align": (lambda: roi_aligns(2), 1e-5),
        "roi_align adaptive": (lambda: roi_aligns(0), 1e-5),
    }
    for subject, (make, tolerance) in subjects.items():
        progress(f"{NAME}: {subject}")
        forms = make()
        check_same(subject, forms, tolerance)
        timings = interleave(forms, plan)
        report.series += series_of(subject, timings)
        report.checks += checks_of(subject, timings)
    packages = ("opencv-python-headless", "numpy", "onnxruntime", "scikit-learn")
    report.settings |= {"plan": vars(plan), "versions": {p: package_version(p) for p in packages}}
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
