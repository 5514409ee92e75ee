"""Weights of a pruned layer that give nearest to what the layer gave before: least squares.

All is told by second moments, so samples are seen once and not kept: with x the rows that the
pruned model feeds to the layer and y those that the original gives, G = x'x, B = x'y and sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_HELD = 5  # one item in five is held back, to see which way is best
_RIDGES = (1e-3, 1e-1)
_STEPS = 30  # of conjugate gradients, at most
_GAIN = 1e-3  # of all that the steps gained: a step that gains less is the last


@dataclass
class Moments:
    """Sums over rows: of x, y, x'x, x'y and y squared."""

    count: int
    x: Matrix
    y: Matrix
    xx: Matrix
    xy: Matrix
    yy: Matrix

    @staticmethod
    def zero(inputs: int, outputs: int) -> Moments:
        return Moments(
            0,
            np.zeros(inputs),
            np.zeros(outputs),
            np.zeros((inputs, inputs)),
            np.zeros((inputs, outputs)),
            np.zeros(outputs),
        )

    def add(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        a, b = x.astype(np.float64), y.astype(np.float64)
        self.count += len(a)
        self.x += a.sum(0)
        self.y += b.sum(0)
        self.xx += a.T @ a
        self.xy += a.T @ b
        self.yy += np.square(b).sum(0)

    def joined(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            *(getattr(self, n) + getattr(other, n) for n in ("x", "y", "xx", "xy", "yy")),
        )

    def centred(self, intercept: bool) -> tuple[Matrix, Matrix, Matrix]:
        """x'x, x'y and y'y about the means, where a bias can take these up."""
        if not intercept or not self.count:
            return self.xx, self.xy, self.yy
        mean = self.x / self.count
        return (
            self.xx - np.outer(mean, self.x),
            self.xy - np.outer(mean, self.y),
            self.yy - np.square(self.y) / self.count,
        )

    def error(self, weight: Matrix, bias: Matrix) -> float:
        """Mean squared error of x w + b against y, over the mean of y squared about its mean."""
        xw = weight * (self.xx @ weight)
        cross = (weight * self.xy).sum(0)
        square = xw.sum(0) - 2 * cross + self.yy
        square += self.count * bias**2 + 2 * bias * (self.x @ weight - self.y)
        spread = float((self.yy - np.square(self.y) / max(self.count, 1)).sum())
        return float(square.sum()) / max(spread, 1e-30)


@dataclass(frozen=True)
class Fit:
    """A weight as a matrix [inputs, outputs] and a bias, and how they were found.

    before, after: the error on held-back items, relative to the spread of what the layer gave.
    """

    weight: Matrix
    bias: Matrix
    how: str
    before: float
    after: float


class Halves:
    """Moments of items to fit and of those held back."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self._parts = [Moments.zero(inputs, outputs) for _ in range(2)]
        self._items = 0

    def add(self, x: NDArray[Any], y: NDArray[Any], item: NDArray[Any]) -> None:
        """Rows, and which item of a batch each is of."""
        number = self._items + item
        self._items = int(number.max(initial=self._items - 1)) + 1
        held = number % _HELD == _HELD - 1
        if self._items < _HELD:  # of a few items, rows are held back
            held = np.arange(len(x)) % _HELD == _HELD - 1
        self._parts[0].add(x[~held], y[~held])
        self._parts[1].add(x[held], y[held])

    def fit(self, weight: Matrix, bias: Matrix, mask: NDArray[np.bool_] | None, most: str) -> Fit:
        """The best of: as it is, the bias corrected, scale and bias, all weights anew.

        weight: as it is now. mask: elements that may differ from 0. most: "bias", "scale" or
        "weights": how far to go.
        The bias takes up the change of the mean (Nagel et al., "Data-Free Quantization Through
        Weight Equalization and Bias Correction", 2019, there for quantization). All weights anew:
        least squares on the inputs that the pruned model has, with a ridge towards the weights
        (He, Zhang, Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", 2017).
        """
        fitted, held = self._parts
        judged = held if held.count else fitted
        before = judged.error(weight, bias)
        best, best_error = "nothing", before
        for name in _ways(most):
            error = judged.error(*_solve(name, fitted, weight, bias, mask))
            if error < best_error * (1 - 1e-3):
                best, best_error = name, error
        both = fitted.joined(held)
        found = _solve(best, both, weight, bias, mask)
        return Fit(*found, best.partition(" ")[0], before, best_error)


def _ways(most: str) -> list[str]:
    ways = ["bias"]
    if most != "bias":
        ways.append("scale")
    if most == "weights":
        ways += [f"weights {ridge}" for ridge in _RIDGES]
    return ways


def _solve(
    how: str, moments: Moments, weight: Matrix, bias: Matrix, mask: NDArray[np.bool_] | None
) -> tuple[Matrix, Matrix]:
    if how == "nothing" or not moments.count:
        return weight, bias
    xx, xy, _ = moments.centred(True)
    if how == "scale":
        power = (weight * (xx @ weight)).sum(0)
        cross = (weight * xy).sum(0)
        scale = np.divide(cross, power, out=np.ones_like(power), where=power > 0)
        weight = weight * np.clip(scale, 0.25, 4.0)
    elif how.startswith("weights"):
        ridge = float(how.partition(" ")[2]) * max(float(np.trace(xx)) / len(xx), 1e-30)
        system = xx + ridge * np.eye(len(xx))
        if mask is None:
            weight = weight + np.linalg.solve(system, xy - xx @ weight)
        else:
            weight = weight + _masked(system, xy - xx @ weight, mask)
    return weight, (moments.y - moments.x @ weight) / moments.count


def _masked(system: Matrix, target: Matrix, mask: NDArray[np.bool_]) -> Matrix:
    """The step that solves each column's own system, of the rows that its mask lets through.

    Conjugate gradients on all columns at once (Hestenes and Stiefel, 1952), the residual cut to
    the mask in every step, preconditioned with the diagonal. A step of size a along d lowers the
    square error by a * r'z (z the preconditioned residual r).
    """
    gained = 0.0
    inverse = (1 / np.diag(system))[:, None]
    step = np.zeros_like(target)
    residual = target * mask
    direction = inverse * residual
    power = (residual * direction).sum(0)
    for _ in range(_STEPS):
        image = (system @ direction) * mask
        along = (direction * image).sum(0)
        size = np.divide(power, along, out=np.zeros_like(power), where=along > 0)
        step += size * direction
        gain = float((size * power).sum())
        gained += gain
        if gain <= _GAIN * gained:
            break
        residual -= size * image
        solved = inverse * residual
        after = (residual * solved).sum(0)
        direction = solved + direction * np.divide(
            after, power, out=np.zeros_like(power), where=power > 0
        )
        power = after
    return step
