"""One stage of a pipeline: what it runs, and what its inputs and outputs are called."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from zerolane import _native
from zerolane.errors import InvalidArgument
from zerolane.model.session import Session
from zerolane.ops.op import Op, OpType
from zerolane.types import Shape, TensorSpec

Kind = Literal["session", "op", "python", "pipeline"]
SpecRow = tuple[str, str, Shape | None]


class Stage:
    """A stage with its wiring spelled out, for `zl.Pipeline`.

    what: a session, a pipeline, an op with its attributes, or a Python callable.
    inputs: where each input comes from: {own input: tensor}, or tensors in order. A tensor is the
        name of an output of another stage ("boxes", or "stage.boxes" where several have that name);
        any other name is an input of the pipeline. None: the stage before it in the list.
    outputs: names for its outputs: {own output: name}, or names in order. Of a callable they say
        what it returns, by name or as `TensorSpec` with element type and shape.
    name: for messages, stats and traces; by default that of the model, op or function.
    device: "cpu" keeps an op on the host; "auto" puts one that has a CUDA body on the GPU where the
        pipeline has a model there.
    """

    def __init__(
        self,
        what: Session | Op | Callable[..., Any],
        *,
        inputs: Mapping[str, str] | Sequence[str] | None = None,
        outputs: Mapping[str, str] | Sequence[str | TensorSpec] | None = None,
        name: str | None = None,
        device: Literal["auto", "cpu"] = "auto",
    ) -> None:
        if isinstance(what, Stage):
            raise InvalidArgument("making a stage: a zl.Stage was given; give what it runs", "what")
        if device not in ("auto", "cpu"):
            raise InvalidArgument(
                f"making a stage: device is {device!r}, expected 'auto' or 'cpu'; models are where "
                "they were loaded",
                "device",
            )
        if device == "cpu" and not isinstance(what, Op):
            raise InvalidArgument(
                f"making a stage: device='cpu' was given for {default_name(what)!r}, which is no "
                "op; models are where they were loaded, and functions on the host",
                "device",
            )
        for role, given in (("inputs", inputs), ("outputs", outputs)):
            listed = isinstance(given, Mapping | Sequence) and not isinstance(given, str)
            if given is None or listed:
                continue
            raise InvalidArgument(
                f"making a stage: {role} is {given!r:.60}, expected a dict or a list of names; "
                f"give {role}=[{given!r:.60}]",
                role,
            )
        self.what = what
        self.inputs = inputs
        self.outputs = outputs
        self.name = name
        self.device = device

    def __repr__(self) -> str:
        return f"<zerolane.Stage {self.name or default_name(self.what)} ({kind_of(self.what)})>"


@dataclass
class Node:
    """A stage as the wiring sees it. Names of inputs and outputs are the stage's own."""

    name: str
    kind: Kind
    what: Any
    inputs: list[str]
    needed: list[str]
    outputs: list[str]
    variadic: bool = False  # takes any number of further inputs, by order
    optional_outputs: frozenset[str] = frozenset()
    output_specs: list[SpecRow] = field(default_factory=list)  # of a callable
    keywords: bool = False  # a callable that is given its inputs by name
    on_cpu: bool = False


def kind_of(what: object) -> Kind:
    """Raises InvalidArgument for what can be no stage."""
    if isinstance(what, Session):
        return "pipeline" if type(what).__name__ == "Pipeline" else "session"
    if isinstance(what, Op):
        return "op"
    if isinstance(what, OpType):
        short = what.name.split("::")[-1]
        raise InvalidArgument(
            f"making a pipeline: {what.name} is an op without its attributes; "
            f"write zl.ops.{short}(...)",
            what.name,
        )
    if callable(what) and not isinstance(what, _native.Session):
        return "python"
    raise InvalidArgument(
        f"making a pipeline: a stage is a {type(what).__name__}, expected a session, a pipeline, "
        "an op with its attributes or a callable; load a model with zl.load(path)",
        "stages",
    )


def default_name(what: Any) -> str:
    """The model's file, the op's own name or the function's."""
    if isinstance(what, Session):
        return os.path.splitext(what.name)[0] or "model"
    if isinstance(what, Op):
        return what.name.split("::")[-1]
    name = getattr(what, "__name__", type(what).__name__)
    return "python" if name == "<lambda>" else str(name)


def node_of(stage: Stage, name: str) -> Node:
    """Reads what a stage takes and gives."""
    what = stage.what
    kind = kind_of(what)
    on_cpu = stage.device == "cpu"
    if isinstance(what, Session):
        inputs = [spec.name for spec in (*what.inputs, *what.optional_inputs)]
        needed = [s.name for s in what.inputs if not s.type.startswith("optional(")]
        return Node(name, kind, what, inputs, needed, [s.name for s in what.outputs])
    if isinstance(what, Op):
        row = _native.find_op(what.name, what.version)
        assert row is not None  # an op that was made is defined
        arguments = row["inputs"]
        return Node(
            name,
            kind,
            what,
            [argument["name"] for argument in arguments],
            [argument["name"] for argument in arguments if argument["kind"] == "required"],
            [output["name"] for output in row["outputs"]],
            variadic=any(argument["kind"] == "variadic" for argument in arguments),
            optional_outputs=frozenset(
                output["name"] for output in row["outputs"] if output["kind"] != "required"
            ),
            on_cpu=on_cpu,
        )
    inputs, needed, variadic = _parameters(what)
    specs = _declared(stage, name)
    return Node(
        name,
        kind,
        what,
        inputs,
        needed,
        [row[0] for row in specs],
        variadic=variadic,
        output_specs=specs,
        on_cpu=on_cpu,
    )


def _parameters(function: Callable[..., Any]) -> tuple[list[str], list[str], bool]:
    """Names that it can be given, those that it needs, and whether it takes any number."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C, without a signature
        return [], [], True
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [p.name for p in positional]
    needed = [p.name for p in positional if p.default is p.empty]
    return names, needed, any(p.kind is p.VAR_POSITIONAL for p in parameters)


def _declared(stage: Stage, name: str) -> list[SpecRow]:
    """What a callable returns, as `outputs` says; one array of the stage's name otherwise."""
    if stage.outputs is None:
        return [(name, "", None)]
    if isinstance(stage.outputs, Mapping):
        raise InvalidArgument(
            f"making stage {name!r}: outputs is a dict, and a Python callable has no names of its "
            "own for what it returns; give a list of names or of zl.TensorSpec",
            name,
        )
    rows: list[SpecRow] = []
    for item in stage.outputs:
        if isinstance(item, TensorSpec):
            rows.append((item.name, item.dtype, item.shape))
        else:
            rows.append((str(item), "", None))
    return rows
