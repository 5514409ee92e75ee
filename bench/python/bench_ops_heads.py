# SPDX-License-Identifier: Apache-2.0
"""ScaledGelu, SoftmaxTopK, CtcGreedyDecode, Quantize and Dequantize on one core, beside the peers.

Everyone works on one thread, and makes new results at each call; that they make the same is
checked first. The floor is `copy`: memcpy of half as many bytes as a call reads and writes, so that
it moves as many.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import settings
from bench.environment import package_version
from bench.results import Report, Series, ratio_check
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from bench.timing import Plan, interleave

NAME = "ops_heads"
TITLE = "activation, classification, CTC and 8-bit ops, one core, interleaved"

Array = NDArray[Any]


def form(name: str, fn: Callable[[], Any]) -> Form:
    return Form(name, lambda: {"y": np.array(fn())}, fn)


def copy_of(moved: int) -> Form:
    """Reads and writes `moved` bytes in all."""
    source = np.ones(moved // 2, np.uint8)  # zeros would all be one page of memory
    target = np.zeros_like(source)
    return form("copy", lambda: np.copyto(target, source))


def session(
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: dict[str, Array],
    constants: dict[str, Array],
    output: str,
) -> Callable[[], Any]:
    """A call of onnxruntime on one thread."""
    import onnxruntime as ort
    from onnx import ValueInfoProto, helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
        "graph",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
            )
            for name, array in inputs.items()
        ],
        [ValueInfoProto(name=output)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, ir_version=9, opset_imports=[helper.make_opsetid("", 20)])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    loaded = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return lambda: loaded.run(None, inputs)[0]


def gelu(count: int, approximate: str) -> list[Form]:
    import torch

    import zerolane as zl

    x = np.random.default_rng(0).standard_normal(count).astype(np.float32)
    tensor = torch.from_numpy(x)
    ours = zl.ops.ScaledGelu(approximate=approximate)
    run = session([("Gelu", ["x"], ["y"], {"approximate": approximate})], {"x": x}, {}, "y")
    return [
        form("zerolane", lambda: ours(x)),
        form("torch", lambda: torch.nn.functional.gelu(tensor, approximate=approximate)),
        form("onnxruntime", run),
        copy_of(2 * x.nbytes),
    ]


def classes(rows: int, count: int, k: int) -> list[Form]:
    import torch

    import zerolane as zl

    x = 3 * np.random.default_rng(1).standard_normal((rows, count)).astype(np.float32)
    tensor = torch.from_numpy(x)
    ours = zl.ops.SoftmaxTopK(k=k)
    run = session(
        [("Softmax", ["x"], ["p"], {"axis": -1}), ("TopK", ["p", "k"], ["v", "i"], {"axis": -1})],
        {"x": x},
        {"k": np.array([k])},
        "v",
    )

    def with_numpy() -> Array:
        weights = np.exp(x - x.max(axis=1, keepdims=True))
        p = weights / weights.sum(axis=1, keepdims=True)
        indices = np.argpartition(p, -k, axis=1)[:, -k:]
        largest = np.take_along_axis(p, indices, axis=1)
        order = np.argsort(-largest, axis=1)
        np.take_along_axis(indices, order, axis=1)
        return np.take_along_axis(largest, order, axis=1)

    return [
        form("zerolane", lambda: ours(x)[0]),
        form("torch", lambda: torch.topk(torch.softmax(tensor, -1), k)[0]),
        form("onnxruntime", run),
        form("numpy", with_numpy),
        copy_of(x.nbytes),
    ]


def paths(steps: int, count: int) -> list[Form]:
    import torch

    import zerolane as zl

    x = np.random.default_rng(2).standard_normal((1, steps, count)).astype(np.float32)
    tensor = torch.from_numpy(x[0])
    ours = zl.ops.CtcGreedyDecodeFlat()

    def with_numpy() -> Array:
        best = x[0].argmax(axis=-1)
        x[0].max(axis=-1).sum()
        kept = best != 0
        kept[1:] &= best[1:] != best[:-1]
        return np.asarray(best[kept])

    def with_torch() -> Any:
        values, best = tensor.max(-1)
        values.sum()
        best = torch.unique_consecutive(best)
        return best[best != 0]

    return [
        form("zerolane", lambda: ours(x)[0]),
        form("torch", with_torch),
        form("numpy", with_numpy),
        copy_of(x.nbytes),
    ]


def eight_bits(shape: tuple[int, ...], axis: int | None, back: bool) -> list[Form]:
    import zerolane as zl

    rng = np.random.default_rng(3)
    x = (30 * rng.standard_normal(shape)).astype(np.float32)
    scales = () if axis is None else (shape[axis],)
    scale = np.asarray(rng.uniform(0.2, 0.4, scales)).astype(np.float32)
    zero_point = np.zeros(scales, np.int8)
    at = 0 if axis is None else axis
    along = scale if axis is None else scale.reshape([-1 if i == at else 1 for i in range(x.ndim)])
    ours = (zl.ops.Dequantize if back else zl.ops.Quantize)(axis=at)
    q = zl.ops.Quantize(axis=at)(x, scale, zero_point)
    first = q if back else x
    run = session(
        [("DequantizeLinear" if back else "QuantizeLinear", ["x", "s", "z"], ["y"], {"axis": at})],
        {"x": first},
        {"s": scale, "z": zero_point},
        "y",
    )

    def with_numpy() -> Array:
        if back:
            return np.asarray(q.astype(np.float32) * along)
        return np.asarray(np.clip(np.rint(x / along), -128, 127)).astype(np.int8)

    return [
        form("zerolane", lambda: ours(first, scale, zero_point)),
        form("onnxruntime", run),
        form("numpy", with_numpy),
        copy_of(5 * x.size),
    ]


# Subject, contestants, how far apart they may be.
SUBJECTS: tuple[tuple[str, Callable[[], list[Form]], float], ...] = (
    ("gelu by erf, 16384", lambda: gelu(16384, "none"), 1e-6),
    ("gelu by tanh, 16384", lambda: gelu(16384, "tanh"), 1e-6),
    ("gelu by erf, 1000000", lambda: gelu(1_000_000, "none"), 1e-6),
    ("5 of 1000 classes, 1 row", lambda: classes(1, 1000, 5), 1e-6),
    ("5 of 1000 classes, 256 rows", lambda: classes(256, 1000, 5), 1e-6),
    ("50 of 50257 classes, 1 row", lambda: classes(1, 50257, 50), 1e-6),
    ("CTC, 1000 steps of 32 classes", lambda: paths(1000, 32), 0),
    ("CTC, 200 steps of 1000 classes", lambda: paths(200, 1000), 0),
    ("quantize [16384]", lambda: eight_bits((16384,), None, back=False), 0),
    ("dequantize [16384]", lambda: eight_bits((16384,), None, back=True), 0),
    ("quantize [1,64,56,56] by axis 1", lambda: eight_bits((1, 64, 56, 56), 1, back=False), 0),
    ("quantize [197,768] by axis 1", lambda: eight_bits((197, 768), 1, back=False), 0),
    ("dequantize [197,768] by axis 1", lambda: eight_bits((197, 768), 1, back=True), 0),
)


def check_same(subject: str, forms: list[Form], tolerance: float) -> None:
    """Refuses to compare the speed of different work."""
    wanted = forms[0].outputs()["y"]
    for other in forms[1:-1]:
        got = other.outputs()["y"]
        if got.shape != wanted.shape or np.abs(got - wanted).max() > tolerance:
            raise ValueError(
                f"comparing {subject}: {other.name} made {got.shape} that differ by more than "
                f"{tolerance} from zerolane's {wanted.shape}; look at its arguments"
            )


def run(options: Settings) -> Report:
    import torch

    torch.set_num_threads(1)
    report = Report(NAME, TITLE, options.as_dict())
    plan = Plan(rounds=10 if options.quick else 40, batches=5, singles_us=0)
    for subject, make, tolerance in SUBJECTS:
        progress(f"{NAME}: {subject}")
        forms = make()
        check_same(subject, forms, tolerance)
        timings = interleave(forms, plan)
        report.series += [
            Series(subject, name, "ns", summarize(t.blocks).as_dict(), curve(t.blocks))
            for name, t in timings.items()
        ]
        ours = timings["zerolane"]
        for name, timing in timings.items():
            if name == "copy":
                report.checks.append(
                    ratio_check("zerolane / copy", subject, ours.over(timing), None, "<=")
                )
            elif name != "zerolane":
                report.checks.append(
                    ratio_check(f"{name} / zerolane", subject, timing.over(ours), 1.0, ">=")
                )
    packages = ("onnxruntime", "torch", "numpy")
    report.settings |= {"plan": vars(plan), "versions": {p: package_version(p) for p in packages}}
    return report


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"
    settings.main(run, TITLE)
