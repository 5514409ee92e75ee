"""The journal of a search: one JSON object a line, appended as things happen.

The first line says what the search is of. A search that finds a journal of the same model, options
and environment goes on where that one ended; any other journal is refused.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerolane.errors import InvalidArgument

VERSION = 1
NAME = "journal.jsonl"


class Journal:
    """Lines of a file, those that were there first. One process at a time may write it.

    A last line that was cut off, by a kill or a full disk, is taken away; so is nothing else.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.path = folder / NAME
        self.lines: list[dict[str, Any]] = []
        wanted = {"zerolane_tune": VERSION, **json.loads(json.dumps(key))}
        kept = 0
        if self.path.exists():
            kept = self._read()
        if self.lines:
            _check(self.lines.pop(0), wanted, self.path)
        self.resumed = bool(kept)
        self._file = open(self.path, "r+b" if self.path.exists() else "w+b")  # noqa: SIM115
        self._file.truncate(kept)
        self._file.seek(kept)
        if not kept:
            self.write(wanted)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append a line; it is in the file when this returns."""
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def _read(self) -> int:
        """Fills `lines`; returns how many bytes of the file are whole lines."""
        whole = 0
        data = self.path.read_bytes()
        pieces = data.splitlines(keepends=True)
        for number, piece in enumerate(pieces, 1):
            try:
                line = json.loads(piece) if piece.endswith(b"\n") else None
            except ValueError:
                line = None
            if not isinstance(line, dict):
                if number == len(pieces):
                    break
                raise InvalidArgument(
                    f"reading the journal of a search, {str(self.path)!r}: line {number} is not "
                    "what was written there, expected a JSON object; delete the file to start anew",
                    str(self.path),
                )
            self.lines.append(line)
            whole += len(piece)
        return whole


def _check(found: Mapping[str, Any], wanted: Mapping[str, Any], path: Path) -> None:
    names = {"model": "another model", "environment": "another machine or other versions"}
    for name, value in wanted.items():
        if found.get(name) != value:
            what = names.get(name, f"other {name}")
            raise InvalidArgument(
                f"reading the journal of a search, {str(path)!r}: it is of {what} "
                f"({_short(found.get(name))}), expected {_short(value)}; give another folder, or "
                "delete the file to start anew",
                name,
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 160 else text[:157] + "..."
