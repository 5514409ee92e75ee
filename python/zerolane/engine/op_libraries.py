"""What manifests say of libraries of ops."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from zerolane.errors import NotFound


@dataclass(frozen=True, slots=True)
class OpLibraryUse:
    """A library of ops that a plan was built with.

    path: where it was. sha256: of the file, in hexadecimal. ops: those of it that the plan uses,
    each with the version of its definition.
    """

    name: str
    version: str
    path: str
    sha256: str
    ops: Mapping[str, int]

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({', '.join(sorted(self.ops))})"


def digest_if_there(path: str) -> str | None:
    """The digest of a file; None where there is none."""
    return digest(path) if os.path.isfile(path) else None


def digest(path: str) -> str:
    """SHA-256 of a library's file, in hexadecimal. Raises NotFound."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise NotFound(
            f"reading op library {os.path.basename(path)}: {path!r} cannot be read "
            f"({error.strerror}); check its permissions",
            path,
        ) from error
