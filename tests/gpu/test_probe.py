"""The smallest engine runs, or is refused in words: whatever GPU this is."""

from __future__ import annotations

import pytest

from tests.gpu import engines, needs
from tests.gpu.probe import probe


@pytest.mark.parametrize("backend", engines.BACKENDS)
def test_the_smallest_engine_runs_or_is_refused(backend: str) -> None:
    from zerolane.runtimes import tensorrt

    needs.table()
    if not tensorrt.candidates(backend, build=True):
        pytest.skip(f"no library of {backend} that can build")
    found = probe(backend)
    assert found.clean, found.message
    if not found.ran and found.error == "Unavailable":
        pytest.skip(found.message)
    assert found.ran or not found.meant, f"{found.error}: {found.message}"
