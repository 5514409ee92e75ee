"""What `prune` did, and what it kept of the model's accuracy."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PrunedLayer:
    """A layer whose weights changed.

    shape: of its weight, before and after. zeros: the share of its weights that are zero.
    kept: the share of its weights' magnitude that stayed, in the original's channels.
    permuted: kept magnitude in the new order of channels over that in the old one.
    recovery: "nothing", "bias", "scale" or "weights", what was fitted on samples; None: no try.
    error: of what it gives, before and after recovery, mean squared over its spread, on items of
        the samples that were not fitted on.
    """

    node: str
    op: str
    shape: tuple[tuple[int, ...], tuple[int, ...]]
    zeros: float
    kept: float
    permuted: float = 1.0
    recovery: str | None = None
    error: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class UnprunedLayer:
    """A layer whose channels or weights stay, all or some of them, and the first reason."""

    node: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class PruneReport:
    """The result of `prune`.

    ratio: asked for; with a latency target, found. channels: that layers make, of those that may
    go, before and after. parameters, macs (multiply-adds of a run on the first sample, or with 1
    for free dimensions), bytes, nodes: before and after. zeros: the share of the weights of layers
    that are zero. score: the share of the metric's score that is kept; None where nothing was
    measured. latency_ms: before and after, where there was a target.
    """

    source: str
    output: str
    method: str
    ratio: float
    scope: str
    channels: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    bytes: tuple[int, int]
    nodes: tuple[int, int]
    zeros: float
    layers: tuple[PrunedLayer, ...]
    unpruned: tuple[UnprunedLayer, ...]
    metric: str | None = None
    score: float | None = None
    latency_ms: tuple[float, float] | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        macs, parameters = self.macs, self.parameters
        lines = [
            f"{self.source} -> {self.output} ({self.method}, ratio {self.ratio:.3g}): "
            f"{len(self.layers)} layers pruned, multiply-adds {macs[0]:,} -> {macs[1]:,} "
            f"({macs[1] / max(macs[0], 1):.0%}), parameters {parameters[0]:,} -> {parameters[1]:,} "
            f"({parameters[1] / max(parameters[0], 1):.0%}), zeros {self.zeros:.1%}, "
            f"{self.bytes[0]:,} -> {self.bytes[1]:,} bytes"
        ]
        if self.latency_ms is not None:
            before, after = self.latency_ms
            lines.append(f"  {before:.3f} -> {after:.3f} ms a call here")
        if self.score is not None:
            lines.append(f"  keeps {self.score:.2%} of {self.metric} on the samples")
        for layer in self.layers:
            before_shape, after_shape = ("x".join(map(str, s)) for s in layer.shape)
            text = f"  {layer.op} {layer.node}: {before_shape}"
            if before_shape != after_shape:
                text += f" -> {after_shape}"
            text += f", {layer.zeros:.0%} zeros" if layer.zeros else ""
            text += f", keeps {layer.kept:.1%} of the magnitude"
            if layer.permuted != 1:
                text += f" (reordered: x {layer.permuted:.3f})"
            if layer.error is not None:
                text += (
                    f"; {layer.recovery} fitted: error {layer.error[0]:.2g} -> {layer.error[1]:.2g}"
                )
            lines.append(text)
        reasons = Counter((u.op, u.reason) for u in self.unpruned)
        lines += [f"  unpruned {count} x {op}: {why}" for (op, why), count in reasons.items()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)
