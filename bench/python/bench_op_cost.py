# SPDX-License-Identifier: Apache-2.0
"""What an op costs around its body: a call over the bare function, a node over a handmade one.

A node's cost is the slope between a chain of one node and a chain of many, so that the call of the
model and the binding of its ends drop out. The handmade op (cpp/hand_op.c) calls the C interface
as little as it can, inside the onnxruntime package; the kit's op runs in the same release.
"""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

import zerolane as zl
from bench import native, settings
from bench.results import Check, Report, Series
from bench.settings import Settings, progress
from bench.stats import curve, summarize

NAME = "op_cost"
TITLE = "what an op costs around its body"
LONG = 129
ELEMENTS = 16
TIMES = 2000


def chain(folder: Path, domain: str, op: str, nodes: int) -> Path:
    from onnx import TensorProto, helper

    names = ["x", *(f"t{i}" for i in range(nodes - 1)), "y"]
    graph = helper.make_graph(
        [helper.make_node(op, [names[i]], [names[i + 1]], domain=domain) for i in range(nodes)],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ELEMENTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ELEMENTS])],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, ir_version=9, opset_imports=imports)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{op}_{nodes}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def handmade(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.register_custom_ops_library(str(native.hand_op()))
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    x = np.zeros(ELEMENTS, np.float32)
    y = np.zeros(ELEMENTS, np.float32)
    for bind, name, array in ((binding.bind_input, "x", x), (binding.bind_output, "y", y)):
        bind(name, "cpu", 0, np.float32, [ELEMENTS], array.ctypes.data)
    keep = (x, y)
    return lambda: session.run_with_iobinding(binding), keep


def with_the_kit(path: Path) -> Any:
    bound = zl.load(str(path), threads=1, gil="hold").bind(x=(ELEMENTS,))
    return bound, None


def time_calls(call: Any, calls: int) -> float:
    """Nanoseconds a call."""
    start = perf_counter_ns()
    for _ in range(calls):
        call()
    return (perf_counter_ns() - start) / calls


def node_costs(report: Report, rounds: int) -> None:
    folder = settings.BUILD_FOLDER / "models"
    made = {
        "by hand": (handmade, "hand", "HandScale"),
        "kit": (with_the_kit, "kit", "KitScale"),
    }
    calls = {
        (name, nodes): load(chain(folder, domain, op, nodes))
        for name, (load, domain, op) in made.items()
        for nodes in (1, LONG)
    }
    for call, _ in calls.values():
        time_calls(call, 200)
    slopes: dict[str, list[float]] = {name: [] for name in made}
    for r in range(rounds):
        gc.collect()
        for name in list(made)[:: 1 if r % 2 else -1]:
            ns = {nodes: time_calls(calls[name, nodes][0], 60) for nodes in (1, LONG)}
            slopes[name].append((ns[LONG] - ns[1]) / (LONG - 1))
    for name, values in slopes.items():
        report.series.append(
            Series("one node", name, "ns", summarize(values).as_dict(), curve(values))
        )
    over = summarize([a - b for a, b in zip(slopes["kit"], slopes["by hand"], strict=True)])
    report.checks.append(
        Check(
            "node of the kit over one made by hand",
            f"{ELEMENTS} float32 in ONNX Runtime",
            over.median,
            "ns",
            (over.p25, over.p75),
            150.0,
            note=f"by hand {median(slopes['by hand']):.0f} ns, kit {median(slopes['kit']):.0f} ns",
        )
    )


def direct_costs(report: Report, rounds: int) -> None:
    library = ctypes.CDLL(str(native.hand_op()))
    pointer = ctypes.c_void_p
    library.bare_many.argtypes = [pointer, pointer, ctypes.c_int64, ctypes.c_int64]
    op = zl.ops.Op("kit::KitScale", gil="hold")
    for count in (1, ELEMENTS, 1000):
        x, y = np.ones(count, np.float32), np.ones(count, np.float32)

        def bare(x: Any = x, y: Any = y, count: int = count) -> float:
            start = perf_counter_ns()
            library.bare_many(x.ctypes.data, y.ctypes.data, count, TIMES)
            return (perf_counter_ns() - start) / TIMES

        def direct(x: Any = x) -> float:
            start = perf_counter_ns()
            for _ in range(TIMES):
                op(x)
            return (perf_counter_ns() - start) / TIMES

        ns: dict[str, list[float]] = {"bare": [], "op(x)": []}
        for r in range(rounds):
            for name, measure in (("bare", bare), ("op(x)", direct))[:: 1 if r % 2 else -1]:
                ns[name].append(measure())
        for name, values in ns.items():
            report.series.append(
                Series(f"{count} float32", name, "ns", summarize(values).as_dict(), curve(values))
            )
        over = summarize([a - b for a, b in zip(ns["op(x)"], ns["bare"], strict=True)])
        report.checks.append(
            Check(
                "op(x) over the bare function",
                f"{count} float32",
                over.median,
                "ns",
                (over.p25, over.p75),
                1500.0,
                note=f"bare {median(ns['bare']):.0f} ns; a new array is made for each result",
            )
        )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds = 20 if options.quick else 200
    report.settings |= {"rounds": rounds, "nodes": LONG}
    zl.ops.load(native.kit_op())
    progress(f"{NAME}: direct calls")
    direct_costs(report, rounds)
    progress(f"{NAME}: nodes")
    node_costs(report, rounds)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
