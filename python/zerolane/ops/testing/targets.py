"""Which ops are meant by a name."""

from __future__ import annotations

import os

from zerolane.errors import NotFound
from zerolane.ops import library
from zerolane.ops.op import definition, names
from zerolane.ops.testing.references import installed


def ops_of(target: str | os.PathLike[str] | None) -> tuple[str, ...]:
    """The full names of the ops of: an installed package, a library file, "zerolane" (its own), an
    op by its name; None: all that are known. Raises NotFound."""
    if target is None:
        return names()
    text = os.fspath(target)
    if text.endswith(".so") or os.sep in text:
        return tuple(sorted(set(library.load(text).ops)))
    if "::" in text:
        return (definition(text).name,)
    found: set[str] = set()
    for path, entry in installed().items():
        package = entry.dist.name if entry.dist is not None else ""
        if _same(text, package) or text == entry.module.partition(".")[0]:
            found |= set(library.load(path).ops)
    if text == "zerolane":
        found |= set(library.load_builtin().ops)
    if found:
        return tuple(sorted(found))
    try:
        return (definition(text).name,)
    except NotFound as error:
        raise NotFound(
            f"looking for ops to test: {text!r} is no installed package with ops, and no op "
            f"({error}); give a package, the path of a library (.so), or an op",
            text,
        ) from error


def _same(a: str, b: str) -> bool:
    return a.lower().replace("-", "_") == b.lower().replace("-", "_")
