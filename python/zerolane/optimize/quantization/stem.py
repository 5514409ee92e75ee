"""A first convolution of few channels and stride 2, as one of four times the channels and stride 1.

ONNX Runtime's integer convolution gathers its input in pieces of one pixel's channels. Of an image
those are three bytes, and gathering takes longer than multiplying. SpaceToDepth makes twelve of
them and a quarter of the places; sums and products are the same, weights that were not there are 0.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from zerolane.model_file import Payloads
from zerolane.optimize.onnx_graph import Node, all_names, view

_FEW_CHANNELS = 4
_BLOCK = 2


def widen_stems(model: ModelProto, payloads: Payloads) -> list[str]:
    """Rewrites, in place, the convolutions of the model's inputs that gain; returns their names."""
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    made = []
    taken = all_names(model)
    for node in list(view(model).nodes):
        if node.op != "Conv" or node.inputs[0] is None or not _gains(node, shapes):
            continue
        x, weight = node.inputs[0].name, node.inputs[1]
        assert weight is not None
        assert weight.constant is not None
        floats = payloads.floats(weight.constant)
        top, left, bottom, right = _ints(node, "pads", [0, 0, 0, 0])
        size = shapes[x][2:]
        new_pads, shifts, taps = [], [], []
        for axis, (before, after) in enumerate(((top, bottom), (left, right))):
            kernel = floats.shape[2 + axis]
            out = (size[axis] + before + after - kernel) // _BLOCK + 1
            pad = -(-before // _BLOCK)
            shift = _BLOCK * pad - before
            count = -(-(kernel + shift) // _BLOCK)
            new_pads.append((pad, out - 1 + count - size[axis] // _BLOCK - pad))
            shifts.append(shift)
            taps.append(count)
        if min(p for pair in new_pads for p in pair) < 0:
            continue
        o, c, kh, kw = floats.shape
        wide = np.zeros((o, c, _BLOCK * taps[0], _BLOCK * taps[1]), np.float32)
        wide[:, :, shifts[0] : shifts[0] + kh, shifts[1] : shifts[1] + kw] = floats
        # Channels of SpaceToDepth: the place in the block first, then the old channel.
        split = wide.reshape(o, c, taps[0], _BLOCK, taps[1], _BLOCK).transpose(0, 3, 5, 1, 2, 4)
        values = np.ascontiguousarray(split).reshape(o, c * _BLOCK**2, *taps)
        names = [_fresh(f"{weight.name}_wide", taken), _fresh(f"{x}_blocks", taken)]
        tensor = TensorProto(name=names[0], data_type=TensorProto.FLOAT, dims=values.shape)
        payloads.add(tensor, values.reshape(-1).view(np.uint8))
        model.graph.initializer.append(tensor)
        _rewire(node.proto, names, new_pads, taps)
        blocks = helper.make_node("SpaceToDepth", [x], [names[1]], names[1], blocksize=_BLOCK)
        model.graph.node.insert(0, blocks)
        made.append(node.name)
    return made


def _gains(node: Node, shapes: dict[str, list[int]]) -> bool:
    x, weight = node.inputs[0], node.inputs[1]
    if x is None or weight is None or weight.constant is None or not weight.is_float:
        return False
    shape = shapes.get(x.name, [])
    automatic = node.attribute("auto_pad")
    return (
        len(shape) == 4
        and 0 < shape[1] <= _FEW_CHANNELS
        and all(n > 0 and n % _BLOCK == 0 for n in shape[2:])
        and _ints(node, "strides", [1, 1]) == [_BLOCK, _BLOCK]
        and _ints(node, "dilations", [1, 1]) == [1, 1]
        and len(weight.constant.dims) == 4
        and weight.constant.dims[1] == shape[1]
        and (automatic is None or automatic.s == b"NOTSET")
    )


def _ints(node: Node, name: str, default: list[int]) -> list[int]:
    attribute = node.attribute(name)
    return default if attribute is None else list(attribute.ints)


def _rewire(
    node: NodeProto, names: list[str], pads: list[tuple[int, int]], taps: list[int]
) -> None:
    node.input[0], node.input[1] = names[1], names[0]
    kept = [a for a in node.attribute if a.name not in ("pads", "strides", "kernel_shape")]
    kept = [type(a).FromString(a.SerializeToString()) for a in kept]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.attribute.append(helper.make_attribute("kernel_shape", taps))
    node.attribute.append(helper.make_attribute("strides", [1, 1]))
    order = [pads[0][0], pads[1][0], pads[0][1], pads[1][1]]
    node.attribute.append(helper.make_attribute("pads", order))


def _fresh(name: str, taken: set[str]) -> str:
    fresh, number = name, 2
    while fresh in taken:
        fresh, number = f"{name}_{number}", number + 1
    taken.add(fresh)
    return fresh
