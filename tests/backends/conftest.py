from __future__ import annotations

from collections.abc import Callable

import pytest

import zerolane as zl
from tests.backends.backends import BACKENDS, Backend


@pytest.fixture(params=BACKENDS, ids=str)
def backend(request: pytest.FixtureRequest) -> Backend:
    row: Backend = request.param
    reason = row.missing()
    if reason is not None:
        pytest.skip(reason)
    return row


@pytest.fixture
def load(backend: Backend) -> Callable[..., zl.Session]:
    """`load(model, **options)` on the backend of the row; a model is a proto, bytes or a path."""
    return backend.load
