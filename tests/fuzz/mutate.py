"""Damaged models: every case is a number, and the same number is always the same damage."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from tests.models import large, small, task_checks

SIZES = (0, 0, 1, 2, 3, 7, 64, -1, 2**31 - 1, 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
NUMBERS = (*SIZES, -2, 8, 16, 255, -128)
FLOATS = (0.0, -1.0, 1e-45, 3e38, float("inf"), float("nan"))


@cache
def seeds() -> tuple[tuple[str, bytes], ...]:
    """Every test model by name; the large one last."""
    models: dict[str, ModelProto] = {
        "relu": small.relu(),
        "add": small.add(),
        "int_div": small.int_div(),
        "cast": small.cast("float32", "int8"),
        "string_normalizer": small.string_normalizer(),
        "dynamic_dims": small.dynamic_dims(),
        "unknown_rank": small.unknown_rank(),
        "nonzero": small.nonzero(),
        "doubled_rows": small.doubled_rows(),
        "sum_and_size": small.sum_and_size(),
        "sequence_output": small.sequence_output(),
        "sequence_input": small.sequence_input(),
        "map_output": small.map_output(),
        "map_output_string": small.map_output("string"),
        "map_input": small.map_input(),
        "optional_input": small.optional_input(),
        "overridable_initializer": small.overridable_initializer(),
        "control_policy": small.control_policy(),
        "matmul_chain": small.matmul_chain(3, 16),
        "long_loop": small.long_loop(8),
    }
    for element in sorted(small.ELEMENT_TYPES):
        models[f"identity_{element}"] = small.identity(element)
        models[f"passthrough_{element}"] = small.passthrough(element)
    found = [(name, model.SerializeToString()) for name, model in models.items()]
    found += [(n, (task_checks.FOLDER / f"{n}.onnx").read_bytes()) for n in task_checks.TRAINED]
    found.append(("text_embed", large.text_embed().SerializeToString()))
    return tuple(found)


@cache
def parsed(index: int) -> ModelProto:
    return onnx.load_from_string(seeds()[index][1])


def choose_seed(rng: random.Random) -> int:
    """A trained model half of the time, the large one now and then."""
    count = len(seeds())
    trained = len(task_checks.TRAINED)
    if rng.random() < 0.01:
        return count - 1
    if rng.random() < 0.5:
        return count - 1 - trained + rng.randrange(trained)
    return rng.randrange(count - 1 - trained)


def case(number: int) -> tuple[str, bytes]:
    """What was done to which model, and the damaged bytes."""
    rng = random.Random(f"zerolane {number}")
    index = choose_seed(rng)
    name, content = seeds()[index]
    if rng.random() < 0.4:
        edit = rng.choice(BYTE_EDITS)
        return f"{name}: {edit.__name__}", edit(content, rng)
    model = ModelProto()
    model.CopyFrom(parsed(index))
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        edit_model = rng.choice(MODEL_EDITS)
        try:
            edit_model(model, rng)
        except Exception:  # nothing there to edit, or a value that the format cannot hold
            continue
        done.append(edit_model.__name__)
    return f"{name}: {', '.join(done)}", model.SerializeToString()


# Bytes


def position(content: bytes, rng: random.Random) -> int:
    """Mostly near the ends, where the structure is; weights fill the middle."""
    reach = min(len(content), 2000)
    kind = rng.random()
    if kind < 0.4:
        return rng.randrange(reach)
    if kind < 0.8:
        return len(content) - 1 - rng.randrange(reach)
    return rng.randrange(len(content))


def flip_bits(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        out[position(content, rng)] ^= 1 << rng.randrange(8)
    return bytes(out)


def set_bytes(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        out[position(content, rng)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(out)


def truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: position(content, rng)]


def cut_out(content: bytes, rng: random.Random) -> bytes:
    start = position(content, rng)
    return content[:start] + content[start + rng.choice((1, 2, 8, 100)) :]


def insert(content: bytes, rng: random.Random) -> bytes:
    at = position(content, rng)
    return content[:at] + rng.randbytes(rng.choice((1, 2, 8, 100))) + content[at:]


def splice(content: bytes, rng: random.Random) -> bytes:
    _, other = seeds()[choose_seed(rng)]
    return content[: position(content, rng)] + other[position(other, rng) :]


def repeat_part(content: bytes, rng: random.Random) -> bytes:
    start = position(content, rng)
    part = content[start : start + rng.choice((4, 30, 300))]
    return content[:start] + part * rng.choice((2, 3, 50)) + content[start:]


BYTE_EDITS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip_bits, flip_bits, set_bytes, set_bytes, truncate, cut_out, insert, splice, repeat_part),
)


# Structure


def graphs(model: ModelProto) -> list[GraphProto]:
    found = [model.graph]
    for graph in found:
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.GRAPH:
                    found.append(attribute.g)
    return found


def nodes(model: ModelProto) -> list[NodeProto]:
    return [node for graph in graphs(model) for node in graph.node]


def values(model: ModelProto) -> list[ValueInfoProto]:
    return [
        value
        for graph in graphs(model)
        for value in (*graph.input, *graph.output, *graph.value_info)
    ]


def tensors(model: ModelProto) -> list[TensorProto]:
    found = [tensor for graph in graphs(model) for tensor in graph.initializer]
    for node in nodes(model):
        found += [a.t for a in node.attribute if a.type == AttributeProto.TENSOR]
    return found


def names(model: ModelProto) -> list[str]:
    found = [value.name for value in values(model)]
    found += [name for node in nodes(model) for name in (*node.input, *node.output)]
    return [*found, *(tensor.name for tensor in tensors(model)), ""]


def tensor_types(model: ModelProto) -> Iterator[Any]:
    for value in values(model):
        if value.type.HasField("tensor_type"):
            yield value.type.tensor_type


def set_dimension(model: ModelProto, rng: random.Random) -> None:
    kind = rng.choice(list(tensor_types(model)))
    rng.choice(kind.shape.dim).dim_value = rng.choice(SIZES)


def name_dimension(model: ModelProto, rng: random.Random) -> None:
    kind = rng.choice(list(tensor_types(model)))
    rng.choice(kind.shape.dim).dim_param = rng.choice(("N", "", "x" * 300, "N\0"))


def change_rank(model: ModelProto, rng: random.Random) -> None:
    kind = rng.choice(list(tensor_types(model)))
    if rng.random() < 0.5:
        kind.shape.dim.add().dim_value = rng.choice(SIZES)
    else:
        del kind.shape.dim[rng.randrange(len(kind.shape.dim))]


def drop_shape(model: ModelProto, rng: random.Random) -> None:
    rng.choice(list(tensor_types(model))).ClearField("shape")


def change_value_dtype(model: ModelProto, rng: random.Random) -> None:
    rng.choice(list(tensor_types(model))).elem_type = rng.choice((*range(27), 99, -1))


def change_tensor_dtype(model: ModelProto, rng: random.Random) -> None:
    rng.choice(tensors(model)).data_type = rng.choice((*range(27), 99, -1))


def change_tensor_dimension(model: ModelProto, rng: random.Random) -> None:
    dims = rng.choice(tensors(model)).dims
    if rng.random() < 0.2:
        dims.append(rng.choice(SIZES))
    elif rng.random() < 0.2:
        del dims[rng.randrange(len(dims))]
    else:
        dims[rng.randrange(len(dims))] = rng.choice(SIZES)


def resize_tensor(model: ModelProto, rng: random.Random) -> None:
    """A tensor whose dimensions and data agree, of another size."""
    tensor = rng.choice(tensors(model))
    array = onnx.numpy_helper.to_array(tensor)
    axis = rng.randrange(array.ndim)
    size = rng.choice((0, 1, 2, array.shape[axis] + 1))
    shape = (*array.shape[:axis], size, *array.shape[axis + 1 :])
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.resize(array, shape), tensor.name))


def change_tensor_values(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice([t for t in tensors(model) if t.data_type == TensorProto.INT64])
    array = onnx.numpy_helper.to_array(tensor).copy()
    array.flat[rng.randrange(array.size)] = rng.choice(NUMBERS)
    tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))


def cut_tensor_data(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(tensors(model))
    tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]


def make_external(model: ModelProto, rng: random.Random) -> None:
    tensor = rng.choice(tensors(model))
    tensor.data_location = TensorProto.EXTERNAL
    path = rng.choice(("/etc/passwd", "../x", "none.bin", "", "/dev/zero", "*/_ORT_MEM_ADDR_/*"))
    for key, value in (("location", path), ("offset", rng.choice(NUMBERS)), ("length", "8")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def change_operator(model: ModelProto, rng: random.Random) -> None:
    known = [node.op_type for i in range(len(seeds()) - 1) for node in parsed(i).graph.node]
    rng.choice(nodes(model)).op_type = rng.choice((*known, *EXTRA_OPERATORS, "", "Nonsense"))


EXTRA_OPERATORS = (
    *("LSTM", "GRU", "RNN", "Conv", "ConvTranspose", "MaxPool", "Resize", "Scan", "If", "TopK"),
    *("Einsum", "GatherND", "ScatterND", "Slice", "Split", "Tile", "Unique", "NonMaxSuppression"),
    *("Reshape", "Concat", "OneHot", "CumSum", "Where", "Range", "SequenceAt", "StringConcat"),
)


def change_domain(model: ModelProto, rng: random.Random) -> None:
    rng.choice(nodes(model)).domain = rng.choice(("ai.onnx.ml", "com.microsoft", "nowhere", ""))


def change_attribute(model: ModelProto, rng: random.Random) -> None:
    attribute = rng.choice([a for node in nodes(model) for a in node.attribute])
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = rng.choice(NUMBERS)
    elif kind == AttributeProto.INTS:
        if rng.random() < 0.3:
            attribute.ints.append(rng.choice(NUMBERS))
        elif rng.random() < 0.3:
            del attribute.ints[rng.randrange(len(attribute.ints)) :]
        else:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
    elif kind == AttributeProto.FLOAT:
        attribute.f = rng.choice(FLOATS)
    elif kind == AttributeProto.FLOATS:
        attribute.floats[rng.randrange(len(attribute.floats))] = rng.choice(FLOATS)
    elif kind == AttributeProto.STRING:
        attribute.s = rng.choice((b"", b"NOTSET", b"\xff\xfe", b"x" * 1000))
    elif kind == AttributeProto.STRINGS:
        del attribute.strings[rng.randrange(len(attribute.strings)) :]
    else:
        attribute.type = rng.randrange(15)


def drop_attribute(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in nodes(model) if node.attribute])
    del node.attribute[rng.randrange(len(node.attribute))]


def retype_attribute(model: ModelProto, rng: random.Random) -> None:
    rng.choice([a for node in nodes(model) for a in node.attribute]).type = rng.randrange(15)


def rewire_input(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in nodes(model) if node.input])
    node.input[rng.randrange(len(node.input))] = rng.choice(names(model))


def drop_input(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in nodes(model) if node.input])
    del node.input[rng.randrange(len(node.input))]


def add_input(model: ModelProto, rng: random.Random) -> None:
    rng.choice(nodes(model)).input.append(rng.choice(names(model)))


def rename_output(model: ModelProto, rng: random.Random) -> None:
    node = rng.choice([node for node in nodes(model) if node.output])
    node.output[rng.randrange(len(node.output))] = rng.choice(names(model))


def drop_node(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice([graph for graph in graphs(model) if graph.node])
    del graph.node[rng.randrange(len(graph.node))]


def repeat_node(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice([graph for graph in graphs(model) if graph.node])
    graph.node.add().CopyFrom(rng.choice(graph.node))


def move_node(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice([graph for graph in graphs(model) if len(graph.node) > 1])
    old = GraphProto()
    old.CopyFrom(graph)
    del graph.node[:]
    graph.node.extend(rng.sample(list(old.node), len(old.node)))


def drop_tensor(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice([graph for graph in graphs(model) if graph.initializer])
    del graph.initializer[rng.randrange(len(graph.initializer))]


def rename_value(model: ModelProto, rng: random.Random) -> None:
    rng.choice(values(model)).name = rng.choice(
        (*names(model), "", "\udcff".encode().hex(), "n" * 999)
    )


def drop_value(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice(graphs(model))
    values = rng.choice((graph.input, graph.output))
    del values[rng.randrange(len(values))]


def repeat_value(model: ModelProto, rng: random.Random) -> None:
    graph = rng.choice(graphs(model))
    values = rng.choice((graph.input, graph.output))
    values.add().CopyFrom(rng.choice(values))


def change_type(model: ModelProto, rng: random.Random) -> None:
    value, other = rng.choice(values(model)), rng.choice(values(parsed(choose_seed(rng))))
    value.type.CopyFrom(other.type)


def change_versions(model: ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.3:
        model.ir_version = rng.choice((0, 1, 3, 8, 13, 9999, -1))
    else:
        rng.choice(model.opset_import).version = rng.choice((0, 1, 7, 11, 13, 17, 21, 999, -5))


def nest(model: ModelProto, rng: random.Random) -> None:
    """A subgraph put deep into itself."""
    node = rng.choice(nodes(model))
    for _ in range(rng.choice((1, 5, 40))):
        graph = GraphProto()
        graph.name = "inner"
        graph.node.add().CopyFrom(node)
        node = NodeProto(op_type="If", input=list(node.input)[:1], output=list(node.output)[:1])
        for name in ("then_branch", "else_branch"):
            attribute = node.attribute.add()
            attribute.name, attribute.type = name, AttributeProto.GRAPH
            if name == "then_branch":
                attribute.g.CopyFrom(graph)
    model.graph.node.add().CopyFrom(node)


MODEL_EDITS: tuple[Callable[[ModelProto, random.Random], None], ...] = (
    *(set_dimension, set_dimension, name_dimension, change_rank, drop_shape, change_value_dtype),
    *(change_tensor_dtype, change_tensor_dimension, resize_tensor, change_tensor_values),
    *(cut_tensor_data, make_external, change_operator, change_operator, change_domain),
    *(change_attribute, change_attribute, drop_attribute, retype_attribute, rewire_input),
    *(rewire_input, drop_input, add_input, rename_output, drop_node, repeat_node, move_node),
    *(drop_tensor, rename_value, drop_value, repeat_value, change_type, change_versions, nest),
)
