"""Libraries of ops that engines need: found for a model, found again by content and loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from zerolane import _native
from zerolane.engine.op_libraries import OpLibraryUse, digest, digest_if_there
from zerolane.errors import Unavailable, Unsupported
from zerolane.ops import library as libraries


def uses(ops: Iterable[tuple[str, str, int]], model: str) -> tuple[OpLibraryUse, ...]:
    """The libraries that define a model's ops: rows of domain, name, imported version.

    Loads installed libraries. Ops that none defines are left out: the vendor's library may know
    them. Raises Unsupported for ops that are defined in Python.
    """
    found: dict[str, dict[str, int]] = {}
    for domain, name, version in ops:
        full = f"{domain}::{name}"
        most = version if 0 < version < 2**31 else 2**31 - 1
        if _native.find_op(full, most) is None:
            libraries.resolve(domain)
        row = _native.find_op(full, most)
        if row is None:
            continue
        if not row["library"]:
            raise Unsupported(
                f"building {model}: op {full} is defined in Python by this process, expected an op "
                "of a library, which an engine can name; write it in C++ (zerolane/op.h), or run "
                "the model with backend='onnxruntime'",
                full,
            )
        found.setdefault(row["library"], {})[full] = row["version"]
    known = {library.path: library for library in libraries.loaded()}
    return tuple(
        OpLibraryUse(known[path].name, known[path].version, path, _digest_of_loaded(path), used)
        for path, used in sorted(found.items())
    )


def load(uses: Sequence[OpLibraryUse], folder: str | None) -> list[tuple[str, dict[str, int]]]:
    """Load the libraries that an engine needs; return their paths, and the ops it has of each.

    Only a file with the very content is taken: one that is loaded already, the one at the recorded
    path, one of that name in `folder` (the engine's own), zerolane's, an installed package's.
    Raises Unavailable where there is none.
    """
    return [(_load(use, folder), dict(use.ops)) for use in uses]


def _load(use: OpLibraryUse, folder: str | None) -> str:
    path = _loaded(use)
    if path is not None:
        return path
    places = [use.path]
    if folder is not None:
        places.append(os.path.join(folder, os.path.basename(use.path)))
    for place in places:
        if digest_if_there(place) == use.sha256:
            return libraries.load(place).path
    for name in use.ops:
        libraries.resolve(name.partition("::")[0])
    path = _loaded(use)
    if path is None:
        raise libraries.missing_library(use.name, use.path, use.sha256)
    return path


def _loaded(use: OpLibraryUse) -> str | None:
    """The library of this content that this process has loaded."""
    for library in libraries.loaded():
        mine = library.name == use.name and library.version == use.version and library.path
        if mine and not libraries.changed(library.path) and digest(library.path) == use.sha256:
            return library.path
    return None


def _digest_of_loaded(path: str) -> str:
    if libraries.changed(path):
        raise Unavailable(
            f"building with op library {os.path.basename(path)}: {path!r} was written since this "
            "process loaded it, expected the same file; start the program again",
            path,
        )
    return digest(path)
