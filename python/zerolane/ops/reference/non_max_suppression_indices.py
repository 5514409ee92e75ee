"""Non-maximum suppression in the form of ONNX's operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zerolane.ops.reference.non_max_suppression import scenes, select

if TYPE_CHECKING:
    from zerolane.ops.testing import Case


def non_max_suppression_indices(
    boxes: NDArray[Any], scores: NDArray[Any], **how: Any
) -> NDArray[np.int64]:
    """[selected, 3]: image, class and box; class by class, unless they suppress each other."""
    rows = []
    for image in range(len(boxes)):
        selected = select(boxes[image], scores[image], **how)
        if not how["class_agnostic"]:
            selected.sort(key=lambda row: row[1])
        rows += [(image, class_id, box) for _, class_id, box in selected]
    return np.array(rows, np.int64).reshape(-1, 3)


def cases() -> Iterator[Case]:
    from zerolane.ops.testing import Case

    for boxes, scores, how, about in scenes():
        yield Case("zerolane::NonMaxSuppressionIndices", (boxes, scores), how, about)
