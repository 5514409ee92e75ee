"""What `quantize` and `sensitivity` found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from zerolane.optimize.report import KeptNode, OutputError


@dataclass(frozen=True, slots=True)
class LayerError:
    """One layer quantized alone.

    error: 1 minus the share of the original's score that is kept. scaled: the largest error of an
    output, relative to that output's largest value.
    """

    layer: str
    op: str
    error: float
    scaled: float


@dataclass(frozen=True, slots=True)
class SensitivityReport:
    """The layers of a model, the most sensitive first, each quantized alone."""

    source: str
    metric: str
    samples: int
    layers: tuple[LayerError, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.source}: {len(self.layers)} layers, each quantized alone, on {self.samples} "
            f"samples, by {self.metric}"
        ]
        for row in self.layers:
            lines.append(
                f"  {row.error:.2e} lost, outputs off by {row.scaled:.2e}: {row.op} {row.layer}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class QuantReport:
    """The result of `quantize`.

    layers: Conv, ConvTranspose, Gemm and MatMul with weights. quantized: those in few bits.
    kept: the others, with the reason. backed_off: those that accuracy= sent back to float, by name,
        the most sensitive first; they are in kept too. evaluations: models that were scored.
    score: by the metric, of the file written; reference: of the original. None: not measured.
    errors: by output, the worst over the samples.
    shares: of the multiply-adds, by dtype.
    calibration_s: seconds for running all samples once (twice for the first one with histograms).
    opset: before and after. bytes_before, bytes_after: with external data.
    """

    source: str
    output: str
    mode: str
    target: str
    layers: int
    quantized: int
    kept: tuple[KeptNode, ...]
    backed_off: tuple[str, ...]
    evaluations: int
    metric: str
    score: float | None
    reference: float | None
    errors: tuple[OutputError, ...]
    shares: dict[str, float]
    samples: int
    calibration_s: float
    opset: tuple[int, int]
    bytes_before: int
    bytes_after: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        share = self.bytes_after / max(self.bytes_before, 1)
        lines = [
            f"{self.source} -> {self.output} ({self.mode}, for {self.target}): {self.quantized} of "
            f"{self.layers} layers quantized, {self.bytes_before:,} -> {self.bytes_after:,} bytes "
            f"({share:.0%})"
        ]
        if self.shares:
            parts = ", ".join(f"{s:.1%} {name}" for name, s in self.shares.items())
            lines.append(f"  multiply-adds: {parts}")
        if self.samples:
            lines.append(f"  calibrated on {self.samples} samples in {self.calibration_s:.2f} s")
        reasons = Counter((k.op, k.reason) for k in self.kept if k.node not in self.backed_off)
        lines += [f"  kept {count} x {op}: {why}" for (op, why), count in reasons.items()]
        if self.backed_off:
            lines.append(
                f"  back to float for accuracy, in {self.evaluations} evaluations: "
                + ", ".join(self.backed_off)
            )
        lines += [f"  note: {note}" for note in self.notes]
        if self.score is not None and self.reference is not None:
            lines.append(f"  {self.metric}: {self.score:.4f}, the original {self.reference:.4f}")
        lines += [f"    {error}" for error in self.errors]
        return "\n".join(lines)
