"""What a model must be before the cast pass: one graph, plain constants, a young enough opset."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, TensorProto, defs, inliner, numpy_helper
from onnx import version_converter as converter

from zerolane.errors import Unsupported
from zerolane.optimize.onnx_graph import bodies_of, opsets, view
from zerolane.optimize.precision import keep as rules

NEWEST_OPSET = 22
"""An upgrade goes no further: what ONNX Runtime 1.20 (and TensorRT's parsers) read."""


def inline_functions(model: ModelProto, name: str, notes: list[str]) -> ModelProto:
    """The model with its local functions written out where they are called."""
    if not model.functions:
        return model
    count = len(model.functions)
    try:
        inlined: ModelProto = inliner.inline_local_functions(model)
    except Exception as error:  # the inliner raises what its C++ side does
        raise _not_inlined(name, count, str(error)) from error
    if inlined.functions:
        left = ", ".join(f.name for f in inlined.functions)
        raise _not_inlined(name, count, f"{left} are left")
    notes.append(f"{count} local functions inlined")
    return inlined


def plain_inputs(model: ModelProto, notes: list[str]) -> None:
    """Before IR version 4 every initializer is listed as an input too: take those away."""
    if model.ir_version >= 4:
        return
    constant = {t.name for t in model.graph.initializer}
    rest = [v for v in model.graph.input if v.name not in constant]
    if len(rest) < len(model.graph.input):
        kept = [type(v).FromString(v.SerializeToString()) for v in rest]
        del model.graph.input[:]
        model.graph.input.extend(kept)
        notes.append(f"IR version {model.ir_version} -> 4: initializers are no inputs any more")
    model.ir_version = 4


def plain_constants(graph: GraphProto) -> None:
    """Constants given as `value_float` or `value_floats` become tensors, in bodies too."""
    for node in graph.node:
        for body in bodies_of(node):
            plain_constants(body)
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
            continue
        for attribute in node.attribute:
            if attribute.name == "value_float":
                array = np.asarray(attribute.f, np.float32)
            elif attribute.name == "value_floats":
                array = np.asarray(list(attribute.floats), np.float32)
            else:
                continue
            tensor = numpy_helper.from_array(array)
            attribute.Clear()
            attribute.name, attribute.type = "value", AttributeProto.TENSOR
            attribute.t.CopyFrom(tensor)


def upgrade(model: ModelProto, dtype: str, notes: list[str]) -> ModelProto:
    """The model at the lowest opset that lets the most nodes go to `dtype`, if it converts safely.

    Safely: onnx's version converter takes it, and inputs, outputs, the large tensors and the set
    of bodies are still there. Numbers are compared later, as for the whole pass.
    """
    version = opsets(model).get("", 1)
    target, blocked = _best_opset(model, version, dtype)
    if target == version:
        return model
    operators = ", ".join(blocked)
    newer, why = converted(model, target)
    if newer is None:
        _say_not_upgraded(notes, version, target, operators, dtype, why)
        return model
    notes.append(f"opset {version} -> {target}, so that {operators} can take {dtype}")
    return newer


def converted(model: ModelProto, target: int) -> tuple[ModelProto | None, str]:
    """The model in another opset by onnx's converter; None and why where that does not do."""
    try:
        newer = converter.convert_version(model, target)
    except Exception as error:  # the converter raises what its C++ side does
        return None, (str(error).splitlines() or [type(error).__name__])[0]
    if _signature(newer) != _signature(model):
        return None, "inputs or weights were lost"
    for other in model.opset_import:
        if other.domain not in ("", "ai.onnx") and other.domain not in opsets(newer):
            newer.opset_import.add(domain=other.domain, version=other.version)
    newer.ir_version = max(model.ir_version, newer.ir_version)
    return newer, ""


def _best_opset(model: ModelProto, version: int, dtype: str) -> tuple[int, list[str]]:
    newest = min(NEWEST_OPSET, int(defs.onnx_opset_version()))
    target, blocked = version, []
    for node in view(model).walk():
        if not rules.computes(node) or node.proto.domain not in ("", "ai.onnx"):
            continue
        if rules.type_reason(node) or rules.fragile_reason(node, dtype):
            continue
        if rules.schema_reason(node, dtype) is None:
            continue
        wanted = _first_admitting(node.proto.op_type, dtype, version, newest)
        if wanted is not None:
            target = max(target, wanted)
            blocked.append(node.proto.op_type)
    return target, sorted(set(blocked))


def _first_admitting(op: str, dtype: str, version: int, newest: int) -> int | None:
    """The first opset after `version` in which `op` has a constraint with float32 and `dtype`."""
    for later in range(version + 1, newest + 1):
        try:
            schema = defs.get_schema(op, later, "")
        except defs.SchemaError:
            return None
        if schema.deprecated:
            return None
        for constraint in schema.type_constraints:
            allowed = constraint.allowed_type_strs
            if "tensor(float)" in allowed and f"tensor({dtype})" in allowed:
                return later
    return None


def _signature(model: ModelProto) -> tuple[object, ...]:
    def bodies(graph: GraphProto) -> int:
        inner = [body for node in graph.node for body in bodies_of(node)]
        return len(inner) + sum(bodies(body) for body in inner)

    places = sorted(
        (t.name, t.data_type, tuple(t.dims), tuple(e.value for e in t.external_data))
        for t in model.graph.initializer
        if t.data_location == TensorProto.EXTERNAL
    )
    values = [
        (v.name, v.type.SerializeToString(deterministic=True))
        for v in (*model.graph.input, *model.graph.output)
    ]
    return places, values, bodies(model.graph)


def _say_not_upgraded(
    notes: list[str], version: int, target: int, operators: str, dtype: str, why: str
) -> None:
    notes.append(
        f"opset {version} kept: onnx's version converter cannot take the model to {target} "
        f"({why}), so {operators or 'all operators'} cannot take {dtype}"
    )


def _not_inlined(name: str, count: int, found: str) -> Unsupported:
    return Unsupported(
        f"converting {name}: its {count} local functions could not be inlined ({found}), expected "
        "a model without functions; export it without them, or inline them with onnx.inliner",
        name,
    )
