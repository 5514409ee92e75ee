"""The trained models built into engines: their task's bar, and their case files."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.gpu import engines
from tests.models import large, task_checks

Arrays = dict[str, Any]
Run = Callable[[Arrays], Arrays]

NAMES = ("digits_mlp", "digits_cnn", "digit_det", "line_ctc", "stream_vad", "ttt_policy")
# Built here or refused with the list of nodes: the libraries differ in what they take of it.
MAY_BE_REFUSED = {"digit_det"}
PRECISIONS = (None, "fp16")


class Recorded:
    """The least and greatest shape of every input that a task's check gives."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.ranges: dict[str, tuple[list[int], list[int]]] = {}

    def __call__(self, inputs: Arrays) -> Arrays:
        for name, array in inputs.items():
            shape = list(array.shape)
            low, high = self.ranges.setdefault(name, (shape, shape))
            self.ranges[name] = (
                [min(p) for p in zip(low, shape, strict=True)],
                [max(p) for p in zip(high, shape, strict=True)],
            )
        return self._run(inputs)

    def shapes(self) -> dict[str, Any]:
        return {n: (tuple(low), tuple(high), tuple(high)) for n, (low, high) in self.ranges.items()}


@pytest.fixture(scope="module")
def shapes() -> Callable[[str], dict[str, Any]]:
    """What the check of a model runs with, found by running it on the CPU once."""
    known: dict[str, dict[str, Any]] = {}

    def find(name: str) -> dict[str, Any]:
        if name not in known:
            recorded = Recorded(engines.on_cpu(task_checks.FOLDER / f"{name}.onnx"))
            task_checks.check(name, recorded).require()
            recorded(task_checks.case_inputs(name))
            known[name] = recorded.shapes()
        return known[name]

    return find


def session_of(name: str, backend: str, shapes: dict[str, Any], **fields: Any) -> zl.Session:
    path = task_checks.FOLDER / f"{name}.onnx"

    def make() -> zl.Engine:
        return engines.build(path, backend, shapes=shapes, **fields)

    engine = engines.unsupported_is_a_skip(make) if name in MAY_BE_REFUSED else make()
    return engines.load(engine)


@pytest.mark.parametrize("precision", PRECISIONS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_task_meets_its_bar(
    backend: str, name: str, precision: str | None, shapes: Callable[[str], dict[str, Any]]
) -> None:
    session = session_of(name, backend, shapes(name), precision=precision)
    task_checks.check(name, session.run).require()


@pytest.mark.parametrize("name", NAMES)
def test_outputs_equal_the_case_file(
    backend: str, name: str, shapes: Callable[[str], dict[str, Any]]
) -> None:
    """Through all ways of calling, within what single precision on another machine allows."""
    session = session_of(name, backend, shapes(name))
    inputs, wanted = task_checks.case_inputs(name), task_checks.case_outputs(name)
    binding = session.bind(**{n: a.shape for n, a in inputs.items()})
    for n, a in inputs.items():
        binding.inputs[n][...] = a
    results = [session(inputs), session.run(inputs), session.submit(inputs).result(120)]
    results += [{n: np.array(a) for n, a in binding().items()} for _ in range(4)]
    for outputs in results:
        for key, want in wanted.items():
            if name == "digit_det" and key != "scores":
                continue  # boxes of nearly equal scores may change places; the task's bar has them
            assert outputs[key].shape == want.shape
            if want.dtype.kind == "f":
                np.testing.assert_allclose(outputs[key], want, rtol=1e-3, atol=1e-3)
            else:
                np.testing.assert_array_equal(outputs[key], want)


def test_a_transformer(backend: str) -> None:
    """21 MB of random weights; against the CPU, for several batches and lengths."""
    model = large.text_embed()
    run = engines.on_cpu(model)
    ranges = dict.fromkeys(("input_ids", "attention_mask"), ((1, 4), (4, 16), (8, 64)))
    session = engines.load(engines.build(model, backend, shapes=ranges))
    rng = np.random.default_rng(0)
    for batch, length in ((1, 4), (3, 17), (8, 64)):
        inputs = {
            "input_ids": rng.integers(0, large.VOCABULARY, (batch, length), dtype=np.int64),
            "attention_mask": np.ones((batch, length), np.int64),
        }
        y, want = session.run(inputs)["embedding"], run(inputs)["embedding"]
        np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-3)
