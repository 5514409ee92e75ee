"""Where the NumPy reference of an op is, and the cases that come with it."""

from __future__ import annotations

import inspect
import keyword
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import numpy as np

from zerolane._arrays import numpy_dtype
from zerolane.errors import InvalidArgument
from zerolane.ops import library
from zerolane.ops.op import Op, definition
from zerolane.ops.project import snake_case
from zerolane.ops.testing.case import Array, Case

BUILTIN = "zerolane.ops.reference"


@dataclass(frozen=True)
class Reference:
    """Of one op: what it computes, its own cases, and its tolerances by element type."""

    module: str
    function: Callable[..., Any]
    cases: tuple[Case, ...] = ()
    tolerances: Mapping[str, float] | None = None


def installed() -> dict[str, EntryPoint]:
    """The path of each installed library of ops, and the entry point that names it."""
    found = {}
    for entry in entry_points(group=library.GROUP):
        try:
            value = entry.load()
            found[os.path.realpath(value() if callable(value) else value)] = entry
        except Exception:  # zl.ops says so; here it is as if it were not installed
            continue
    return found


@cache
def reference_of(op: str) -> Reference | str:
    """The reference of an op, or why there is none.

    It is a function with the op's name in snake case, in the module `reference` of the package that
    brings the op (zerolane.ops.reference for zerolane's own), or in a module of that name in there.
    The module may have `cases()`, an iterable of Case: an op that has some there is tested with
    those alone; and `tolerances`, numbers by element type.
    """
    name = snake_case(op.rpartition("::")[2])
    name += "_" if keyword.iskeyword(name) else ""
    path = definition(op).library
    if op.startswith("zerolane::"):
        top = BUILTIN
    elif (entry := installed().get(os.path.realpath(path))) is not None:
        top = f"{entry.module.partition('.')[0]}.reference"
    else:
        return "its library belongs to no installed package, which would have the reference"
    for module_name in (f"{top}.{name}", top):
        module = _module(module_name)
        if module is None:
            continue
        function = getattr(module, name, None)
        if callable(function):
            mine = tuple(c for c in _hook(module) if c.op == op)
            return Reference(module_name, function, mine, getattr(module, "tolerances", None))
    return f"{top} has no function {name}"


def expected(reference: Reference, case: Case, outputs: int) -> list[Array]:
    """What the reference says, in the element types of the op's outputs."""
    op = Op(case.op, version=case.version, **case.attributes)
    # What the op is built with: fallbacks included.
    with np.errstate(all="ignore"):
        result = reference.function(*case.inputs, **op.attributes)
    values = result if isinstance(result, tuple) else (result,)
    if len(values) != outputs:
        raise InvalidArgument(
            f"computing the reference of {case.op}: {reference.module} gave {len(values)} values, "
            f"expected {outputs}, one for each output; mend the reference",
            case.op,
        )
    arrays = []
    for value, (dtype, _, _) in zip(values, op._plan(case.inputs), strict=True):
        with np.errstate(all="ignore"):
            arrays.append(np.asarray(value).astype(numpy_dtype(dtype)))
    return arrays


def _module(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            return None
        raise


def _hook(module: ModuleType) -> tuple[Case, ...]:
    hook = getattr(module, "cases", None)
    if hook is None or not inspect.isfunction(hook):
        return ()
    found = tuple(hook())
    wrong = [item for item in found if not isinstance(item, Case)]
    if wrong:
        raise InvalidArgument(
            f"reading the cases of {module.__name__}: cases() gave a {type(wrong[0]).__name__}, "
            "expected zerolane.ops.testing.Case; make those",
            module.__name__,
        )
    return found
