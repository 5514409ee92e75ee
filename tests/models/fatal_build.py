"""What the `fatal_*` modules share: the row type, model builders and wrappers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
MS = "com.microsoft"


class Built(NamedTuple):
    """A model and the inputs, by name, of the run that ends the process."""

    model: onnx.ModelProto
    inputs: dict[str, Array]


class Case(NamedTuple):
    """`ends`: SIGABRT, SIGFPE, SIGSEGV or hang. `needs_fusion`: only at graph level "all"."""

    build: Callable[[], Built]
    op: str
    trigger: str
    ends: str
    needs_fusion: bool = False

    @property
    def name(self) -> str:
        return self.build.__name__


def zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def value_info(name: str, array: Array, free_rank: bool) -> onnx.ValueInfoProto:
    """A graph input of the array's type; dimensions (or the rank as well) are left open."""
    shape = None if free_rank else [f"{name}_{axis}" for axis in range(array.ndim)]
    elem_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, elem_type, shape)


def network(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Array],
    constants: dict[str, Array] | None = None,
    *,
    outputs: Sequence[tuple[str, int]] = (("y", TensorProto.FLOAT),),
    opset: int = 18,
    free_rank: bool = False,
) -> Built:
    graph = helper.make_graph(
        list(nodes),
        "fatal",
        [value_info(name, array, free_rank) for name, array in inputs.items()],
        [helper.make_tensor_value_info(name, elem_type, None) for name, elem_type in outputs],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MS, 1)]
    return Built(helper.make_model(graph, opset_imports=opsets, ir_version=9), inputs)


def single(
    op: str,
    arrays: Sequence[Array | None],
    *,
    domain: str = "",
    constant: Sequence[int] = (),
    outputs: Sequence[int] = (TensorProto.FLOAT,),
    opset: int = 18,
    free_rank: bool = False,
    **attributes: Any,
) -> Built:
    """One node with inputs x0, x1, ... and outputs y, y1, ...

    An input that is None is left out; those whose index is in `constant` are initializers.
    """
    names = ["" if array is None else f"x{i}" for i, array in enumerate(arrays)]
    results = [("y" if i == 0 else f"y{i}", elem_type) for i, elem_type in enumerate(outputs)]
    node = helper.make_node(op, names, [name for name, _ in results], domain=domain, **attributes)
    given = {f"x{i}": array for i, array in enumerate(arrays) if array is not None}
    constants = {f"x{i}": given.pop(f"x{i}") for i in constant}
    return network([node], given, constants, outputs=results, opset=opset, free_rank=free_rank)


def _outputs(model: onnx.ModelProto, prefix: str) -> list[onnx.ValueInfoProto]:
    copies = []
    for value in model.graph.output:
        copy = onnx.ValueInfoProto()
        copy.CopyFrom(value)
        copy.name = prefix + value.name
        copies.append(copy)
    return copies


def _wrapped(
    built: Built, nodes: Sequence[onnx.NodeProto], inputs: dict[str, Array]
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """The model with `nodes` for its own, outputs named outer_*, and `inputs` put in front."""
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    graph = model.graph
    own = list(graph.input)
    for field in (graph.node, graph.initializer, graph.input, graph.output):
        del field[:]
    graph.node.extend(nodes)
    graph.input.extend([value_info(name, array, False) for name, array in inputs.items()])
    graph.input.extend(own)
    graph.output.extend(_outputs(built.model, "outer_"))
    return model, inputs | built.inputs


def in_if(built: Built) -> Built:
    """The nodes in both branches of an If; their inputs come from the outer graph."""
    inner = built.model.graph
    branch = helper.make_graph(inner.node, "branch", [], inner.output, inner.initializer)
    names = [value.name for value in _outputs(built.model, "outer_")]
    node = helper.make_node("If", ["choose"], names, then_branch=branch, else_branch=branch)
    return Built(*_wrapped(built, [node], {"choose": np.array(True)}))


def in_loop(built: Built) -> Built:
    """The nodes in the body of a Loop that turns once; their inputs come from the outer graph."""
    inner = built.model.graph
    flags = [helper.make_tensor_value_info(n, TensorProto.BOOL, []) for n in ("go_in", "go_out")]
    body = helper.make_graph(
        [helper.make_node("Identity", ["go_in"], ["go_out"]), *inner.node],
        "body",
        [helper.make_tensor_value_info("turn", TensorProto.INT64, []), flags[0]],
        [flags[1], *inner.output],
        inner.initializer,
    )
    names = [value.name for value in _outputs(built.model, "outer_")]
    node = helper.make_node("Loop", ["turns", ""], names, body=body)
    return Built(*_wrapped(built, [node], {"turns": np.array(1, np.int64)}))


def in_function(built: Built) -> Built:
    """The nodes as a model-local function, called once."""
    inner = built.model.graph
    constants = [helper.make_node("Constant", [], [t.name], value=t) for t in inner.initializer]
    names = list(built.inputs)
    function = helper.make_function(
        "local",
        "Body",
        names,
        [value.name for value in inner.output],
        [*constants, *inner.node],
        built.model.opset_import,
    )
    outputs = [value.name for value in _outputs(built.model, "outer_")]
    node = helper.make_node("Body", names, outputs, domain="local")
    model, inputs = _wrapped(built, [node], {})
    model.opset_import.append(helper.make_opsetid("local", 1))
    model.functions.append(function)
    return Built(model, inputs)


def after(
    built: Built, name: str, nodes: Sequence[onnx.NodeProto], inputs: dict[str, Array]
) -> Built:
    """`nodes` compute the value that was the input `name`, from `inputs`."""
    model = onnx.ModelProto()
    model.CopyFrom(built.model)
    kept = [value for value in model.graph.input if value.name != name]
    old = list(model.graph.node)
    del model.graph.input[:]
    del model.graph.node[:]
    model.graph.input.extend([value_info(key, array, False) for key, array in inputs.items()])
    model.graph.input.extend(kept)
    model.graph.node.extend([*nodes, *old])
    return Built(model, inputs | {k: v for k, v in built.inputs.items() if k != name})
