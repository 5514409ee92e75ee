"""LetterboxFloat16: Letterbox with planes of float16."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from zerolane.ops.reference.letterbox import cases_of, letterbox

if TYPE_CHECKING:
    from zerolane.ops.testing import Case

letterbox_float16 = letterbox


def cases() -> Iterator[Case]:
    return cases_of("zerolane::LetterboxFloat16")
