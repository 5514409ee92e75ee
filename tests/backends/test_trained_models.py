"""The trained models do their task through every backend."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import zerolane as zl
from tests.models import task_checks

Load = Callable[..., zl.Session]
every_model = pytest.mark.parametrize("name", task_checks.TRAINED)


@every_model
def test_task_meets_its_bar(load: Load, name: str) -> None:
    session = load(task_checks.FOLDER / f"{name}.onnx")
    task_checks.check(name, session.run).require()


@every_model
def test_outputs_equal_the_case_file(load: Load, name: str) -> None:
    session = load(task_checks.FOLDER / f"{name}.onnx")
    inputs = task_checks.case_inputs(name)
    wanted = task_checks.case_outputs(name)
    for outputs in (session(inputs), session.run(inputs), session.submit(inputs).result(60)):
        for key, want in wanted.items():
            assert outputs[key].shape == want.shape
            if want.dtype.kind == "f":
                np.testing.assert_allclose(outputs[key], want, rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(outputs[key], want)


# Nothing in these models forbids a batch of no rows.
EMPTY_IS_FINE = {
    "digits_mlp",
    "digits_cnn",
    "line_ctc",
    "wine_forest",
    "mixed_table",
    "ttt_policy",
}


@every_model
def test_a_batch_of_none(load: Load, name: str) -> None:
    """The right empty result or, from the others, a typed error; the process lives on."""
    session = load(task_checks.FOLDER / f"{name}.onnx")
    inputs = {key: x[:0] for key, x in task_checks.case_inputs(name).items()}
    if name == "stream_vad":
        inputs["state"] = np.zeros((1, 0, 64), np.float32)
    try:
        outputs = session.run(inputs)
    except zl.Error as error:
        assert name not in EMPTY_IS_FINE, error  # noqa: PT017
        assert not isinstance(error, zl.InternalError)  # noqa: PT017
    else:
        for spec in session.outputs:
            assert spec.shape is not None
            assert len(outputs[spec.name].shape) == len(spec.shape)
            assert outputs[spec.name].size == 0
    full = session.run(task_checks.case_inputs(name))
    for key, want in task_checks.case_outputs(name).items():
        assert full[key].shape == want.shape


def test_bound_digits(load: Load) -> None:
    session = load(task_checks.FOLDER / "digits_cnn.onnx")
    case = task_checks.load_case("digits_cnn")
    binding = session.bind(image=(1, 1, 8, 8))
    for image, want in zip(case["image"], case["logits"], strict=True):
        binding.inputs["image"][0] = image
        np.testing.assert_allclose(binding()["logits"][0], want, rtol=1e-4, atol=1e-5)
