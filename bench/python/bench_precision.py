# SPDX-License-Identifier: Apache-2.0
"""What float16 and INT8 files keep of the tasks of five trained models; their engines are built.

Each model is converted by `zl.optimize.bisect` (float16) and `zl.optimize.quantize` (for the CPU,
for TensorRT), with the task itself as the metric and 0.99 as the share of float32's result to keep.
Both send layers back to float where that is needed, or refuse. The task is then done once more with
the file as written, in ONNX Runtime, and an engine is built from it, without a GPU.

The result of a task is the worst share over its measures (`tests/optimize/tasks.py`). Float16 is
judged twice: by the search, which rounds after every node as a GPU does, and as ONNX Runtime runs
it. Calibration sees other data than the task is scored on, with two exceptions, of which there is
no other data: the digits (their images, not their labels), and the start of the recording.

text_embed is too large to be committed: it is trained first, in `bench/out/precision`, where torch
is installed; half a minute.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import onnx
from tests.optimize.tasks import MEASURES, Task, task

import zerolane as zl
from bench import settings
from bench.results import Check, Report
from bench.settings import Settings, progress
from zerolane.optimize.macs import node_macs, shares

NAME = "precision"
TITLE = "task results of float16 and INT8 files beside float32's, and their engines"
FLOOR = 0.99
FORMS = ("float32", "float16", "int8 for cpu", "int8 for tensorrt", "int8 and float16 for tensorrt")


def trained_text_embed(options: Settings) -> Path | None:
    """The folder that has it; None where it cannot be trained."""
    for folder in (options.models, settings.BUILD_FOLDER / NAME):
        if (folder / "text_embed.case.npz").exists():
            return folder
    if find_spec("torch") is None:
        return None
    progress(f"{NAME}: training text_embed")
    command = [sys.executable, "-m", "tests.models.make", str(folder), "text_embed"]
    subprocess.run(command, cwd=settings.BENCH_FOLDER.parent, check=True, stdout=sys.stderr)
    return folder


def make(form: str, model: Task, out: Path) -> tuple[tuple[str, ...], str]:
    """Writes the file; returns the layers that went back to float, and a note."""
    if form == "float32":
        out.write_bytes(model.path.read_bytes())
        return (), ""
    if form == "float16":
        found = zl.optimize.bisect(
            model.path, out, model.rows, metric=model, accuracy=FLOOR, progress=False
        )
        back = tuple(kept.node for kept in (*found.overflow, *found.found))
        return back, f"{found.score:.4f} with rounding after every node"
    told = zl.optimize.quantize(
        model.path,
        out,
        target="cpu" if form.endswith("cpu") else "tensorrt",
        calibration=model.rows,
        metric=model,
        accuracy=FLOOR,
        rest="fp16" if "float16" in form else "fp32",
        progress=False,
    )
    return told.backed_off, f"{told.quantized} of {told.layers} layers quantized"


def build_seconds(path: Path, row: dict[str, Any]) -> float:
    """Of an engine for the shapes of one sample; raises zl.Error where it cannot be built."""
    shapes = {}
    for value in onnx.load(path, load_external_data=False).graph.input:
        if any(not dim.dim_value for dim in value.type.tensor_type.shape.dim):
            shapes[value.name] = row[value.name].shape
    start = time.perf_counter()
    plan = zl.build(path, shapes=shapes or None, cache=False).plan
    assert len(plan) > 5_000
    return time.perf_counter() - start


def row(report: Report, model: Task, form: str, out: Path) -> None:
    subject = f"{model.name}, {form}"
    progress(f"{NAME}: {subject}")
    out.unlink(missing_ok=True)

    def tell(measure: str, value: float | None, unit: str = "", note: str = "") -> None:
        judged = measure == "task result / float32's" and form != "float32"
        target = FLOOR if judged else None
        report.checks.append(Check(measure, subject, value, unit, None, target, ">=", note))

    try:
        back, note = make(form, model, out)
    except zl.optimize.AccuracyLost as refused:
        tell("task result / float32's", None, note=f"refused: {refused}")
        return
    found = model.measured(zl.load(out).run)
    told = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    tell("task result / float32's", model.share(found), "x", "; ".join(filter(None, (told, note))))
    tell("size", out.stat().st_size / 1024, "KiB")
    graph = onnx.load(out)
    share = shares(node_macs(graph, {name: a.shape for name, a in model.rows[0].items()}))
    told = ", ".join(f"{part:.3f} {dtype}" for dtype, part in share.items())
    tell("multiply-adds not in float32", 1 - share.get("float32", 0.0), "", told)
    tell("layers sent back to float", float(len(back)), "", ", ".join(back))
    try:
        tell("seconds to build in TensorRT-RTX", build_seconds(out, model.rows[0]), "s")
    except zl.Unavailable:
        tell("seconds to build in TensorRT-RTX", None, note="the library is not installed")
    except zl.Error as error:
        tell("seconds to build in TensorRT-RTX", None, note=f"refused: {str(error)[:200]}")


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict() | {"accuracy": FLOOR})
    place = settings.BUILD_FOLDER / NAME
    place.mkdir(parents=True, exist_ok=True)
    folders = dict.fromkeys(MEASURES, options.models)
    text = trained_text_embed(options)
    if text is None:
        del folders["text_embed"]
        report.checks.append(
            Check("not run", "text_embed", None, "", note="torch is not installed to train it")
        )
    else:
        folders["text_embed"] = text
    for name, folder in folders.items():
        model = task(name, folder)
        for form in FORMS:
            row(report, model, form, place / f"{name} {form}.onnx".replace(" ", "_"))
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
