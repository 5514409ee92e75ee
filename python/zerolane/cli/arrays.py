"""Arrays from files and into files."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zerolane._lazy import require
from zerolane.errors import Error, InvalidArgument, NotFound, Unsupported
from zerolane.types import TensorSpec

_KINDS = ".npy, .npz, .json or .pb"


def read_inputs(texts: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Values by input name from texts "FILE" or "NAME=FILE".

    Without a name, .npz and .json hold values by name; another file is the model's only input.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or os.path.exists(text):
            name, file = "", text
        path = Path(file)
        if not path.is_file():
            raise NotFound(
                f"reading input {name or file!r}: there is no file {file!r} (in {os.getcwd()!r}), "
                f"expected {_KINDS}; check the path",
                file,
            )
        try:
            found = _read(path, name)
        except Error:
            raise
        except Exception as error:
            raise InvalidArgument(
                f"reading input {name or file!r}: {file!r} cannot be read as {path.suffix} "
                f"({type(error).__name__}: {error}); write the file again",
                file,
            ) from error
        if "" in found:
            if len(specs) != 1:
                raise InvalidArgument(
                    f"reading input {file!r}: it does not say which of the inputs "
                    f"{[s.name for s in specs]} it is; give NAME={file}",
                    file,
                )
            found = {specs[0].name: found[""]}
        for again in found.keys() & values.keys():
            raise InvalidArgument(
                f"reading input {file!r}: {again!r} was given before, expected once; remove one",
                again,
            )
        values.update(found)
    return values


def _read(path: Path, name: str) -> dict[str, Any]:
    """Values by name; the name is "" where neither the user nor the file says it."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return {name: np.load(path, allow_pickle=False)}
    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as file:
            if not name:
                return dict(file)
            if name not in file:
                raise InvalidArgument(
                    f"reading input {name!r}: {str(path)!r} holds {list(file)}, expected "
                    f"{name!r}; check the name",
                    name,
                )
            return {name: file[name]}
    if suffix == ".json":
        value = json.loads(path.read_text(encoding="utf-8"))
        return dict(value) if isinstance(value, dict) and not name else {name: value}
    if suffix == ".pb":
        onnx = require("onnx", "onnx", f"reading {path.name}")
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        return {name or tensor.name: onnx.numpy_helper.to_array(tensor)}
    raise InvalidArgument(
        f"reading input {name or path.name!r}: {str(path)!r} ends in {path.suffix!r}, expected "
        f"{_KINDS}; convert it",
        str(path),
    )


def save_outputs(outputs: Mapping[str, Any], path: Path) -> None:
    """Write outputs to .npz or .json by name, or one to .npy.

    In .npz and .npy, strings are NumPy strings, and types that NumPy lacks are float32.
    """
    if not path.parent.is_dir():
        raise NotFound(
            f"saving {path.name!r}: there is no folder {str(path.parent)!r}; make it first",
            str(path),
        )
    suffix = path.suffix.lower()
    if suffix not in (".json", ".npz") and not (suffix == ".npy" and len(outputs) == 1):
        raise InvalidArgument(
            f"saving {path.name!r}: the ending is {path.suffix!r} for {len(outputs)} outputs, "
            "expected .npz, .json, or .npy for one output; choose another name",
            str(path),
        )
    try:
        if suffix == ".json":
            from zerolane.cli.verb import plain

            path.write_text(json.dumps(plain(dict(outputs)), ensure_ascii=False), encoding="utf-8")
        elif suffix == ".npz":
            _save_npz({name: _storable(name, value) for name, value in outputs.items()}, path)
        else:
            ((name, value),) = outputs.items()
            np.save(path, _storable(name, value), allow_pickle=False)
    except OSError as error:
        raise InvalidArgument(
            f"saving {path.name!r}: the file cannot be written at {str(path)!r} "
            f"({error.strerror or error}); choose another place",
            str(path),
        ) from error


def _save_npz(arrays: Mapping[str, np.ndarray[Any, Any]], path: Path) -> None:
    # np.savez takes the names as keywords, and an output may be called "file".
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def _storable(name: str, value: Any) -> np.ndarray[Any, Any]:
    if not isinstance(value, np.ndarray):
        raise Unsupported(
            f"saving {name!r}: it is a {type(value).__name__}, an array is needed; save to .json",
            name,
        )
    if value.dtype.kind in "OT":
        return value.astype(str)
    return value.astype(np.float32) if value.dtype.kind == "V" else value
