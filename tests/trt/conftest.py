from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.fakes.tensorrt import libraries
from tests.trt.engines import Fake

VARIABLE = "ZEROLANE_TEST_STAND_IN"  # set by tests/backends/test_stand_ins.py, which runs these


def pytest_ignore_collect(collection_path: object) -> bool | None:
    return None if os.environ.get(VARIABLE) else True


@pytest.fixture(scope="session")
def installed() -> str:
    from tests.fakes.tensorrt import stand_in

    family = os.environ[VARIABLE]
    stand_in.install(family)
    return family


@pytest.fixture
def fake(installed: str) -> Iterator[Fake]:
    """The stand-in, healed before and without a broken rule after."""
    found = Fake(libraries.FAMILIES[installed], libraries.control(installed), libraries.cuda())
    found.heal()
    yield found
    found.heal()
    assert libraries.violations(installed) == {}
