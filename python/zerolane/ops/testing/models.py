"""Models of one node, and sessions and engines of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from zerolane._arrays import numpy_dtype
from zerolane._lazy import require
from zerolane.ops.op import definition
from zerolane.ops.testing.case import Case


def input_names(case: Case) -> list[str]:
    """Of the model's inputs, "" for those that are left out; numbered, as variadic ones repeat."""
    rows = definition(case.op, case.version).inputs
    return [
        "" if array is None else f"{rows[min(i, len(rows) - 1)]['name']}_{i}"
        for i, array in enumerate(case.inputs)
    ]


def feeds(case: Case) -> dict[str, Any]:
    """The model's inputs by name."""
    return {n: a for n, a in zip(input_names(case), case.inputs, strict=True) if a is not None}


def one_node(case: Case, plan: list[tuple[str, list[int], bool]], *, fixed: bool) -> bytes:
    """A model with the case's op as its only node.

    plan: of the op for these inputs. fixed: with the inputs' shapes, else with their ranks alone.
    Outputs have an element type and no shape: that is for the op's shape function to say.
    """
    onnx: Any = require("onnx", "onnx", "making a model of one node")
    helper: Any = require("onnx.helper", "onnx", "making a model of one node")
    op = definition(case.op, case.version)
    domain, _, kind = op.name.partition("::")
    node = helper.make_node(
        kind,
        input_names(case),
        [row["name"] for row in op.outputs],
        name="node",
        domain=domain,
        **case.attributes,
    )
    values = [
        helper.make_tensor_value_info(
            name,
            _tensor_type(helper, array.dtype),
            [d if fixed else f"{name}_{axis}" for axis, d in enumerate(array.shape)],
        )
        for name, array in feeds(case).items()
    ]
    results = [
        helper.make_tensor_value_info(row["name"], _tensor_type(helper, numpy_dtype(dtype)), None)
        for row, (dtype, _, _) in zip(op.outputs, plan, strict=True)
    ]
    model = helper.make_model(
        helper.make_graph([node], kind, values, results),
        ir_version=9,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(domain, op.version)],
    )
    assert isinstance(model, onnx.ModelProto)
    data: bytes = model.SerializeToString()
    return data


def _tensor_type(helper: Any, dtype: np.dtype[Any]) -> int:
    found: int = helper.np_dtype_to_tensor_dtype(dtype)
    return found
