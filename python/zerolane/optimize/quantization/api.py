"""`zl.optimize.quantize` and `sensitivity`: what they take and promise."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zerolane._lazy import require

if TYPE_CHECKING:
    from zerolane.measure.accuracy import Metric
    from zerolane.measure.progress import Progress
    from zerolane.model_file import Source
    from zerolane.optimize.quantization.report import QuantReport, SensitivityReport
    from zerolane.optimize.samples import Samples


def quantize(
    model: Source,
    output: str | os.PathLike[str],
    *,
    mode: Literal["static", "dynamic", "int4", "fp8"] = "static",
    target: Literal["cpu", "tensorrt"] = "cpu",
    calibration: Samples | None = None,
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
    percentile: float = 99.99,
    per_channel: bool = True,
    symmetric: bool | None = None,
    block: int = 32,
    keep: Sequence[str] = (),
    rest: Literal["fp32", "fp16"] = "fp32",
    samples: Samples | None = None,
    metric: Metric = "cosine",
    accuracy: float | None = None,
    verify: bool = True,
    progress: Progress = True,
    external: bool | None = None,
) -> QuantReport:
    """Write the model with weights, and activations too, in 8 or 4 bits; blocks.

    model: a path (with external data beside it), bytes or an `onnx.ModelProto`; never changed.
    output: the file to write, replaced only when all went well.
    mode: "static": int8 weights, and activations with ranges from `calibration`. "dynamic": int8
        weights of MatMul and Gemm, ranges found in each run; CPU only. "int4": weights of MatMul
        and Gemm in blocks of `block`, activations float. "fp8": as static, in float8e4m3fn; ONNX
        Runtime's CPU provider only imitates it.
    target: "cpu": uint8 activations, so that ONNX Runtime's integer kernels run throughout.
        "tensorrt": int8 with zero points of 0, before layers only; it runs in ONNX Runtime too,
        but not fast.
    calibration: samples of real inputs, for static and fp8: an array (one input), a dict, several
        of those, an .npz or a folder of them (`zerolane.optimize.samples`).
    method: "minmax" keeps the whole range seen; "entropy" and "percentile" (of magnitudes) clip
        rare large values.
    per_channel: a scale for each channel of the weights instead of one a tensor.
    symmetric: zero points in the middle. None: as the target is best at.
    keep: layers to leave in float, by name, output or operator, as for `fp16`.
    rest: "fp16" converts what stays float, inputs and outputs excepted.
    samples: what results are scored on; None: the first 64 of calibration.
    metric, accuracy: the score (`zerolane.measure.accuracy`), and the share of the original's that
        must be kept. Where it is not, layers go back to float, the most sensitive first, as few as
        do; if none can stay, or it cannot be scored, AccuracyLost is raised.
    verify: run the result on the samples, score it and measure its errors.
    progress: a line on stderr where that is a terminal, or a function of (fraction, doing what).
    external: whether weights go to `<output>.data`. None: where the source has external data.

    The same inputs give the same file. Raises NotFound, InvalidModel, InvalidArgument,
    ShapeMismatch, Unsupported, AccuracyLost, Unavailable.
    """
    require("onnx", "optimize", "quantizing a model")
    from zerolane.optimize.quantization.options import QuantOptions, check
    from zerolane.optimize.quantization.work import quantize_model

    options = QuantOptions(
        mode=mode,
        target=target,
        calibration=calibration,
        method=method,
        percentile=percentile,
        per_channel=per_channel,
        symmetric=symmetric,
        block=block,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        rest=rest,
        samples=samples,
        metric=metric,
        accuracy=accuracy,
        verify=verify,
        progress=progress,
        external=external,
    )
    check(options)
    return quantize_model(model, Path(output), options)


def sensitivity(
    model: Source,
    calibration: Samples,
    *,
    mode: Literal["static", "fp8"] = "static",
    target: Literal["cpu", "tensorrt"] = "cpu",
    method: Literal["minmax", "entropy", "percentile"] = "minmax",
    percentile: float = 99.99,
    per_channel: bool = True,
    symmetric: bool | None = None,
    keep: Sequence[str] = (),
    samples: Samples | None = None,
    metric: Metric = "cosine",
    progress: Progress = True,
) -> SensitivityReport:
    """How much accuracy each layer costs when it alone is quantized, the most sensitive first.

    As `quantize`, without a file; one model a layer is made and run on all samples. Blocks.
    """
    require("onnx", "optimize", "quantizing a model")
    from zerolane.optimize.quantization.options import QuantOptions, check
    from zerolane.optimize.quantization.work import measure_sensitivity

    options = QuantOptions(
        mode=mode,
        target=target,
        calibration=calibration,
        method=method,
        percentile=percentile,
        per_channel=per_channel,
        symmetric=symmetric,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        samples=samples,
        metric=metric,
        progress=progress,
    )
    check(options)
    with tempfile.TemporaryDirectory(prefix="zerolane-") as folder:
        return measure_sensitivity(model, options, Path(folder))
