"""`zl.optimize.graph`: what it takes and promises; `run` does it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerolane._lazy import require

if TYPE_CHECKING:
    from zerolane.measure.progress import Progress
    from zerolane.measure.random_inputs import Shapes
    from zerolane.model_file import Source
    from zerolane.optimize.graph_passes.report import GraphReport
    from zerolane.optimize.samples import Samples


def graph(
    model: Source,
    output: str | os.PathLike[str],
    *,
    passes: Sequence[str] | None = None,
    skip: Sequence[str] = (),
    inputs: Sequence[str] = (),
    outputs: Sequence[str] = (),
    opset: int | None = None,
    batch: int | str | None = None,
    samples: Samples | None = None,
    shapes: Shapes | str | None = None,
    seed: int = 0,
    verify: bool = True,
    tolerance: float = 1e-5,
    fold_limit_bytes: int = 16 << 20,
    onnxruntime_offline: str | os.PathLike[str] | None = None,
    progress: Progress = True,
    external: bool | None = None,
) -> GraphReport:
    """Write the model with a smaller graph that computes the same; blocks.

    model: a path (with external data beside it), bytes or an `onnx.ModelProto`; never changed.
    output: the file to write, replaced only when all went well.
    passes: which to run; None: all. skip: which not. In this order:
        inline  local functions are written out, initializers are no inputs
        opset   to `opset`, by onnx's version converter
        cut     to what lies between `inputs` and `outputs`, names of values; empty: the model's own
        batch   the first dimension of the inputs becomes `batch`, a name ("N") or a number; shapes
                that hold the old size are rewritten, or the node is named in Unsupported
        fold    what depends on no input is computed, up to `fold_limit_bytes` a constant
        fuse    batch norms, padding, factors and biases into convolutions; chains of reshapes and
                transposes
        dedupe  equal nodes and equal weights are kept once
        dead    what no output needs goes: nodes, weights, optional outputs, functions
        shapes  the inferred shape of every value is written down
    opset, cut and batch run where their options are given. fold, fuse and dedupe are onnxslim's.
    verify: after each pass, hold the model against the original in ONNX Runtime on `samples` (the
        first 16) or random values (`shapes`, `seed`: see `zl.bench`). A pass beyond `tolerance`,
        relative to an output's largest value, is left out with a UserWarning and named in the
        report; one that was asked for by an option raises Unsupported. A new batch is held against
        runs of the original on end, in two or three sizes.
    onnxruntime_offline: also write ONNX Runtime's own optimized model there, which only fits this
        processor and its release, and says so in its metadata.
    progress: a line on stderr where that is a terminal, or a function of (fraction, doing what).
    external: whether weights go to `<output>.data`. None: where the source has external data.

    Raises NotFound, InvalidModel, InvalidArgument, Unsupported, Unavailable.
    """
    require("onnx", "optimize", "optimizing a model")
    from zerolane.optimize.graph_passes.options import GraphOptions
    from zerolane.optimize.graph_passes.run import optimize_graph

    options = GraphOptions(
        passes=_names(passes) if passes is not None else None,
        skip=_names(skip),
        inputs=_names(inputs),
        outputs=_names(outputs),
        opset=opset,
        batch=batch,
        samples=samples,
        shapes=shapes,
        seed=seed,
        verify=verify,
        tolerance=tolerance,
        fold_limit_bytes=fold_limit_bytes,
        onnxruntime_offline=None if onnxruntime_offline is None else Path(onnxruntime_offline),
        progress=progress,
        external=external,
    )
    return optimize_graph(model, Path(output), options)


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)
