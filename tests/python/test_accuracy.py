"""`zerolane.measure.accuracy`: named metrics against definitions written out, and `scorer`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import task_checks
from tests.python.messages import assert_three_parts
from zerolane.measure.accuracy import METRICS, scorer
from zerolane.measure.accuracy.boxes import iou
from zerolane.measure.accuracy.numbers import psnr
from zerolane.measure.accuracy.text import best_path, edit_distance

ONE = [{"x": np.zeros(1)}]


def score(metric: str, reference: dict[str, Any], got: dict[str, Any]) -> float:
    """The score of outputs `got` where the reference gives `reference`, one sample."""
    made = scorer(metric, lambda _: reference, ONE)
    assert made.reference == made(lambda _: reference) == 1
    return made(lambda _: got)


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("digits_cnn", "top1"),
        ("digit_det", "boxes"),
        ("line_ctc", "ctc"),
        ("digits_mlp", "embedding"),
        ("wine_forest", "top1:label"),
        *(("digit_det", name) for name in ("cosine", "psnr", "max_error")),
        *(("mixed_table", name) for name in ("top1", "cosine", "max_error")),
    ],
)
def test_trained_models_keep_all_of_their_own_score(name: str, metric: str) -> None:
    run = zl.load(task_checks.FOLDER / f"{name}.onnx").run
    made = scorer(metric, run, task_checks.case_inputs(name))
    assert made(run) == made.kept(run) == 1


def test_top1_counts_rows() -> None:
    a = np.eye(5, 3, dtype=np.float32)  # the last two rows are ties: the first class
    b = a.copy()
    b[1] = [0, 0, 9]
    assert score("top1", {"y": a}, {"y": b}) == pytest.approx(4 / 5)
    b[2] = np.nan
    assert score("top1", {"y": a}, {"y": b}) == pytest.approx(3 / 5)
    assert score("top1", {"y": a}, {"y": a[:2]}) == 0


def test_top1_of_maps_and_of_decisions() -> None:
    a = np.random.default_rng(0).random((2, 4, 3, 5))
    b = a.copy()
    b[1, :, 2, 4] = [9, 0, 0, 0] if a[1, :, 2, 4].argmax() else [0, 9, 0, 0]
    assert score("top1", {"y": a}, {"y": b}) == pytest.approx(29 / 30)
    assert score("top1", {"y": np.array(["a", "b"])}, {"y": np.array(["a", "c"])}) == 0.5
    both = {"state": np.zeros((3, 1)), "label": np.arange(4)}
    assert score("top1", both, {**both, "label": np.array([0, 1, 2, 9])}) == 0.75


def detections(*rows: tuple[float, ...]) -> dict[str, Any]:
    """x0, y0, x1, y1, score, label for each box of one image."""
    table = np.array(rows, np.float64).reshape(1, -1, 6)
    return {
        "boxes": table[..., :4],
        "scores": table[..., 4],
        "labels": table[..., 5].astype(np.int64),
    }


FOUND = detections((0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 1), (0, 30, 8, 38, 0.7, 2))


def test_iou() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], float)
    b = np.array([[5, 0, 15, 10], [0, 0, 10, 10], [20, 20, 30, 30]], float)
    assert iou(a, b) == pytest.approx(np.array([[1 / 3, 1, 0], [0, 0, 0]]))


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        # A weak extra box, below all others in score, takes nothing away.
        ([(0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 1), (0, 30, 8, 38, 0.7, 2),
          (50, 50, 60, 60, 0.1, 1)], 1.0),
        # One of two boxes of class 1 lost: half the recall at full precision.
        ([(0, 0, 10, 10, 0.9, 1), (0, 30, 8, 38, 0.7, 2)], (0.5 + 1) / 2),
        # Class 2 is called class 1: it is lost, and a false one of least score.
        ([(0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 1), (0, 30, 8, 38, 0.7, 1)], 0.5),
        # A false box of the highest score in class 1: precisions 1/2, 2/3; made monotone 2/3.
        ([(50, 50, 60, 60, 0.95, 1), (0, 0, 10, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 1),
          (0, 30, 8, 38, 0.7, 2)], (2 / 3 + 1) / 2),
        # Moved by two of ten pixels: IoU 2/3, right for 0.50 .. 0.65, four of ten thresholds.
        ([(2, 0, 12, 10, 0.9, 1), (20, 20, 30, 40, 0.8, 1), (0, 30, 8, 38, 0.7, 2)], None),
        ([], 0.0),
    ],
)  # fmt: skip
def test_boxes_by_hand(rows: list[tuple[float, ...]], wanted: float | None) -> None:
    if wanted is None:
        # From 0.70 on the first is false: precision 0, then 1/2 at half the recall.
        wanted = ((4 * 1.0 + 6 * 0.5 * 0.5) / 10 + 1) / 2
    assert score("boxes", FOUND, detections(*rows)) == pytest.approx(wanted)


def plain_average_precision(truth: Any, found: Any, threshold: float) -> float:
    """One class, one image, loops: the area under the interpolated precision."""
    free = list(range(len(truth)))
    hits = []
    for box, _ in sorted(found, key=lambda row: -row[1]):
        best = max(free, key=lambda k: iou(box[None], truth[k][None])[0, 0], default=None)
        hit = best is not None and iou(box[None], truth[best][None])[0, 0] >= threshold
        if hit:
            free.remove(best)
        hits.append(hit)
    area = 0.0
    for end in range(1, len(hits) + 1):
        if hits[end - 1]:
            later = [sum(hits[:n]) / n for n in range(end, len(hits) + 1)]
            area += max(later) / len(truth)
    return area


def test_boxes_against_loops() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        low = rng.uniform(0, 30, (7, 2))
        truth = np.concatenate([low, low + rng.uniform(5, 15, (7, 2))], 1)
        moved = np.concatenate([truth + rng.normal(0, 1.5, truth.shape), truth[:3] + 1])
        scores = rng.random(10)
        wanted = np.mean(
            [
                plain_average_precision(truth, list(zip(moved, scores, strict=True)), t / 100)
                for t in range(50, 100, 5)
            ]
        )
        reference = {"boxes": truth, "scores": np.full(7, 0.9)}
        assert score("boxes", reference, {"boxes": moved, "scores": scores}) == pytest.approx(
            wanted
        )


def test_boxes_are_found_by_shape_and_by_name() -> None:
    plain = {"a": FOUND["labels"], "b": FOUND["boxes"], "c": FOUND["scores"]}
    lost = {**plain, "c": np.array([[0.9, 0.8, np.nan]])}
    assert score("boxes", plain, lost) == 0.5
    assert score("boxes:b,c,a", plain, lost) == 0.5
    assert score("boxes:b,c", plain, lost) == pytest.approx(2 / 3)  # one class of three boxes
    assert score("boxes:sure=75", plain, lost) == 1  # the third is no truth then


@cache
def plain_distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_distance(a[1:], b) + 1,
        plain_distance(a, b[1:]) + 1,
        plain_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_edit_distance() -> None:
    rng = np.random.default_rng(1)
    for _ in range(200):
        a, b = (rng.integers(0, 4, rng.integers(0, 9)) for _ in range(2))
        assert edit_distance(a, b) == plain_distance(tuple(a.tolist()), tuple(b.tolist()))


def one_hot(*lines: str) -> np.ndarray[Any, Any]:
    return np.stack([np.eye(5)[[int(c) for c in line]] for line in lines])


def test_ctc() -> None:
    assert [line.tolist() for line in best_path(one_hot("0110122", "0000000"))] == [[1, 1, 2], []]
    assert [line.tolist() for line in best_path(one_hot("4114122"), blank=-1)] == [[1, 1, 2]]
    a, b = one_hot("1020304", "1111000"), one_hot("1020303", "1000000")
    assert score("ctc", {"y": a}, {"y": b}) == pytest.approx((1 - 1 / 4 + 1) / 2)
    swapped = {"y": a.swapaxes(0, 1)}
    assert score("ctc:y,time=0", swapped, {"y": b.swapaxes(0, 1)}) == pytest.approx(7 / 8)
    assert score("ctc", {"y": a[0]}, {"y": b[0]}) == pytest.approx(3 / 4)
    assert score("ctc", {"y": a}, {"y": a[:1]}) == 0.5


def test_embedding() -> None:
    angles = np.radians([0, 10, 90, 105, 200.0])
    a = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert score("embedding", {"y": a}, {"y": a * [[1], [2], [3], [4], [5]]}) == 1
    angles[1] = np.radians(80)  # 0: its neighbour stays; 1 now has 2, and 2 has 1 instead of 3
    b = np.stack([np.cos(angles), np.sin(angles)], 1)
    assert score("embedding", {"y": a}, {"y": b}) == pytest.approx(3 / 5)
    assert score("embedding", {"y": a}, {"y": np.full_like(b, np.nan)}) == 0


def test_embedding_lets_equal_rows_swap_and_has_no_limit_of_rows() -> None:
    rng = np.random.default_rng(2)
    a = np.repeat(rng.normal(size=(217, 6)), 3, axis=0)  # 651 rows: three blocks
    noise = rng.normal(0, 1e-9, a.shape)
    assert score("embedding", {"y": a}, {"y": a + noise}) == 1
    assert score("embedding:k=2", {"y": a}, {"y": a + noise}) == 1
    assert score("embedding", {"y": a}, {"y": rng.normal(size=a.shape)}) < 0.1


def test_numbers() -> None:
    a = np.array([[3.0, 4.0]])
    assert score("cosine", {"y": a}, {"y": np.array([[4.0, 3.0]])}) == pytest.approx(24 / 25)
    assert score("cosine", {"y": a}, {"y": -a}) == 0
    assert score("max_error", {"y": a}, {"y": a + np.array([[0, 0.4]])}) == pytest.approx(0.9)
    wave = np.linspace(0, 1, 101)
    assert psnr(wave, wave + 0.01) == pytest.approx(40)
    assert score("psnr", {"y": wave}, {"y": wave + 0.01}) == pytest.approx(40 / 60)
    assert score("psnr", {"y": wave}, {"y": wave + 1e-9}) == 1


@pytest.mark.parametrize("metric", ["cosine", "psnr", "max_error"])
def test_numbers_that_cannot_be_near(metric: str) -> None:
    a = np.arange(3.0)
    assert score(metric, {"y": a}, {"y": np.array([0, 1, np.nan])}) == 0
    assert score(metric, {"y": a}, {"y": np.arange(4.0)}) == 0
    assert score(metric, {"y": a, "z": a}, {"y": a}) == 0
    nan = np.array([1, np.nan, np.inf])
    assert score(metric, {"y": nan}, {"y": nan.copy()}) == 1
    assert score(metric, {"y": np.arange(4)}, {"y": np.array([0, 1, 2, 9])}) == 0.75
    assert score(metric, {"y": a, "z": a}, {"y": a, "z": a * 0 - 1}) == 0  # the worst output


def test_outputs_are_copied() -> None:
    """A run may hand out memory that its next call writes to."""
    shared = np.zeros((2, 3))

    def run(inputs: dict[str, Any]) -> dict[str, Any]:
        shared[...] = inputs["x"]
        return {"y": shared}

    samples = [{"x": np.eye(2, 3)}, {"x": np.eye(2, 3)[:, ::-1] * 2}]
    for metric in METRICS:
        if metric not in ("boxes", "ctc", "embedding"):
            made = scorer(metric, run, samples)
            assert made(run) == 1
            assert made(lambda i: {"y": i["x"] * 0 + 1}) < 1


def test_a_function_as_metric() -> None:
    def right(run: Callable[..., Any]) -> float:
        return float((run({"x": np.arange(4.0)})["y"] > 1).mean())

    made = scorer(right, lambda i: {"y": i["x"]}, None)
    assert made.name == "right"
    assert made.reference == 0.5
    assert made.kept(lambda i: {"y": i["x"] - 1}) == 0.5


def broken(metric: Any, outputs: dict[str, Any] | None = None, samples: Any = ONE) -> Any:
    return lambda: scorer(metric, lambda _: outputs or {"y": np.ones((3, 1))}, samples)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (broken("accuracy"), "there is no metric 'accuracy'"),
        (broken(3), "int"),
        (broken("top1"), "none of the outputs"),
        (broken("top1:y"), r"\[3, 1\]"),
        (broken("top1:z"), "no output 'z'"),
        (broken("top1:y,z"), "2 outputs are named"),
        (broken("top1:k=3"), "no option 'k'"),
        (broken("boxes"), "hold no boxes"),
        (broken("boxes:y"), "only 'y'"),
        (broken("boxes:y,y"), r"\[N,K,4\]"),
        (broken("boxes", {**FOUND, "scores": FOUND["scores"] / 9}), "finds nothing"),
        (broken("ctc", {"y": np.ones(3)}), "none of the outputs"),
        (broken("ctc:time=2"), "time is 2"),
        (broken("embedding", {"y": np.ones((2, 3))}), "2 rows"),
        (broken("embedding:k=0"), "k is 0"),
        (broken("cosine:z"), "no output 'z'"),
        (broken("top1", samples=[]), "no sample"),
        (broken("top1", samples=[np.ones(3)]), "ndarray"),
        (broken(lambda run: 2), "returned 2"),
        (broken(lambda run: "good"), "returned 'good'"),
        (broken(lambda run: 0), "scores 0"),
    ],
)
def test_wrong_arguments(call: Callable[[], Any], word: str) -> None:
    with pytest.raises(zl.InvalidArgument, match=word) as caught:
        call()
    assert_three_parts(str(caught.value))
