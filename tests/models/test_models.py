"""The test models themselves: each learned its task, and holds nothing of the machine it came from.

Run with the plain `onnxruntime` package, so that a failure elsewhere is not the model's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are read with onnx")
onnxruntime = pytest.importorskip("onnxruntime", reason="the reference is onnxruntime")

from tests.models import large, scenes, small, task_checks  # noqa: E402

Arrays = dict[str, Any]

# ONNX Runtime has no kernel or no type for these (see `small.identity`).
NO_IDENTITY = {
    "complex64",
    "complex128",
    "int4",
    "uint4",
    "int2",
    "uint2",
    "float4e2m1",
    "float8e8m0",
}


def runner(model: str | bytes) -> Callable[[Arrays], Arrays]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


@pytest.fixture(params=task_checks.TRAINED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def path_of(name: str) -> Path:
    return task_checks.FOLDER / f"{name}.onnx"


def test_task_meets_its_bar(name: str) -> None:
    task_checks.check(name, runner(str(path_of(name)))).require()


def test_task_check_can_fail(name: str) -> None:
    run = runner(str(path_of(name)))

    def wrong(inputs: Arrays) -> Arrays:
        # Every value of each output is that of its first row, or at random where there is one row.
        rng = np.random.default_rng(0)
        outputs = run(inputs)
        if name == "ttt_policy":
            free = [np.flatnonzero(row) for row in inputs["legal"]]
            return {"move": np.array([rng.choice(cells) for cells in free])}
        if name == "stream_vad":
            return outputs | {"prob": rng.random((1, 1))}
        return {key: np.repeat(value[:1], len(value), 0) for key, value in outputs.items()}

    assert not task_checks.check(name, wrong).passed


def test_outputs_equal_the_case_file(name: str) -> None:
    outputs = runner(str(path_of(name)))(task_checks.case_inputs(name))
    for key, want in task_checks.case_outputs(name).items():
        assert outputs[key].shape == want.shape
        if want.dtype.kind == "f":
            np.testing.assert_allclose(outputs[key], want, rtol=1e-4, atol=1e-5)
        else:
            np.testing.assert_array_equal(outputs[key], want)


def test_file_holds_no_path_and_no_exporter_notes(name: str) -> None:
    content = path_of(name).read_bytes()
    assert not re.search(rb"/(home|tmp|usr|root|work|opt|build)/|site-packages|\.py\b", content)
    model = onnx.load_from_string(content)
    for item in (model, model.graph, *model.graph.node):
        assert not item.metadata_props
        assert not item.doc_string


def test_held_back_digits_are_those_of_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="the digits come from scikit-learn")
    data = datasets.load_digits()
    test = np.random.RandomState(0).permutation(len(data.images))[1400:]
    digits = scenes.held_back_digits()
    np.testing.assert_array_equal(digits.images, data.images[test] / 16)
    np.testing.assert_array_equal(digits.labels, data.target[test])


@pytest.mark.parametrize("network", ["digits_mlp", "digits_cnn", "cartpole"])
def test_demo_model_is_the_test_model(network: str) -> None:
    demo = scenes.HELD_BACK.with_name(f"{network}.onnx")
    assert demo.read_bytes() == path_of(network).read_bytes()


def test_large_model() -> None:
    model = large.text_embed().SerializeToString()
    assert 20e6 < len(model) < 23e6
    assert model == large.text_embed().SerializeToString()
    run = runner(model)
    ids = np.random.default_rng(0).integers(2, large.VOCABULARY, (3, 16))
    mask = np.ones_like(ids)
    mask[1, 9:] = 0
    embedding = run({"input_ids": ids, "attention_mask": mask})["embedding"]
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, atol=1e-4)
    short = run({"input_ids": ids[1:2, :9], "attention_mask": mask[1:2, :9]})["embedding"]
    np.testing.assert_allclose(short[0], embedding[1], atol=1e-5)


@pytest.mark.parametrize("element", sorted(set(small.ELEMENT_TYPES) - NO_IDENTITY))
def test_identity_loads(element: str) -> None:
    assert small.ELEMENT_TYPES[element].ir <= 10
    runner(small.identity(element).SerializeToString())


def test_matmuls_shift() -> None:
    x = np.random.default_rng(0).standard_normal((256, 256), np.float32)
    chain = runner(small.matmul_chain(3, 256).SerializeToString())
    np.testing.assert_array_equal(chain({"x": x})["y"], np.roll(x, 3, -1))
    loop = runner(small.long_loop(256).SerializeToString())
    np.testing.assert_array_equal(loop({"x": x, "steps": np.array(5)})["y"], np.roll(x, 5, -1))
