"""Scanned digits drawn in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.text import Text

_SHADES = " ░▒▓█"
_SHOWN = 4
_BRIGHTEST = 16


def draw_digits(images: Any, labels: Any, predicted: Any) -> Text:
    """Some digits side by side with what was predicted: the first wrong ones, then right ones.

    images: [N,8,8] in 0..16; labels and predicted: [N].
    """
    import numpy as np
    from rich.text import Text

    wrong = np.flatnonzero(labels != predicted)[: _SHOWN - 1]
    right = np.flatnonzero(labels == predicted)[: _SHOWN - len(wrong)]
    chosen = [*right, *wrong]
    text = Text(no_wrap=True)
    for row in range(images.shape[1]):
        lines = []
        for n in chosen:
            shades = np.ceil(images[n, row] * (len(_SHADES) - 1) / _BRIGHTEST).astype(int)
            lines.append("".join(_SHADES[s] * 2 for s in shades))
        text.append("   ".join(lines) + "\n")
    width = 2 * images.shape[2]
    for n in chosen:
        said = f"says {predicted[n]}"
        if predicted[n] != labels[n]:
            text.append(f"{said}, is {labels[n]}".ljust(width + 3), style="bold red")
        else:
            text.append(said.ljust(width + 3), style="bold green")
    return text
