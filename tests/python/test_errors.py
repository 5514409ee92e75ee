"""The exceptions: attributes, families, and crossing process borders."""

from __future__ import annotations

import copy
import pickle

import pytest

import zerolane as zl
from zerolane import errors

FAMILIES: dict[type[zl.Error], tuple[str, type[BaseException]]] = {
    zl.InvalidArgument: ("invalid_argument", ValueError),
    zl.ShapeMismatch: ("shape_mismatch", zl.InvalidArgument),
    zl.Unsupported: ("unsupported", NotImplementedError),
    zl.NotFound: ("not_found", FileNotFoundError),
    zl.Unavailable: ("unavailable", ImportError),
    zl.OutOfMemory: ("out_of_memory", MemoryError),
    zl.DeadlineExceeded: ("deadline_exceeded", TimeoutError),
    zl.Cancelled: ("cancelled", RuntimeError),
    zl.InvalidModel: ("invalid_model", ValueError),
    zl.BackendError: ("backend", RuntimeError),
    zl.BackendCrashed: ("backend_crashed", zl.BackendError),
    zl.ContractBroken: ("contract_broken", RuntimeError),
    zl.DeviceError: ("device", RuntimeError),
    zl.InternalError: ("internal", RuntimeError),
}
every_kind = pytest.mark.parametrize("kind", FAMILIES)


def test_the_table_is_complete() -> None:
    found = {
        thing
        for thing in vars(errors).values()
        if isinstance(thing, type) and issubclass(thing, zl.Error)
    }
    assert found == {zl.Error, *FAMILIES}


@every_kind
def test_attributes_and_families(kind: type[zl.Error]) -> None:
    code, family = FAMILIES[kind]
    error = kind("doing: found; remedy", "x")
    assert error.code == kind.code == code
    assert error.subject == "x"
    assert str(error) == "doing: found; remedy"
    assert isinstance(error, family)
    assert isinstance(error, zl.Error)
    assert kind("text").subject == ""
    assert kind.__doc__


@every_kind
def test_pickle_and_copy(kind: type[zl.Error]) -> None:
    error = kind("doing: found; remedy", "x")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert str(again) == str(error)
        assert (again.code, again.subject) == (error.code, "x")


def test_codes_are_distinct() -> None:
    assert len({kind.code for kind in FAMILIES}) == len(FAMILIES)


@every_kind
def test_native_codes_find_their_class(kind: type[zl.Error]) -> None:
    error = errors.from_native(kind.code, "text", "x")
    assert type(error) is kind
    assert error.subject == "x"


def test_an_unknown_native_code_is_an_internal_error() -> None:
    assert type(errors.from_native("news", "text", "")) is zl.InternalError


def test_native_core_and_python_agree_on_codes() -> None:
    """Every code that the core names has a class here."""
    import re
    from pathlib import Path

    source = Path(__file__).parents[2] / "cpp" / "core" / "error.cpp"
    named = set(re.findall(r'return "(\w+)";', source.read_text()))
    # A crash is told by the process that started the one that crashed, and contracts are made in
    # Python: the core has no names for them.
    of_python = {"backend_crashed", "contract_broken"}
    assert named == {kind.code for kind in FAMILIES} - of_python
