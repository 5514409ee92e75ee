"""Channels taken out of a graph: the smaller one computes what the whole one does without them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are pruned with onnx")

import zerolane as zl  # noqa: E402
from tests.optimize import nets  # noqa: E402
from tests.optimize.nets import Net, Tied  # noqa: E402
from zerolane import model_file as files  # noqa: E402
from zerolane.optimize.macs import node_macs  # noqa: E402
from zerolane.optimize.pruning.choose import blocks, choose, pinned  # noqa: E402
from zerolane.optimize.pruning.flow import Flow, array_of, set_array  # noqa: E402
from zerolane.optimize.pruning.permute import permute  # noqa: E402
from zerolane.optimize.pruning.shrink import follow, prepare, shrink  # noqa: E402


def flow_of(model: onnx.ModelProto) -> Flow:
    loaded = files.read(model, "testing")
    prepare(loaded.model)
    return follow(loaded.model, loaded.payloads)


def run(model: onnx.ModelProto, feeds: dict[str, Any]) -> list[Any]:
    # Without fusions, so that sums are of the same terms.
    session = zl.load(model.SerializeToString(), graph_level="basic")
    return list(session.run(feeds).values())


def without(flow: Flow, gone: set[int]) -> onnx.ModelProto:
    """The whole model, in which nothing makes or reads the channels that are to go."""
    for name, axes in flow.weights.items():
        tensor = flow.constants[name]
        weight = array_of(tensor, flow.payloads).copy()
        for axis, ids in enumerate(axes):
            if ids is not None:
                lost = np.isin(flow.channels.classes(ids), sorted(gone))
                np.moveaxis(weight, axis, 0)[lost] = 0
        set_array(tensor, flow.payloads, weight)
    return files.fill(flow.model, flow.payloads)


@pytest.mark.parametrize("make", nets.TIED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_smaller_graph_is_the_whole_one_without_them(make: Tied, seed: int) -> None:
    model, _ = make()
    flow = flow_of(model)
    found = blocks(flow, None)
    rng = np.random.default_rng(seed)
    gone = {int(c) for b in found for c in rng.permutation(b.classes)[: len(b.classes) // 3]}
    assert gone
    wanted = run(without(flow_of(model), gone), nets.inputs(model))
    shrink(flow, gone)
    small = files.fill(flow.model, flow.payloads)
    onnx.checker.check_model(small, full_check=True)
    for a, b in zip(run(small, nets.inputs(model)), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
    before, after = (sum(n.macs for n in node_macs(m, {"x": (1, 9)})) for m in (model, small))
    assert after < before


@pytest.mark.parametrize("make", nets.TIED, ids=lambda make: make.__name__)
def test_half_of_the_channels_leaves_much_less_to_compute(make: Tied) -> None:
    model, most = make()
    flow = flow_of(model)
    found = blocks(flow, None)
    gone = choose(found, 0.5, "layer")
    total = sum(len(b.classes) for b in found)
    assert abs(len(gone) - total / 2) <= 4 * len(found)  # kept in eights
    shrink(flow, gone)
    small = files.fill(flow.model, flow.payloads)
    before, after = (sum(n.macs for n in node_macs(m, {"x": (1, 9)})) for m in (model, small))
    assert after <= most / 100 * before


@pytest.mark.parametrize("make", nets.TIED, ids=lambda make: make.__name__)
def test_another_order_of_channels_computes_the_same(make: Tied) -> None:
    model, _ = make()
    flow = flow_of(model)
    orders = permute(flow, 0)
    if make in (nets.chain, nets.residual, nets.depthwise, nets.squeezed, nets.viewed):
        assert orders
    reordered = files.fill(flow.model, flow.payloads)
    for a, b in zip(
        run(reordered, nets.inputs(model)), run(model, nets.inputs(model)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)


def pinned_model(what: str) -> onnx.ModelProto:
    net = Net(("N", 3, 8, 10))
    x = net.conv("x", 3, 16)
    if what == "softmax":
        x = net.add("Softmax", x, axis=1)
    elif what == "unknown":
        x = net.add("GlobalLpPool", net.add("LRN", x, size=3))
    elif what == "output":
        return net.model(x, net.conv(x, 16, 2))
    elif what == "size":
        size = net.add("Cast", net.add("Shape", x, start=1, end=2), to=1)
        return net.model(net.add("Mul", net.conv(x, 16, 2), size))
    elif what == "reduced":
        x = net.add("ReduceMax", x, net.constant(np.array([1])), keepdims=1)
        return net.model(net.conv(x, 1, 2))
    return net.model(net.conv(x, 16, 2) if what != "unknown" else x)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("softmax", "Softmax computes across it"),
        ("unknown", "LRN computes across it"),
        ("output", "it is the output"),
        ("size", "Cast computes with its size|Mul computes with its size"),
        ("reduced", "ReduceMax computes across it"),
    ],
)
def test_what_stays_and_why(what: str, reason: str) -> None:
    flow = flow_of(pinned_model(what))
    assert blocks(flow, None) == []
    assert re.search(reason, pinned(flow)[0].reason)


def test_bodies_keep_what_they_take_from_outside() -> None:
    net = Net(("N", 3, 8, 10))
    x = net.conv("x", 3, 16)
    y = net.conv(net.conv(x, 16, 12), 12, 2)
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("ReduceSum", [x], ["s"], keepdims=0)],
        "body",
        [],
        [onnx.helper.make_tensor_value_info("s", 1, [])],
    )
    net.nodes.append(
        onnx.helper.make_node(
            "If", [net.constant(np.array(True))], ["t"], then_branch=body, else_branch=body
        )
    )
    flow = flow_of(net.model(y, "t"))
    assert [len(b.classes) for b in blocks(flow, None)] == [12]
    assert pinned(flow)[0].reason == "If has no rule"
