"""What `zl.optimize.graph` is asked for: its options, and which passes they choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zerolane.errors import InvalidArgument
from zerolane.measure.progress import Progress
from zerolane.measure.random_inputs import Shapes
from zerolane.optimize.samples import Samples

PASSES = ("inline", "opset", "cut", "batch", "fold", "fuse", "dedupe", "dead", "shapes")
"""In the order in which they run."""
SLIMMED = frozenset(("fold", "fuse", "dedupe"))
"""Those that the package onnxslim does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOptions:
    """The options of `zl.optimize.graph`, which describes them."""

    passes: Sequence[str] | None = None
    skip: Sequence[str] = ()
    inputs: Sequence[str] = ()
    outputs: Sequence[str] = ()
    opset: int | None = None
    batch: int | str | None = None
    samples: Samples | None = None
    shapes: Shapes | str | None = None
    seed: int = 0
    verify: bool = True
    tolerance: float = 1e-5
    fold_limit_bytes: int = 16 << 20
    onnxruntime_offline: Path | None = None
    progress: Progress = True
    external: bool | None = None


def chosen(options: GraphOptions) -> list[str]:
    """The passes to run, in order. Raises InvalidArgument."""
    for name in (*(options.passes or ()), *options.skip):
        if name not in PASSES:
            raise InvalidArgument(
                f"optimizing a model: there is no pass {name!r}, expected some of "
                f"{', '.join(PASSES)}; correct passes= or skip=",
                name,
            )
    asked = {
        "opset": options.opset is not None,
        "cut": bool(options.inputs or options.outputs),
        "batch": options.batch is not None,
    }
    for name, given in asked.items():
        if options.passes is not None and name in options.passes and not given:
            needs = "inputs= or outputs=" if name == "cut" else f"{name}="
            raise InvalidArgument(
                f"optimizing a model: the pass {name!r} was asked for without {needs}, expected "
                "both; say what it is to do",
                name,
            )
    if isinstance(options.batch, int) and options.batch < 1:
        raise InvalidArgument(
            f"optimizing a model: batch={options.batch} was given, expected a name or a number "
            "from 1 on; correct it",
            "batch",
        )
    listed = set(options.passes if options.passes is not None else PASSES)
    listed |= {name for name, given in asked.items() if given}
    return [n for n in PASSES if n in listed and n not in options.skip and asked.get(n, True)]
