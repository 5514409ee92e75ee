"""What is said of an exception that a Python stage raised."""

from __future__ import annotations

import os
import traceback


def describe(error: BaseException) -> str:
    """Type, text and the line that raised it, as the traceback does not leave native code."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return text
    last = frames[-1]
    return f"{text} (line {last.lineno} of {os.path.basename(last.filename)}, in {last.name})"
