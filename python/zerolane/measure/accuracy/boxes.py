"""`boxes`: mean average precision of detections against those of the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from zerolane.measure.accuracy.agreement import (
    Array,
    Outputs,
    array,
    failure,
    is_float,
    most_names,
    pick,
)

_ROLES = ("boxes", "scores", "labels")
_THRESHOLDS = np.arange(50, 100, 5) / 100  # COCO's
_SURE = 25  # per cent

Image = tuple[Array, Array, Array]  # boxes [K,4], scores [K], labels [K]


class Boxes:
    """mAP with the reference's detections of score `sure` per cent (25) and more as the truth.

    The mean over the reference's classes and over IoU 0.50, 0.55 ... 0.95, as in COCO (Lin et al.,
    "Microsoft COCO: Common Objects in Context", 2014). Detections take truths in order of their
    score, each the free one of largest overlap. The average precision is the area under the
    precision, made monotone, over the recall (Everingham et al., "The PASCAL Visual Object Classes
    Challenge", 2010, as computed from 2010 on). All detections of the other model count, so a
    score that moves across a threshold costs nothing; a lost, moved or relabelled box does.

    The outputs: three names "boxes:BOXES,SCORES,LABELS" (or two: one class). Else those so called.
    Else by shape: floats [N,K,4] or [K,4], floats of that shape without its last axis, integers of
    the same. Boxes are corners x0, y0, x1, y1.
    """

    options: ClassVar[Mapping[str, int]] = {"sure": _SURE}

    def __init__(self, outputs: Sequence[str], options: Mapping[str, int]) -> None:
        most_names("boxes", outputs, 3)
        if len(outputs) == 1:
            raise failure(
                "boxes",
                f"only {outputs[0]!r} is named, expected the outputs of boxes and scores",
                "give both, 'boxes:BOXES,SCORES,LABELS', or none",
            )
        self._names = tuple(outputs)
        self._sure = options["sure"] / 100

    def reduce(self, outputs: Outputs) -> list[Image]:
        names = self._names or _found(outputs)
        values = [array(pick("boxes", outputs, name)) for name in names]
        corners, scores = values[0], values[1]
        labels = values[2] if len(values) > 2 else np.zeros(scores.shape, np.int64)
        if (
            corners.ndim not in (2, 3)
            or corners.shape[-1] != 4
            or scores.shape != corners.shape[:-1]
            or labels.shape != scores.shape
        ):
            raise failure(
                "boxes",
                f"{', '.join(names)} are {', '.join(str(list(v.shape)) for v in values)}, expected "
                "[N,K,4], [N,K] and [N,K], or the same without N",
                "name outputs of these shapes, 'boxes:BOXES,SCORES,LABELS', or take a function",
                names[0],
            )
        if corners.ndim == 2:
            corners, scores, labels = corners[None], scores[None], labels[None]
        finite = np.isfinite(corners).all(-1) & np.isfinite(scores)
        return [
            (b[keep].astype(np.float64), s[keep].astype(np.float64), c[keep].copy())
            for b, s, c, keep in zip(corners, scores, labels, finite, strict=True)
        ]

    def score(self, reference: Sequence[list[Image]], got: Iterable[list[Image]]) -> float:
        pairs: list[tuple[Image, Image]] = []
        for wanted, found in zip(reference, got, strict=True):
            empty = (np.zeros((0, 4)), np.zeros(0), np.zeros(0))
            found = found + [empty] * (len(wanted) - len(found))
            pairs += list(zip(wanted, found[: len(wanted)], strict=True))
        truths = [(b[s >= self._sure], c[s >= self._sure]) for (b, s, c), _ in pairs]
        classes = np.unique(np.concatenate([c for _, c in truths])) if truths else np.zeros(0)
        if not len(classes):
            raise failure(
                "boxes",
                f"the reference finds nothing with a score of {self._sure:g} or more in any "
                "sample, expected some detections",
                "give samples that show something, or 'boxes:sure=PERCENT'",
                "samples",
            )
        found = [one for _, one in pairs]
        scores = [_average_precision(truths, found, kind) for kind in classes]
        return float(np.mean(scores))


def iou(a: Array, b: Array) -> Array:
    """[K,4] against [M,4] corners: intersection over union [K,M]; 0 for boxes without area."""
    corner = np.maximum(a[:, None, :2], b[None, :, :2])
    size = np.clip(np.minimum(a[:, None, 2:], b[None, :, 2:]) - corner, 0, None)
    shared = size.prod(-1)
    area_a, area_b = (np.clip(x[:, 2:] - x[:, :2], 0, None).prod(-1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def _average_precision(
    truths: list[tuple[Array, Array]], found: list[Image], kind: object
) -> float:
    """The mean over the IoU thresholds for one class."""
    scores: list[Array] = []
    hits: list[Array] = []
    wanted = 0
    for (corners, labels), (boxes, score, label) in zip(truths, found, strict=True):
        here = label == kind
        order = np.argsort(-score[here], kind="stable")
        overlap = iou(boxes[here][order], corners[labels == kind])
        wanted += overlap.shape[1]
        scores.append(score[here][order])
        hits.append(np.stack([_matched(overlap, t) for t in _THRESHOLDS], axis=1))
    order = np.argsort(-np.concatenate(scores), kind="stable")
    hit = np.concatenate(hits)[order]  # [detections, thresholds]
    true = hit.cumsum(0)
    precision = true / np.arange(1, len(hit) + 1)[:, None]
    monotone = np.maximum.accumulate(precision[::-1])[::-1]
    return float((monotone * hit).sum(0).mean() / wanted)


def _matched(overlap: Array, threshold: float) -> Array:
    """Which detections, the best first, find a truth of their own."""
    free = np.ones(overlap.shape[1], bool)
    hit = np.zeros(len(overlap), bool)
    if not len(free):
        return hit
    for place, row in enumerate(overlap):
        best = int(np.argmax(np.where(free, row, -1.0)))
        if free[best] and row[best] >= threshold:
            hit[place], free[best] = True, False
    return hit


def _found(outputs: Outputs) -> tuple[str, ...]:
    if all(name in outputs for name in _ROLES[:2]):
        return tuple(name for name in _ROLES if name in outputs)
    shapes = {
        name: np.shape(value)
        for name, value in outputs.items()
        if not isinstance(value, list | tuple | Mapping)
    }

    def floats(rank: int) -> Iterator[str]:
        return (n for n, s in shapes.items() if is_float(outputs[n]) and len(s) == rank)

    for rank in (3, 2):
        for boxes in floats(rank):
            if shapes[boxes][-1] != 4:
                continue
            flat = shapes[boxes][:-1]
            scores = next((n for n in floats(rank - 1) if shapes[n] == flat), None)
            if scores is None:
                continue
            whole = [n for n, s in shapes.items() if s == flat and not is_float(outputs[n])]
            return (boxes, scores, *whole[:1])
    told = {name: list(shape) for name, shape in shapes.items()}
    raise failure(
        "boxes",
        f"the outputs {told} hold no boxes [N,K,4] with scores [N,K] and labels [N,K]",
        "name them, 'boxes:BOXES,SCORES,LABELS', or take a function",
    )
