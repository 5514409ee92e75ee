"""zl.load_test and `zerolane bench` under load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.batcher import models


@pytest.fixture(scope="module")
def session() -> zl.Session:
    return zl.load(models.unnamed(), threads=1)


@pytest.mark.parametrize("max_batch", [None, 8])
def test_points(session: zl.Session, max_batch: int | None) -> None:
    told: list[str] = []
    result = zl.load_test(
        session,
        clients=(1, 5),
        rates=(300,),
        lanes=2,
        max_batch=max_batch,
        seconds=0.2,
        progress=lambda done, doing: told.append(doing),
    )
    assert [(p.clients, p.rate) for p in result.points] == [(1, None), (5, None), (None, 300)]
    for point in result.points:
        assert point.requests > 5
        assert 0 < point.p50_us <= point.p90_us <= point.p99_us <= point.p999_us <= point.max_us
    assert 55 <= result.points[2].requests <= 61  # sent by the clock, answered or not
    assert (result.rows_per_run is None) == (max_batch is None)
    assert told == ["1 clients", "5 clients", "300 requests/s", "done"]
    assert result.as_dict()["lanes"] == 2


@pytest.mark.parametrize(
    "options",
    [
        {"clients": ()},
        {"clients": (0,)},
        {"rates": (0,)},
        {"seconds": 0},
        {"seconds": float("nan")},
    ],
)
def test_bad_options(session: zl.Session, options: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidArgument, match=next(iter(options))):
        zl.load_test(session, **options)


def test_a_failing_model_is_told() -> None:
    session = zl.load(models.lookup(), threads=1)
    with pytest.raises(zl.InvalidArgument, match="99"):
        zl.load_test(session, clients=(2,), seconds=0.1, inputs={"i": np.array([99])})
