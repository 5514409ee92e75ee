"""ResizeNormalizeFloat16: ResizeNormalize with planes of float16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zerolane.ops.reference.resize_normalize import cases_of, resize_normalize

if TYPE_CHECKING:
    from zerolane.ops.testing import Case

resize_normalize_float16 = resize_normalize


def cases() -> Iterator[Case]:
    return cases_of("zerolane::ResizeNormalizeFloat16")
