"""`zl.optimize.bisect`: which few nodes must stay as they are; the others are changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane._lazy import require
from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    from zerolane.measure.accuracy import Metric
    from zerolane.measure.progress import Progress
    from zerolane.model_file import Source
    from zerolane.optimize.report import KeptNode
    from zerolane.optimize.samples import Samples

Build = Callable[[tuple[str, ...]], Any]
"""From the names of the nodes to leave alone to a changed model: a path, bytes or a ModelProto."""


@dataclass(frozen=True, slots=True)
class BisectReport:
    """The result of `zl.optimize.bisect`.

    found: the nodes that the search named. overflow: those that one run of the original named
    beforehand, as float16 does not hold what they make or read; all others were candidates.
    runs: models that were run on the samples, the original not counted. tried: nodes kept and
    score of each. score: of the result, its share of the original's score; least: what was wanted.
    """

    source: str
    output: str
    dtype: str
    metric: str
    found: tuple[KeptNode, ...]
    overflow: tuple[KeptNode, ...]
    nodes: int
    runs: int
    tried: tuple[tuple[int, float], ...]
    score: float
    least: float

    @property
    def keep(self) -> tuple[str, ...]:
        """All that has to be kept, for `keep=` of `zl.optimize.fp16` or an exclusion list."""
        return tuple(f"node:{k.node}" for k in (*self.overflow, *self.found))

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self) | {"keep": list(self.keep)}

    def __str__(self) -> str:
        lines = [
            f"{self.source} -> {self.output} ({self.dtype}): {len(self.keep)} of {self.nodes} "
            f"nodes kept, {self.metric} {self.score:.4g} of the original's (at least "
            f"{self.least:g} wanted), {self.runs} runs"
        ]
        lines += [f"  {k.op} {k.node}: {k.reason}" for k in (*self.overflow, *self.found)]
        if not self.keep:
            lines.append("  nothing has to be kept")
        return "\n".join(lines)


def bisect(
    model: Source,
    output: str | os.PathLike[str],
    samples: Samples,
    *,
    dtype: str = "float16",
    metric: Metric | None = None,
    accuracy: float = 0.99,
    tolerance: float | None = None,
    keep: Sequence[str] = (),
    keep_io: bool = True,
    build: Build | None = None,
    nodes: Sequence[str] | None = None,
    progress: Progress = True,
    external: bool | None = None,
) -> BisectReport:
    """Convert the model, leaving alone the fewest nodes with which it is accurate; blocks.

    model, output, keep, keep_io, external: as in `zl.optimize.fp16`. Runs on the CPU.
    samples: real inputs, see `zerolane.optimize.samples`; every candidate runs on all of them.
    dtype: "float16" or "bfloat16". Rounding after each node is emulated, as a GPU would do it.
    metric, accuracy: see `zerolane.measure.accuracy`; the result keeps that share of the original's
        score. Without a metric, outputs must be within `tolerance` of their largest value (0.02, or
        0.1 in bfloat16).
    build: another change than to `dtype`, say quantization: gets the names of nodes to leave alone
        and returns the changed model. nodes: then those to choose from, by name, in the order of
        the graph; None: all that multiply and add. A node without a name goes by its first output.

    In float16, one run first names the nodes whose values leave its range. Then the candidates that
    leave the first m nodes alone are halved: with N nodes, ceil(log2(N)) + 3 runs for one culprit,
    log2(N) + 1 for each further one. Raises AccuracyLost where not even leaving all alone helps,
    and what `zl.optimize.fp16` raises.
    """
    require("onnx", "onnx", "searching for nodes to keep")
    from zerolane.optimize.precision.bisect_run import BisectOptions, run

    if dtype not in ("float16", "bfloat16"):
        raise InvalidArgument(
            f"searching for nodes to keep: dtype={dtype!r} was given, expected 'float16' or "
            "'bfloat16'; for anything else give build=",
            "dtype",
        )
    if build is None and nodes is not None:
        raise InvalidArgument(
            "searching for nodes to keep: nodes= was given without build=, expected both; leave it "
            "out, and name what stays in any case in keep=",
            "nodes",
        )
    options = BisectOptions(
        dtype=dtype,
        metric=metric,
        accuracy=accuracy,
        tolerance=tolerance,
        keep=(keep,) if isinstance(keep, str) else tuple(keep),
        keep_io=keep_io,
        build=build,
        nodes=None if nodes is None else tuple(nodes),
        progress=progress,
        external=external,
    )
    return run(model, Path(output), samples, options)
