"""`zl.convert`: what it takes and promises; `work` does it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane._lazy import require

if TYPE_CHECKING:
    from zerolane.converters.report import ConvertReport


def convert(
    source: Any,
    output: str | os.PathLike[str],
    *,
    sample: Any = None,
    dynamic: Mapping[str, Mapping[int, str]] | None = None,
    outputs: Sequence[str] = (),
    opset: int | None = None,
    check: Sequence[Any] = (),
    verify: bool = True,
    tolerance: float = 1e-4,
    external: bool | None = None,
) -> ConvertReport:
    """Write a model of another framework as ONNX, and hold its numbers against the framework's.

    source: a torch.nn.Module, a torch.export.ExportedProgram or its .pt2 file; a fitted
        scikit-learn estimator or pipeline; a keras.Model, its .keras or .h5 file; the folder of a
        TensorFlow SavedModel; a .tflite file. Extras: torch, sklearn, tensorflow. Left unchanged; a
        module is exported as in eval().
    output: the file to write, replaced only when all went well.
    sample: inputs to trace and check with: an array or tensor, several in order, or a dict by name;
        a data frame for scikit-learn, each column then an input. A module needs one; for the
        others None means made-up numbers.
    dynamic: free dimensions by input and axis, {"x": {0: "N", 2: "T"}}. None: what the model itself
        leaves free, else the first dimension of each input that has as many rows as the first, as
        "N". {}: none.
    outputs: names for the outputs, in order. opset: None: 18 (TensorFlow: 17).
    check: more samples to check with, say of other sizes.
    verify: run both on the sample, with the batch in two other sizes where it is free, and on
        `check`. An output off by more than `tolerance` of its largest value, or of other values
        where it holds no floats (beyond that share), raises AccuracyLost.
    external: whether weights go to `<output>.data`; None: only beyond 2 GB.

    Paths and stack traces that exporters note in a model are taken out. Blocks. Raises
    InvalidArgument, InvalidModel, NotFound, Unsupported, AccuracyLost, Unavailable.
    """
    require("onnx", "onnx", "converting a model")
    from zerolane.converters.work import ConvertOptions, run

    options = ConvertOptions(
        sample=sample,
        dynamic=dynamic,
        outputs=(outputs,) if isinstance(outputs, str) else tuple(outputs),
        opset=opset,
        check=tuple(check),
        verify=verify,
        tolerance=tolerance,
        external=external,
    )
    return run(source, Path(output), options)
