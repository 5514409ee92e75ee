from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import zerolane as zl
from tests.backends.backends import BACKENDS, Backend
from tests.fakes.tensorrt import libraries


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    row: Backend = request.param
    reason = row.missing()
    if reason is not None:
        pytest.skip(reason)
    yield row
    assert row.violations() == {}
    if row.family is not None:
        assert libraries.violations(row.family) == {}


@pytest.fixture
def load(backend: Backend) -> Callable[..., zl.Session]:
    """`load(model, **options)` on the backend of the row; a model is a proto, bytes or a path."""
    return backend.load
