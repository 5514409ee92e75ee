"""Every wrapper of every family calls the method it is named after: object, arguments, result."""

from __future__ import annotations

import pytest

from tests.abi import fakes, tables
from tests.abi.compiler import Compiler, run
from tests.abi.tables import FAMILIES

# The ends of each family, and the release that has an order of its own.
RELEASES = [
    ("10", 0),
    ("10", 8),
    ("10", 9),
    ("10", 16),
    ("11", 0),
    ("11", 4),
    ("rtx", 5),
    ("rtx", 7),
]
DELETED = 15  # classes that the application deletes


def lines(compiler: Compiler, family: str, minor: int, source: str | None = None) -> list[str]:
    text = fakes.library(family, minor) if source is None else source
    library = compiler.shared(text, FAMILIES[family].soname)
    return run(compiler.program("calls.cpp"), library).splitlines()


@pytest.mark.parametrize(("family", "minor"), RELEASES)
def test_every_wrapper_reaches_its_method(compiler: Compiler, family: str, minor: int) -> None:
    out = lines(compiler, family, minor)
    assert [line for line in out if line.startswith(("wrong", "  "))] == []
    reached = {line.removeprefix("ok ") for line in out if line.startswith("ok ")}
    placed = tables.expected_slots(family, minor)
    names = {f"{owner}.{method}" for owner, method in placed if method != "destroy"}
    assert names <= reached
    absent = {line.removeprefix("absent ") for line in out if line.startswith("absent ")}
    everything = {f"{call.owner}.{call.method}" for call in tables.calls()}
    assert absent == everything - {f"{owner}.{method}" for owner, method in placed}
    rest = reached - names
    classes = tables.order_of(family, minor)
    deleted = {name for name in rest if name.startswith("delete ")}
    assert rest - deleted == {"factories"}
    missing = {"RuntimeConfig", "RuntimeCache"} - set(classes)
    assert len(deleted) == DELETED - len(missing)


def test_a_moved_method_is_seen(compiler: Compiler) -> None:
    """The same library with two methods exchanged: exactly their wrappers are reported."""
    source = fakes.library("11", 4)
    swapped = (
        source.replace("virtual void markOutput(", "virtual void MARK(")
        .replace("virtual Layer* addActivation(", "virtual Layer* markOutput_(")
        .replace("virtual void MARK(", "virtual void addActivation_(")
    )
    assert swapped != source
    # Both still write down their own names; now exchange their places.
    text = swapped.splitlines()
    first = next(i for i, line in enumerate(text) if "addActivation_(" in line)
    second = next(i for i, line in enumerate(text) if "markOutput_(" in line)
    text[first], text[second] = text[second], text[first]
    out = lines(compiler, "11", 4, "\n".join(text))
    wrong = {line.removeprefix("wrong ") for line in out if line.startswith("wrong ")}
    assert wrong == {"NetworkDefinition.markOutput", "NetworkDefinition.addActivation"}
