"""`zl.Pipeline`: stages that run one after the other as one session."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal

from zerolane import _native
from zerolane.model.session import Session, _result_type
from zerolane.pipeline.stage import Kind, Node
from zerolane.pipeline.wiring import InputSpecs, Wiring, by_name, wire
from zerolane.types import Options


@dataclass(frozen=True, slots=True)
class StageStats:
    """What one stage has done so far, in all calls together.

    share: its part of the time of all stages, 0 to 1. Times are in microseconds, within 3.2 %.
    """

    name: str
    kind: Kind
    count: int
    total_us: float
    share: float
    p50_us: float
    p90_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """The stages in the order in which they run. Print it for a table."""

    stages: tuple[StageStats, ...]

    def __getitem__(self, name: str) -> StageStats:
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        width = max(len(f"{s.name} ({s.kind})") for s in self.stages)
        lines = [f"{'stage':<{width}} {'count':>8} {'share':>6} {'p50 us':>9} {'p99 us':>9}"]
        for s in self.stages:
            title = f"{s.name} ({s.kind})"
            lines.append(
                f"{title:<{width}} {s.count:>8} {s.share:>6.1%} {s.p50_us:>9.1f} {s.p99_us:>9.1f}"
            )
        return "\n".join(lines)


class Pipeline(Session):
    """Stages as one session: models, ops, Python functions, and other pipelines.

    stages: a list; each entry is a session, an op with its attributes, a callable, or a `Stage`
        that spells its wiring out. An entry by itself takes what the one before it gives: by name,
        what is left by order.
    inputs: the pipeline's inputs in order, {name: element type, `TensorSpec` or None}. Only needed
        where the stages do not say (a Python function reads it, or an op that takes several types),
        or to fix the order.
    outputs: names of tensors to give, or {name: tensor}; by default the outputs of the last entry.
    gil, copy: as in `Options`.

    All stages of a call run on the calling thread (`submit` and `arun`: on a worker), natively and
    with intermediate tensors in memory that is used again; only Python stages take the GIL. Raises
    InvalidArgument and ShapeMismatch where stages do not fit each other, naming both.

    Everything that takes a session takes a pipeline. `backend` lists the backends of the stages,
    `why` says of each stage what it is.
    """

    _nodes: tuple[Node, ...]
    _made_of: tuple[tuple[Any, ...], dict[str, Any]]

    # All of it is made here: an object without its native part would crash the process.
    def __new__(
        cls,
        stages: Sequence[Any],
        *,
        inputs: InputSpecs | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        name: str = "pipeline",
        gil: Literal["auto", "hold", "release"] = "auto",
        copy: Literal["auto", "never"] = "auto",
    ) -> Pipeline:
        self: Pipeline = _native.Session.__new__(cls)
        options = Options(gil=gil, copy=copy)
        wiring = wire(stages, inputs, outputs, name)
        self._nodes = tuple(wiring.nodes)
        plan = {
            "name": name,
            "gpu": _gpu(wiring),
            "stages": [
                _row(node, sources)
                for node, sources in zip(wiring.nodes, wiring.sources, strict=True)
            ],
            "inputs": wiring.inputs,
            "outputs": [(public, *source) for public, source in wiring.outputs],
            "gil": gil,
            "copy": copy == "auto",
        }
        _native.Session.__init__(self, plan, _result_type)
        self._made_of = (
            tuple(stages),
            {"inputs": inputs, "outputs": outputs, "name": name, "gil": gil, "copy": copy},
        )
        devices = dict.fromkeys(
            node.what.device for node in wiring.nodes if isinstance(node.what, Session)
        )
        self._finish(
            None,
            {"options": options},
            ", ".join(dict.fromkeys(map(_backend, wiring.nodes))),
            next((device for device in devices if device != "cpu"), "cpu"),
            {},
        )
        self.why = MappingProxyType({node.name: _why(node) for node in wiring.nodes})
        return self

    def __init__(
        self,
        stages: Sequence[Any],
        *,
        inputs: InputSpecs | None = None,
        outputs: Mapping[str, str] | Sequence[str] | None = None,
        name: str = "pipeline",
        gil: Literal["auto", "hold", "release"] = "auto",
        copy: Literal["auto", "never"] = "auto",
    ) -> None:
        """Nothing is left to do; the arguments are those of `__new__` for type checkers."""

    @property
    def stages(self) -> tuple[str, ...]:
        """The names of the stages, in the order in which they run."""
        return tuple(node.name for node in self._nodes)

    def stats(self) -> PipelineStats:
        """Counts and times of each stage since the pipeline was made."""
        rows = _native.pipeline_stats(self)
        total = sum(row["total_us"] for row in rows) or 1.0
        return PipelineStats(
            tuple(StageStats(share=row["total_us"] / total, **row) for row in rows)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        stages, options = self._made_of
        for node in self._nodes:
            if node.kind != "python":
                continue
            try:
                pickle.dumps(node.what)
            except Exception as error:
                raise TypeError(
                    f"pickling {self.name}: its Python stage {node.name!r} cannot be pickled "
                    f"({error}); use a function of a module, by its name"
                ) from error
        return _again, (stages, options)

    def __repr__(self) -> str:
        stages = ", ".join(f"{node.name} ({node.kind})" for node in self._nodes)
        inside = Session.__repr__(self).split(": ", 1)[1].rstrip(">")
        return f"<zerolane.Pipeline {self.name!r} of {stages}: {inside}>"


def _again(stages: Sequence[Any], options: dict[str, Any]) -> Pipeline:
    return Pipeline(stages, **options)


def _row(node: Node, sources: Sequence[tuple[int, int] | None]) -> dict[str, Any]:
    function = node.what
    if node.kind == "python" and node.keywords:
        function = by_name(node.what, node.inputs)
    return {
        "name": node.name,
        "kind": node.kind,
        "object": function,
        "inputs": list(sources),
        "input_specs": [(name, "", None) for name in node.inputs],
        "output_specs": node.output_specs,
        "on_cpu": node.on_cpu,
    }


def _backend(node: Node) -> str:
    return str(node.what.backend) if isinstance(node.what, Session) else node.kind


def _why(node: Node) -> str:
    if isinstance(node.what, Session):
        return f"{node.kind} on {node.what.backend}, {node.what.device}"
    if node.kind == "op":
        return f"op {node.what.name}, native"
    return "a Python function: takes the GIL, and gets arrays"


def _gpu(wiring: Wiring) -> int:
    """The GPU that some model of the pipeline is on, or -1."""
    for node in wiring.nodes:
        if isinstance(node.what, Session) and node.what.device.startswith("cuda"):
            return int(node.what.device.partition(":")[2] or 0)
    return -1
