"""The task of a trained model as the metric of a pass: what share of float32's result is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zerolane as zl
from tests.models import task_checks
from tests.models.task_checks import FOLDER
from tests.optimize import quantized

MEASURES = {
    "digits_cnn": ("accuracy",),
    "digit_det": ("recall", "precision"),
    "line_ctc": ("exact_lines",),
    "stream_vad": ("frame_accuracy",),
    "text_embed": ("unseen_patterns_right",),
}
"""The results among what `task_checks` measures; of these, larger is better."""

Run = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """A trained model, samples to calibrate on, and what float32 reaches.

    A call scores a run from 0 to 1: the worst share of float32's result over the measures.
    """

    name: str
    folder: Path
    rows: quantized.Rows
    reached: dict[str, float]

    @property
    def path(self) -> Path:
        return self.folder / f"{self.name}.onnx"

    def measured(self, run: Run) -> dict[str, float]:
        return _measured(self.name, run, self.folder)

    def share(self, found: dict[str, float]) -> float:
        """Above 1 where the changed model does better."""
        return min(found[name] / value for name, value in self.reached.items())

    def __call__(self, run: Run) -> float:
        return min(self.share(self.measured(run)), 1.0)


def task(name: str, folder: Path = FOLDER) -> Task:
    run = zl.load(folder / f"{name}.onnx").run
    return Task(name, folder, _calibration(name, folder), _measured(name, run, folder))


def _measured(name: str, run: Run, folder: Path) -> dict[str, float]:
    found = task_checks.check(name, run, folder).measures
    return {m.name: m.value for m in found if m.name in MEASURES[name]}


def _calibration(name: str, folder: Path) -> quantized.Rows:
    if name != "text_embed":
        return quantized.calibration(name)
    # Six meanings in five patterns, of which the task compares the first and the last.
    case = task_checks.case_inputs(name, folder)
    parts = {key: values.reshape(6, 5, -1) for key, values in case.items()}
    return [{key: values[:, i].copy() for key, values in parts.items()} for i in range(1, 4)]
