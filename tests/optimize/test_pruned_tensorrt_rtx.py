"""TensorRT-RTX builds what `prune` writes, without a GPU."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

onnx = pytest.importorskip("onnx", reason="models are pruned with onnx")
if find_spec("tensorrt_rtx_bindings") is None:
    pytest.skip("the package tensorrt-rtx-cu13 is not installed", allow_module_level=True)

import zerolane as zl  # noqa: E402
from tests.models.task_checks import FOLDER, case_inputs  # noqa: E402
from tests.optimize import nets  # noqa: E402
from tests.optimize.test_tensorrt_rtx import judge  # noqa: E402


@pytest.mark.parametrize("method", ["channels", "2:4", "magnitude"])
def test_pruned_models_build(method: Any, tmp_path: Path) -> None:
    paths, before = [], []
    for name in ("digits_cnn", "line_ctc"):
        paths.append(tmp_path / f"{name}.onnx")
        samples = {key: value[:2] for key, value in case_inputs(name).items()}
        zl.optimize.prune(
            FOLDER / f"{name}.onnx", paths[-1], method=method, samples=samples, progress=False
        )
        before.append(FOLDER / f"{name}.onnx")
    for pruned, whole in zip(judge("build", *paths), judge("build", *before), strict=True):
        assert pruned["parsed"], pruned["error"]
        assert 10_000 < pruned["bytes"] < whole["bytes"] * (0.8 if method == "channels" else 1.05)


def test_every_way_that_channels_are_tied_parses(tmp_path: Path) -> None:
    """Where the original parses; the parser folds fewer computed axes than ONNX Runtime does."""
    pairs = []
    for make in nets.TIED:
        pairs.append((tmp_path / f"{make.__name__}.onnx", tmp_path / f"{make.__name__}.p.onnx"))
        onnx.save(make()[0], pairs[-1][0])
        zl.optimize.prune(pairs[-1][0], pairs[-1][1], method="channels", progress=False)
    whole = judge("parse", *(a for a, _ in pairs))
    pruned = judge("parse", *(b for _, b in pairs))
    assert sum(told["parsed"] for told in whole) >= len(pairs) - 1
    assert [
        (b["path"], b["error"])
        for a, b in zip(whole, pruned, strict=True)
        if a["parsed"] and not b["parsed"]
    ] == []


def test_a_pruned_model_builds_through_zerolane(tmp_path: Path) -> None:
    path = tmp_path / "residual.onnx"
    zl.optimize.prune(nets.residual()[0], path, method="channels", progress=False)
    engine = zl.build(path, backend="tensorrt-rtx", shapes={"x": (1, 3, 8, 10)}, cache=False)
    assert engine.plan.nbytes > 10_000
