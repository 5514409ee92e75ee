"""`zl.optimize.prune`: what it takes and promises."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from zerolane._lazy import require
from zerolane.optimize.pruning.arguments import check

if TYPE_CHECKING:
    from zerolane.measure.accuracy import Metric
    from zerolane.measure.progress import Progress
    from zerolane.model_file import Source
    from zerolane.optimize.pruning.report import PruneReport
    from zerolane.optimize.samples import Samples


def prune(
    model: Source,
    output: str | os.PathLike[str],
    *,
    method: Literal["channels", "2:4", "magnitude"] = "magnitude",
    ratio: float = 0.5,
    samples: Samples | None = None,
    metric: Metric | None = None,
    accuracy: float | None = None,
    keep: Sequence[str] = (),
    outputs: Sequence[str] | None = None,
    scope: Literal["global", "layer"] | None = None,
    recover: bool | Literal["weights", "scale", "bias"] = True,
    permute: bool = True,
    target_ms: float | None = None,
    threads: int = 1,
    progress: Progress = True,
    seed: int = 0,
    external: bool | None = None,
) -> PruneReport:
    """Write the model with fewer weights; blocks.

    model: a path (with external data beside it), bytes or an `onnx.ModelProto`; never changed.
    output: the file to write, replaced only when all went well.
    method: "channels" takes whole channels of Conv, ConvTranspose, Gemm and MatMul out, so that the
            graph gets smaller and faster everywhere; what residuals, concatenations, splits,
            reshapes and depthwise convolutions tie together goes together, and channels at
            operators without a rule stay (`report.unpruned` says why).
        "2:4" leaves two of every four weights along the summed axis: the pattern of sparse tensor
            cores. "magnitude" makes the smallest weights zero. Both keep all shapes.
    ratio: of "channels", the share of the removable channels to take, of which multiply-adds fall
        about with the square; of "magnitude", the share of weights that become zero.
    samples: real inputs, as all passes take them. They say what channels are worth, recover
        accuracy, and measure what is kept of it. Some tens do; hundreds recover more.
    metric: what is measured on `samples`: a name ("top1", "boxes", "ctc", "embedding", "cosine",
        "psnr", "max_error") for the agreement with the original, or a function of a run that
        returns a score from 0 to 1. None: "cosine", where there are samples.
    accuracy: the share of the original's score to keep; below it AccuracyLost is raised and
        nothing written.
    keep: layers to leave alone, as in `fp16`: names of nodes or outputs, operator types, wildcards.
    outputs: the model's outputs to keep; None: all. What only others need is removed.
    scope: "layer" takes `ratio` of each layer, "global" ranks all channels or weights together.
        None: "layer" for channels (in our trials it kept more), "global" for magnitudes.
    recover: fit what is left to what each layer gave before, on `samples`, without training: True
        or "weights", by least squares where that is best on held-back samples; "scale" and "bias"
        go no further than a scale and a bias for each channel; False: not at all.
    permute: with "2:4", reorder channels where more magnitude is kept so; the model computes the
        same in any order.
    target_ms: instead of `ratio`, of "channels": the least ratio with which a call takes so long
        here at most, measured by `zl.bench` with `threads` and the first sample (or random inputs).

    Raises NotFound, InvalidModel, InvalidArgument, Unsupported (nothing to prune, quantized
    already, a target that cannot be reached), AccuracyLost, Unavailable.
    """
    require("onnx", "onnx", "pruning a model")
    from zerolane.optimize.pruning.run import PruneOptions, run

    scope = scope or ("layer" if method == "channels" else "global")
    check(
        method=method,
        ratio=ratio,
        scope=scope,
        recover=recover,
        accuracy=accuracy,
        target_ms=target_ms,
        samples=samples,
        metric=metric,
    )
    options = PruneOptions(
        method=method,
        ratio=ratio,
        samples=samples,
        metric=metric,
        accuracy=accuracy,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        outputs=None if outputs is None else tuple(outputs),
        scope=scope,
        recover="weights" if recover is True else recover or None,
        permute=permute,
        target_ms=target_ms,
        threads=threads,
        progress=progress,
        seed=seed,
        external=external,
    )
    return run(model, Path(output), options)
