"""Minimal models whose run ends the whole process in onnxruntime 1.31.1 on the CPU.

onnxruntime loads each model and accepts the inputs, and then dies: of a contract check that calls
std::terminate, an integer division by zero, a wild read, or a loop that never ends and ignores
termination. zerolane must answer each with the right (empty) result or a typed error. Run them
only in a child process.

Rows outside PLACED stay fatal when moved with `in_if`, `in_loop` or `in_function`, save three that
fail to load there.
"""

from __future__ import annotations

from tests.models.fatal_build import Built, Case, in_function, in_if, in_loop
from tests.models.fatal_contrib import CONTRIB
from tests.models.fatal_models import MODELS
from tests.models.fatal_placed import PLACED
from tests.models.fatal_standard import STANDARD

__all__ = ["CASES", "Built", "Case", "in_function", "in_if", "in_loop"]

CASES: tuple[Case, ...] = (*STANDARD, *CONTRIB, *MODELS, *PLACED)
