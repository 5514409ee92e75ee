# SPDX-License-Identifier: Apache-2.0
"""INT8 files of `zl.optimize.quantize` beside float32 and OpenVINO, and what calibrating takes.

Two whole architectures with random weights (`bench.light_models`), one thread, interleaved: the
float32 file and the static INT8 file through zerolane, the float32 file through OpenVINO in its own
default precision (bfloat16 where the processor has it), and the same INT8 file through OpenVINO.
With ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 in the environment OpenVINO goes without AMX, with
ZEROLANE_ISA=avx512 zerolane does: ONNX Runtime's own convolutions are vector code.

That integer dot products (VNNI, AMX) compute them is shown by rate: multiply-adds per second of the
whole INT8 network over those of the best float32 matrix product on the same thread. A core's
float32 peak cannot be passed without them: a multiply-add of bytes takes three instructions else.

Calibration: running samples through the tool over running the same samples by `session.run`, both
with zerolane's default threads.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import zerolane as zl
from bench import light_models, settings
from bench.environment import package_version
from bench.results import Check, Report, Series, ratio_check
from bench.rivals.contract import Feed, Form
from bench.rivals.openvino import OpenVinoDriver
from bench.rivals.zerolane import ZerolaneDriver
from bench.settings import Settings, progress
from bench.stats import Ratio, curve, paired_ratio, summarize
from bench.timing import Plan, Timing, interleave

NAME = "quantize"
TITLE = "static INT8 beside float32 and OpenVINO, one thread, interleaved"
SPEEDUP = {"squeezenet": 2.2, "resnet50": 2.8}
INPUT = {"squeezenet": "data_0", "resnet50": "gpu_0/data_0"}
SAMPLES = 1000


def as_run(path: Path) -> Counter[str]:
    """The operators that ONNX Runtime's CPU provider runs; with AMX, QLinearConv is zerolane's."""
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = f"{folder}/m.onnx"
        ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return Counter(n.op_type for n in onnx.load(f"{folder}/m.onnx").graph.node)


def matrix_product(threads: int) -> Form:
    """A float32 product of 1024 x 1024 x 1024: the highest rate that float32 has here."""
    from onnx import TensorProto, helper, numpy_helper

    size = 1024
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.standard_normal((size, size)).astype(np.float32), "w")
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [value("x", TensorProto.FLOAT, [size, size])],
        [value("y", TensorProto.FLOAT, [size, size])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    binding = zl.load(model.SerializeToString(), threads=threads).bind(gil="hold")
    return Form("product", dict, binding)


def forms(source: Path, made: Path, name: str, threads: int) -> tuple[list[Form], str]:
    """The contestants, and what OpenVINO's default precision is."""
    feed: Feed = {INPUT[name]: light_models.images(1, seed=9)[0]}
    ours = ZerolaneDriver()
    wanted = ours.load(source, threads).run(feed)
    (output,) = wanted
    found = []
    for label, path in (("float32", source), ("int8", made)):
        form = ours.load(path, threads).form("bound", feed, wanted)
        found.append(replace(form, name=f"zerolane {label}"))
    precision = ""
    if package_version("openvino") is not None:
        driver = OpenVinoDriver()
        for label, path in (("default", source), ("int8", made)):
            handle = driver.load(path, threads)
            precision = precision or handle.precision
            found.append(replace(handle.form("bound", feed, wanted), name=f"openvino {label}"))
    for form in found:  # the same work: outputs point the same way
        a, b = form.outputs()[output].ravel(), wanted[output].ravel()
        cosine = float(a @ b / np.sqrt((a @ a) * (b @ b)))
        if cosine < 0.99:
            raise RuntimeError(
                f"comparing {form.name} on {name}: the cosine of its output with float32's is "
                f"{cosine:.4f}, expected 0.99; a time would be worth nothing"
            )
    return found, precision


def network(report: Report, name: str, options: Settings) -> None:
    folder = settings.BUILD_FOLDER / "quantize"
    source = light_models.make(name, folder / f"{name}.onnx")
    made = folder / f"{name}.int8.onnx"
    progress(f"{NAME}: quantizing {name}")
    told = zl.optimize.quantize(
        source, made, calibration=light_models.images(16), progress=False, metric="cosine"
    )
    report.checks.append(Check("cosine of the outputs, INT8", name, told.score, "", None))
    progress(f"{NAME}: timing {name}")
    contestants, precision = forms(source, made, name, options.threads)
    contestants.append(matrix_product(options.threads))
    # A block is three calls: they are long, and neighbours in time are what a ratio needs.
    plan = replace(Plan.of(options.quick), rounds=12 if options.quick else 40, batches=3)
    times = interleave(contestants, plan)
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "no limit on instructions")
    note = f"openvino default is {precision}, {limit}" if precision else ""
    for label, timing in times.items():
        detail: dict[str, object] = {}
        if label == "zerolane int8":
            detail = {"operators as run": dict(as_run(made))}
        summary = summarize(timing.singles).as_dict()
        report.series.append(Series(name, label, "ns", summary, curve(timing.singles), detail))
    _ratios(report, name, times, note)
    macs = _macs(source)
    rate = macs / times["zerolane int8"].blocks
    product = 1024**3 / times["product"].blocks
    report.checks.append(
        ratio_check(
            "multiply-adds a second, INT8 network / best float32 product",
            name,
            paired_ratio(list(rate), list(product)),
            1.0,
            ">=",
            f"{np.median(rate):.0f} and {np.median(product):.0f} billion a second",
        )
    )
    calibration(report, name, source, options)


def _ratios(report: Report, name: str, times: dict[str, Timing], note: str) -> None:
    ours = times["zerolane int8"]
    report.checks.append(
        ratio_check(
            "float32 / INT8, zerolane",
            name,
            times["zerolane float32"].over(ours),
            SPEEDUP[name],
            ">=",
        )
    )
    tails = [float(np.percentile(times[f"zerolane {k}"].singles, 99)) for k in ("float32", "int8")]
    report.checks.append(Check("p99 float32 / p99 INT8", name, tails[0] / tails[1], "x"))
    if "openvino int8" not in times:
        report.checks.append(
            Check("INT8 / openvino", name, None, "x", note="openvino is not installed")
        )
        return
    rivals: list[tuple[str, str, float]] = [
        ("INT8 / openvino default", "openvino default", 1.0),
        ("INT8 / openvino, same file", "openvino int8", 1.25),
    ]
    for measure, rival, target in rivals:
        ratio: Ratio = ours.over(times[rival])
        report.checks.append(ratio_check(measure, name, ratio, target, "<=", note))


def _macs(path: Path) -> int:
    import onnx

    from zerolane.optimize.macs import node_macs

    return sum(n.macs for n in node_macs(onnx.load(path)))


def calibration(report: Report, name: str, source: Path, options: Settings) -> None:
    """Blocks of samples, in turn: by session.run, and by the tool."""
    count = SAMPLES // (20 if options.quick else 1)
    progress(f"{NAME}: calibrating on {count} samples of {name}")
    some = light_models.images(16)
    samples: list[Any] = [some[i % len(some)] for i in range(count)]
    session = zl.load(source)
    session.run({INPUT[name]: some[0]})
    with tempfile.TemporaryDirectory() as folder:
        ratios = []
        for _ in range(1 if options.quick else 3):
            start = time.perf_counter()
            for sample in samples:
                session.run({INPUT[name]: sample})
            bare = time.perf_counter() - start
            told = zl.optimize.quantize(
                source, Path(folder) / "m.onnx", calibration=samples, verify=False, progress=False
            )
            ratios.append(told.calibration_s / bare)
    spread = (min(ratios), max(ratios))
    report.checks.append(
        Check(
            f"calibrating {count} samples / running them",
            name,
            float(np.median(ratios)),
            "x",
            spread,
            1.1,
            "<=",
        )
    )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    for name in light_models.NAMES:
        network(report, name, options)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
