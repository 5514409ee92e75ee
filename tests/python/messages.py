"""What every error message of zerolane looks like."""

from __future__ import annotations

import re


def assert_three_parts(message: str) -> None:
    """What was being done: what was found against what was expected; what to do."""
    assert re.search(r"\w+.*: .+; .+", message, re.DOTALL), message
    assert "Traceback" not in message
