"""What tells metrics apart in the journal, and what does not."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models.task_checks import FOLDER, case_inputs
from zerolane.errors import InvalidArgument
from zerolane.tuning.identity import identity_of


def above(limit: float, images: Any = None) -> Callable[[Any], float]:
    return lambda run: float(run(images) > limit)


def labelled(run: Any, labels: Any = (1, 2)) -> float:
    return float(run(labels) in {"red", "green", "blue"})


@dataclass
class Right:
    labels: Any
    strict: bool = False

    def __call__(self, run: Any) -> float:
        return float(run(self.labels))

    def loosely(self, run: Any) -> float:
        return float(run(self.labels) or 0.5)


class Slotted:
    __slots__ = ("limit",)

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, run: Any) -> float:
        return float(run(self.limit))


ROWS = np.arange(6.0)
DIFFERENT: list[Any] = [
    "top1",
    "top1:logits",
    lambda run: 1.0,
    lambda run: 0.5,
    lambda run: run(1),
    lambda run: run(True),
    lambda run: next(1.0 for _ in run(1)),
    lambda run: next(1.0 for _ in run(2)),
    above(0.1),
    above(0.2),
    above(0.2, ROWS),
    above(0.2, ROWS + 1),
    above(0.2, ROWS.astype(np.float32)),
    labelled,
    functools.partial(labelled, labels=(1, 3)),
    functools.partial(labelled, labels=[1, 3]),
    Right(ROWS),
    Right(ROWS, True),
    Right(ROWS).loosely,
    Right([*ROWS]),
    Slotted(1.0),
    Slotted(2.0),
    max,
    min,
]


def test_all_of_these_differ() -> None:
    found = [identity_of(metric) for metric in DIFFERENT]
    assert len({*found}) == len(found)
    assert found[0] == "top1"
    assert found[8].startswith("tests.tuning.test_identity.above.<locals>.<lambda> ")


def test_the_same_again_is_the_same() -> None:
    pairs = [
        (above(0.1, ROWS), above(0.1, ROWS.copy())),
        (Right(ROWS), Right(ROWS.copy())),
        (Right(ROWS).loosely, Right(ROWS.copy()).loosely),
        (Slotted(1.0), Slotted(1.0)),
        (functools.partial(labelled, labels=(1,)), functools.partial(labelled, labels=(1,))),
    ]
    for one, other in pairs:
        assert identity_of(one) == identity_of(other)


def test_another_process_says_the_same() -> None:
    """Whatever its seed of hashes, which the order of sets depends on."""
    code = (
        "from tests.tuning.test_identity import *\n"
        "print(identity_of(labelled), identity_of(above(0.2, ROWS)), identity_of(Right(ROWS)))"
    )
    root = Path(__file__).parents[2]
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=root,
            env={"PYTHONHASHSEED": seed, "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(said) == 1
    assert identity_of(labelled) in said.pop()


def test_what_holds_itself_or_much_ends() -> None:
    metric = Right([])
    metric.labels.append(metric)
    assert identity_of(metric).startswith("tests.tuning.test_identity.Right ")
    deep: list[Any] = []
    wide: list[Any] = []
    for _ in range(3000):
        deep, wide = [deep], [wide, wide]
    assert identity_of(Right(deep)) != identity_of(Right(wide))


def test_a_search_does_not_go_on_with_another_lambda(tmp_path: Path) -> None:
    def search(metric: Any) -> zl.TuneResult:
        return zl.tune(
            FOLDER / "digits_cnn.onnx",
            case_inputs("digits_cnn"),
            budget_s=0.1,
            metric=metric,
            space={"artefacts": ("original",), "threads": (1,), "graph_levels": ("all",)},
            folder=tmp_path,
            progress=False,
        )

    assert search(lambda run: 1.0).metric == "<lambda>"
    assert search(lambda run: 1.0).resumed
    before = (tmp_path / "journal.jsonl").read_bytes()
    with pytest.raises(InvalidArgument, match=r"of other options .*expected.*another folder"):
        search(lambda run: 0.5)
    assert (tmp_path / "journal.jsonl").read_bytes() == before
