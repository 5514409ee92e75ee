"""Pruned in ONNX, fine-tuned in PyTorch, written back."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are pruned with onnx")
torch = pytest.importorskip("torch", reason="weights go into a torch module")
pytest.importorskip("onnxscript", reason="torch exports with it")

import zerolane as zl  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane.optimize.pruning.sparsity import is_two_of_four  # noqa: E402


class Small(torch.nn.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.deep = torch.nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = torch.nn.PReLU(16)
        self.last = torch.nn.Conv2d(16, 12, 3, padding=1)
        self.head = torch.nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        y = self.norm(self.deep(self.first(x)))
        return self.head(torch.relu(self.last(y)).mean((2, 3)))


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Small, Path]:
    torch.manual_seed(0)
    module = Small().eval()
    path = tmp_path / "m.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module, (torch.zeros(2, 3, 8, 8),), path, dynamo=True, verbose=False,
            external_data=False, optimize=False,
        )  # fmt: skip
    return module, path


@pytest.mark.parametrize("method", ["channels", "2:4"])
def test_there_and_back(method: Any, exported: tuple[Small, Path], tmp_path: Path) -> None:
    module, path = exported
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    pruned, tuned = tmp_path / "p.onnx", tmp_path / "t.onnx"
    zl.optimize.prune(path, pruned, method=method, samples=x, progress=False)
    assert set(zl.optimize.to_torch(pruned, module)) == set(module.state_dict())
    (wanted,) = zl.load(pruned).run({"x": x}).values()
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)), wanted, atol=1e-4)
    if method == "channels":
        assert (module.first.out_channels, module.deep.groups, module.last.in_channels) == (8, 8, 8)
        assert module.head.in_features == 6
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02, weight_decay=1e-4)
    goal = torch.randn(2, 5)
    losses = []
    for _ in range(40):
        loss = (module(torch.from_numpy(x)) - goal).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    zl.optimize.from_torch(module, pruned, tuned)
    (got,) = zl.load(tuned).run({"x": x}).values()
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x)), got, atol=1e-4)
    assert not np.allclose(got, wanted)
    if method == "2:4":
        assert is_two_of_four(module.last.weight.detach().numpy(), 1)


def test_modules_that_do_not_fit(exported: tuple[Small, Path], tmp_path: Path) -> None:
    module, path = exported
    other = torch.nn.Sequential(torch.nn.Linear(3, 4))
    with pytest.raises(zl.InvalidArgument, match=r"0\.weight") as caught:
        zl.optimize.to_torch(path, other)
    assert_three_parts(str(caught.value))
    module.head = torch.nn.Linear(12, 6)
    with pytest.raises(zl.InvalidArgument, match=r"head\.weight"):
        zl.optimize.from_torch(module, path, tmp_path / "t.onnx")
    assert not (tmp_path / "t.onnx").exists()
