"""Ops as objects: made once with their attributes, then called on arrays."""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from zerolane import _native
from zerolane.errors import NotFound
from zerolane.ops.library import resolve, why_missing


def _result_type(names: list[str]) -> type:
    return namedtuple("Outputs", [re.sub(r"\W", "_", name) for name in names], rename=True)


class Op(_native.Op):
    """An op with its attributes: `op(x, y)` takes arrays and returns arrays of the same kind.

    NumPy, and through DLPack torch, JAX and CuPy; on the host, or all on one GPU where the op has a
    CUDA body. None leaves an optional input out. One output gives the array itself, several give a
    named tuple. Inputs are not changed and not kept; results are the caller's. Any thread.
    """

    def __init__(
        self, name: str, *, version: int | None = None, gil: str = "auto", **attributes: Any
    ) -> None:
        full = find(name)
        _native.Op.__init__(self, full, version, attributes, gil, _result_type)

    def __repr__(self) -> str:
        given = ", ".join(f"{name}={value!r}" for name, value in self.attributes.items())
        return f"{self.name}({given})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.name, self.version, self.attributes)


def _again(name: str, version: int, attributes: dict[str, Any]) -> Op:
    return Op(name, version=version, **attributes)


@dataclass(frozen=True)
class OpType:
    """A definition of an op. Calling it with attributes makes an `Op`."""

    name: str
    version: int
    doc: str
    attributes: tuple[Mapping[str, Any], ...]
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    cpu: bool
    cuda: bool
    library: str

    def __call__(self, **attributes: Any) -> Op:
        return Op(self.name, version=self.version, **attributes)

    def __str__(self) -> str:
        lines = [f"{self.name} version {self.version}: {self.doc}"]
        for title, rows in (("input", self.inputs), ("output", self.outputs)):
            for row in rows:
                kind = "" if row["kind"] == "required" else f" ({row['kind']})"
                dtypes = " | ".join(row["dtypes"])
                lines.append(f"  {title} {row['name']}{kind}: {dtypes}  {row['doc']}".rstrip())
        for row in self.attributes:
            fallback = "required" if row["required"] else f"= {row['fallback']!r}"
            lines.append(
                f"  attribute {row['name']}: {row['type']} {fallback}  {row['doc']}".rstrip()
            )
        return "\n".join(lines)


def find(name: str) -> str:
    """The full name of an op: "domain::Op" as it is, "Op" in zerolane's or the only domain."""
    domain, separator, _ = name.partition("::")
    if separator:
        if _native.find_op(name, 2**31 - 1) is None:
            resolve(domain)
        if _native.find_op(name, 2**31 - 1) is None:
            raise why_missing(name)
        return name
    resolve("zerolane")
    if _native.find_op(f"zerolane::{name}", 2**31 - 1) is not None:
        return f"zerolane::{name}"
    resolve("")
    found = {row["name"] for row in _native.ops("") if row["name"].endswith(f"::{name}")}
    if len(found) > 1:
        raise NotFound(
            f"looking for op {name!r}: {len(found)} domains have one: {', '.join(sorted(found))}; "
            "give the domain too",
            name,
        )
    if not found:
        raise why_missing(name)
    return str(found.pop())


def definition(name: str, version: int | None = None) -> OpType:
    """The newest definition of an op, or the newest up to `version`."""
    row = _native.find_op(find(name), 2**31 - 1 if version is None else version)
    if row is None:
        raise why_missing(name)
    return OpType(
        row["name"],
        row["version"],
        row["doc"],
        tuple(row["attributes"]),
        tuple(row["inputs"]),
        tuple(row["outputs"]),
        row["cpu"],
        row["cuda"],
        row["library"],
    )


def names() -> tuple[str, ...]:
    """The full names of all ops that are built in, installed, loaded or defined."""
    resolve("")
    return tuple(sorted({row["name"] for row in _native.ops("")}))


@lru_cache(maxsize=256)
def _made(name: str, attributes: tuple[tuple[str, Any], ...], generation: int) -> Op:
    given: dict[str, Any] = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes}
    return Op(name, **given)


def call(name: str, *arrays: Any, **attributes: Any) -> Any:
    """Run an op on arrays: `Op(name, **attributes)(*arrays)`; keeps the op for the next call."""
    key = tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(attributes.items()))
    try:
        op = _made(name, key, _native.op_generation())
    except TypeError:  # an attribute that has no hash: an array
        op = Op(name, **attributes)
    return op(*arrays)
