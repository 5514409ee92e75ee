"""One result of each kind, with names that a page must not take as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zerolane.measure.compare import CompareResult
from zerolane.measure.difference import OutputDifference
from zerolane.measure.layers import LayerDifference
from zerolane.optimize.graph_passes.report import GraphReport, ModelSize, PassEffect
from zerolane.optimize.precision.bisection import BisectReport
from zerolane.optimize.pruning.report import PrunedLayer, PruneReport, UnprunedLayer
from zerolane.optimize.quantization.report import LayerError, QuantReport, SensitivityReport
from zerolane.optimize.report import KeptNode, NodeError, OutputError, PrecisionReport
from zerolane.tuning.result import LeftOut, Row, TuneResult, pareto
from zerolane.tuning.setting import Setting

INF = float("inf")
EVIL = "<script>alert(1)</script>\"'&<img src=x onerror=alert(2)>"


def quant(name: str = "conv1", **changes: Any) -> QuantReport:
    values: dict[str, Any] = {
        "source": f"{name}.onnx",
        "output": f"out/{name}8.onnx",
        "mode": "static",
        "target": "cpu",
        "layers": 3,
        "quantized": 2,
        "kept": (KeptNode(name, name, f"asked for by {name}"),),
        "backed_off": (name,),
        "evaluations": 2,
        "metric": "top1",
        "score": 0.995,
        "reference": 1.0,
        "errors": (OutputError(name, 10, 0.1, 0.2, 0.05),),
        "shares": {"int8": 0.75, name: 0.25},
        "samples": 8,
        "calibration_s": 0.1,
        "opset": (13, 13),
        "bytes_before": 4_000_000,
        "bytes_after": 1_100_000,
        "notes": (f"a note on {name}",),
    }
    return QuantReport(**values | changes)


def compared(name: str = "y", layers: int = 3, accuracy: float = 0.99) -> CompareResult:
    row = OutputDifference(
        name, False, ("float32",) * 2, ((1, 3),) * 2, 3, 1, 0.02, 0.1, note=name, noise=1e-6
    )
    inner = tuple(
        LayerDifference(f"v{i}", f"{name}{i}", "Conv", i / 100, 0.001, 0.1, i == 1)
        for i in range(layers)
    )
    scores = {"top1": 0.995}
    return CompareResult(
        f"{name}8.onnx", f"{name}.onnx", 1e-5, 1e-5, (row,), 4, True, scores, accuracy, inner
    )


def row(artefact: str, speedup: float, accuracy: float, size: int, **changes: Any) -> Row:
    return Row(
        Setting(artefact),
        *(5 / speedup, 9 / speedup, (4.9 / speedup, 5.1 / speedup), 200 * speedup),
        *(speedup, (0.9 * speedup, 1.1 * speedup), accuracy, size, 900, 20),
        **changes,
    )


def tune(name: str = "m") -> TuneResult:
    rows = [
        row("int8", 2.5, 0.995, 1_100_000),
        row("original", 1.0, 1.0, 4_000_000),
        row("fp16", 0.9, 1.0, 2_000_000, dropped="2.8 x the best's time, surely slower"),
    ]
    fronts = pareto(rows, "latency")
    rows = [Row(**_fields(r) | {"pareto": on}) for r, on in zip(rows, fronts, strict=True)]
    return TuneResult(
        *(f"{name}.onnx", "latency", "top1", 0.99, None, tuple(rows)),
        *((LeftOut(name, f"because of {name}"),), 60.0, 60.1, False, False, Path("x")),
        *({}, {"sha256": "", "external_data": {}}, {}, Setting()),
    )


def _fields(one: Row) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Row.__slots__}


def every_kind(name: str = "m") -> list[Any]:
    """A result of each kind that a report takes."""
    size = ModelSize(4000, 13, {"Conv": 2, name: 1}, {}, {}, (), ())
    small = ModelSize(3000, 13, {"Conv": 2}, {}, {}, (), ())
    effect = PassEffect(name, "applied", (3, 2), (4000, 3000), 0.0, f"why {name}")
    kept = KeptNode(name, "Softmax", f"kept {name}")
    worst = NodeError(
        name, name, "float16", OutputError(name, 3, 0.1, 0.1, float("inf"), 0, 2), 9.0
    )
    precision = PrecisionReport(
        *(f"{name}.onnx", "m16.onnx", "float16", 10, 9, (kept,), (0, 2), (13, 13), 4000, 2000, 100),
        *(0, 0, 0, {"float16": 1.0}, f"run on {name}", (OutputError(name, 3, 0.1, 0.1, 0.002),)),
        node_errors=(worst,),
    )
    return [
        GraphReport(f"{name}.onnx", "g.onnx", (effect,), size, small, f"run on {name}"),
        precision,
        BisectReport(
            *(f"{name}.onnx", "b.onnx", "float16", "top1", (kept,), (), 10, 5),
            *(((1, 1.0),), 0.999, 0.99),
        ),
        quant(name),
        SensitivityReport(name, "top1", 8, (LayerError(name, name, 0.02, 0.1),)),
        PruneReport(
            *(f"{name}.onnx", "p.onnx", "channels", 0.5, "layer", (64, 32), (1000, 300)),
            *((5000, 1500), (4000, 1200), (10, 10), 0.0),
            (PrunedLayer(name, name, ((64, 3, 3, 3), (32, 3, 3, 3)), 0.0, 0.8),),
            (UnprunedLayer(name, "Conv", f"left by {name}"),),
            *("top1", 0.98),
        ),
        compared(name),
        tune(name),
    ]
