# SPDX-License-Identifier: Apache-2.0
"""Pruned models beside the originals, through zerolane, one thread, interleaved; what they keep.

A residual network for digits, trained here, with half of the channels: its speed, and its accuracy
on digits that neither training nor recovery saw. Of the light architectures, which have random
weights, only the speed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from tests.optimize import learned

import zerolane as zl
from bench import models, settings
from bench.results import Check, Report, Series, ratio_check
from bench.rivals.contract import Form
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from bench.timing import Plan, interleave

NAME = "prune"
TITLE = "pruned models beside the originals, interleaved"

_ARCHITECTURES = ("squeezenet", "resnet50")
_WIDTH, _STEPS = 64, 300
_RATIO = 0.5


def _form(name: str, path: Path, feeds: dict[str, Any], threads: int) -> Form:
    binding = zl.load(path, threads=threads).bind(**feeds)
    return Form(name, lambda: dict(binding.outputs), binding, ())


def _compare(
    report: Report, subject: str, whole: Path, small: Path, feeds: Any, options: Settings
) -> None:
    plan = Plan(rounds=10 if options.quick else 40, batches=5, batch_us=2000, most_singles=20)
    forms = [
        _form("original", whole, feeds, options.threads),
        _form("pruned", small, feeds, options.threads),
    ]
    timed = interleave(forms, plan)
    for name, timing in timed.items():
        ms = timing.blocks / 1e6
        report.series.append(Series(subject, name, "ms", summarize(ms).as_dict(), curve(ms)))
    ratio = timed["original"].over(timed["pruned"])
    report.checks.append(ratio_check("original / pruned", subject, ratio, 1.6, ">="))


def _accuracy(path: Path) -> float:
    images, labels = learned.digits()[1]
    (logits,) = zl.load(path).run({"x": images}).values()
    return float((np.asarray(logits).argmax(1) == labels).mean())


def _trained(report: Report, folder: Path, options: Settings) -> None:
    progress(f"{NAME}: training a network")
    whole, small = folder / "whole.onnx", folder / "small.onnx"
    onnx.save(learned.model(_WIDTH, _STEPS), whole)
    samples = learned.digits()[0][0]
    subject = "digits, trained here"
    for method, ratio in (("channels", _RATIO), ("2:4", 0.5), ("magnitude", 0.8)):
        done = zl.optimize.prune(
            whole, small, method=method, ratio=ratio, samples=samples, progress=False
        )
        loss = _accuracy(whole) - _accuracy(small)
        note = f"{_accuracy(whole):.3f} before; {done.macs[1] / done.macs[0]:.0%} multiply-adds"
        told = f"accuracy lost, {method} {ratio:g}"
        report.checks.append(Check(told, subject, loss, "", target=0.02, note=note))
        if method == "channels":
            feeds = {"x": np.ascontiguousarray(samples[:16])}
            _compare(report, f"{subject}, batch 16", whole, small, feeds, options)


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _trained(report, folder, options)
        for architecture in _ARCHITECTURES:
            progress(f"{NAME}: {architecture}")
            whole, small = folder / "a.onnx", folder / "b.onnx"
            onnx.save(with_random_weights(models.light(architecture)), whole)
            zl.optimize.prune(whole, small, method="channels", ratio=_RATIO, progress=False)
            session = zl.load(whole)
            shape = [d if isinstance(d, int) else 1 for d in session.inputs[0].shape or ()]
            feeds = {session.inputs[0].name: np.ones(shape, np.float32)}
            _compare(report, architecture, whole, small, feeds, options)
    return report


def with_random_weights(path: Path) -> onnx.ModelProto:
    """A light model whose constant fills, which stand for weights, are random numbers instead."""
    model = onnx.load(path)
    rng = np.random.default_rng(0)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            continue
        shape = shapes[node.input[0]]
        fan = max(int(np.prod(shape[1:])), 1)
        many = len(shape) > 1
        values = rng.normal(0, np.sqrt(2 / fan), shape) if many else rng.uniform(0.5, 1.5, shape)
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), node.output[0])
        model.graph.initializer.append(tensor)
        model.graph.node.remove(node)
    model.ir_version = max(model.ir_version, 8)
    return model


if __name__ == "__main__":
    settings.main(run, TITLE)
