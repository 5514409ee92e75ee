"""`zl.optimize`: from a trained model to a faster file that is still right.

`fp16` and `bf16` write the narrower type into the ONNX graph, so that the same file runs in ONNX
Runtime and builds in TensorRT, where precision is strongly typed. Needs the package `onnx`, the
extra `zerolane[onnx]`, which is imported when a function is called. `quantize` goes on to 8 and 4
bits, from samples; `sensitivity` tells what each layer would lose by that. They need
`zerolane[optimize]`.

Folders: `graph_passes` (`graph`), `precision` (`fp16`, `bf16`, `bisect`), `quantization`
(`quantize`, `sensitivity`), `pruning` (`prune`, `to_torch`, `from_torch`), and `verification`,
which all of them share with the modules beside.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zerolane._lazy import require
from zerolane.optimize.graph_passes.api import graph
from zerolane.optimize.graph_passes.report import GraphReport, PassEffect
from zerolane.optimize.precision.bisection import BisectReport, bisect
from zerolane.optimize.pruning.entry import prune
from zerolane.optimize.pruning.report import PrunedLayer, PruneReport, UnprunedLayer
from zerolane.optimize.pruning.torch_weights import from_torch, to_torch
from zerolane.optimize.quantization.api import quantize, sensitivity
from zerolane.optimize.quantization.report import LayerError, QuantReport, SensitivityReport
from zerolane.optimize.report import (
    AccuracyLost,
    KeptNode,
    NodeError,
    OutputError,
    PrecisionReport,
)

if TYPE_CHECKING:
    from zerolane.measure.random_inputs import Shapes
    from zerolane.model_file import Source
    from zerolane.optimize.samples import Samples

__all__ = [
    "AccuracyLost",
    "BisectReport",
    "GraphReport",
    "KeptNode",
    "LayerError",
    "NodeError",
    "OutputError",
    "PassEffect",
    "PrecisionReport",
    "PruneReport",
    "PrunedLayer",
    "QuantReport",
    "SensitivityReport",
    "UnprunedLayer",
    "bf16",
    "bisect",
    "fp16",
    "from_torch",
    "graph",
    "prune",
    "quantize",
    "sensitivity",
    "to_torch",
]


def fp16(
    model: Source,
    output: str | os.PathLike[str],
    *,
    keep: Sequence[str] = (),
    keep_io: bool = True,
    keep_defaults: bool = True,
    upgrade: bool = True,
    verify: bool = True,
    samples: Samples | None = None,
    shapes: Shapes | str | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    by_node: bool = False,
    external: bool | None = None,
) -> PrecisionReport:
    """Write the model with float16 for float32 wherever its operators admit that; blocks.

    model: a path (with external data beside it), bytes or an `onnx.ModelProto`; never changed.
    output: the file to write, replaced only when all went well.
    keep: nodes to leave in float32: the name of a node or of one of its outputs, an operator type
        ("Softmax", "ai.onnx.ml.Scaler"), or either told apart ("node:head", "op:Softmax"); *, ? and
        [] are wildcards. A control-flow node keeps its bodies. An entry that fits nothing raises.
    keep_io: inputs and outputs stay float32. Otherwise they become float16, and the inputs and
        outputs of bodies of If, Loop and Scan still stay float32.
    keep_defaults: also keep what loses accuracy or has no kernels
        (`zerolane.optimize.precision.keep`).
    upgrade: raise the opset where that lets more nodes be converted (to 22 at most).
    verify: run both in ONNX Runtime on `samples` (an array, dicts of arrays by input name, a file
        or a folder: see `zerolane.optimize.samples`), or on one of random values (`shapes`,
        `seed`: see `zl.bench`).
    tolerance: the largest error allowed, relative to the largest value of an output; beyond it
        AccuracyLost is raised. None: a UserWarning beyond 0.02. NaN or infinity where the original
        is finite always raises, except with by_node.
    by_node: measure every node's values too; takes memory for all of them.
    external: whether weights go to `<output>.data`. None: where the source has external data. A
        file of 2 GB or more always does.

    Nodes that meet a constant beyond 65504 stay in float32, and so do those that carry it on. With
    samples, so do those that make or read a value which leaves float16's range on them: one run of
    the original finds all of these. What breaks for other reasons `bisect` finds.
    Raises NotFound, InvalidModel, InvalidArgument, Unsupported, AccuracyLost, Unavailable.
    """
    return _narrow(
        model,
        output,
        "float16",
        keep=keep,
        keep_io=keep_io,
        keep_defaults=keep_defaults,
        upgrade=upgrade,
        verify=verify,
        samples=samples,
        shapes=shapes,
        seed=seed,
        tolerance=tolerance,
        by_node=by_node,
        external=external,
    )


def bf16(
    model: Source,
    output: str | os.PathLike[str],
    *,
    keep: Sequence[str] = (),
    keep_io: bool = True,
    keep_defaults: bool = True,
    upgrade: bool = True,
    verify: bool = True,
    samples: Samples | None = None,
    shapes: Shapes | str | None = None,
    seed: int = 0,
    tolerance: float | None = None,
    by_node: bool = False,
    external: bool | None = None,
) -> PrecisionReport:
    """Write the model with bfloat16 for float32: as `fp16`, with the range of float32 and 8 bits.

    Most operators take bfloat16 from opset 13 on, convolutions and recurrent ones from 22: the
    model is upgraded where onnx's converter can. ONNX Runtime's CPU provider has few bfloat16
    kernels, so the result is verified by an emulation, and may not load there at all. Without
    `tolerance`, a UserWarning tells of errors beyond 0.1.
    """
    return _narrow(
        model,
        output,
        "bfloat16",
        keep=keep,
        keep_io=keep_io,
        keep_defaults=keep_defaults,
        upgrade=upgrade,
        verify=verify,
        samples=samples,
        shapes=shapes,
        seed=seed,
        tolerance=tolerance,
        by_node=by_node,
        external=external,
    )


def _narrow(
    model: Source,
    output: str | os.PathLike[str],
    dtype: str,
    *,
    keep: Sequence[str],
    keep_io: bool,
    keep_defaults: bool,
    upgrade: bool,
    verify: bool,
    samples: Samples | None,
    shapes: Shapes | str | None,
    seed: int,
    tolerance: float | None,
    by_node: bool,
    external: bool | None,
) -> PrecisionReport:
    require("onnx", "onnx", f"converting a model to {dtype}")
    from zerolane.optimize.precision.narrow import NarrowOptions, narrow

    options = NarrowOptions(
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        keep_io=keep_io,
        keep_defaults=keep_defaults,
        upgrade=upgrade,
        verify=verify,
        samples=samples,
        shapes=shapes,
        seed=seed,
        tolerance=tolerance,
        by_node=by_node,
        external=external,
    )
    return narrow(model, Path(output), dtype, options)
