from __future__ import annotations

import pytest

from tests.abi.compiler import Compiler, find_compiler


@pytest.fixture(scope="session")
def compiler(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Compiler:
    command = find_compiler()
    if command is None:
        pytest.skip("no C++ compiler on PATH (g++, c++ or clang++)")
    cache = getattr(pytestconfig, "cache", None)  # none under `-p no:cacheprovider`
    return Compiler(command, cache.mkdir("abi") if cache else tmp_path_factory.mktemp("abi"))
