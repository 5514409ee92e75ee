"""How much of a task's accuracy a changed model keeps: named metrics, or a function of the user's.

`scorer` is what quantize, bisect, prune and tune call. Needs NumPy only.
"""

from __future__ import annotations

from zerolane.measure.accuracy.scorer import METRICS, Metric, Run, Scorer, scorer

__all__ = ["METRICS", "Metric", "Run", "Scorer", "scorer"]
