"""Every pass leaves in the file what was done to it, with what, and from which file."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from onnx import ModelProto

from zerolane import __version__
from zerolane.model.steps import KEY, Step, read_steps
from zerolane.model_file import Loaded

__all__ = ["Step", "stamp", "steps"]


def stamp(
    model: ModelProto,
    step: str,
    options: Mapping[str, object],
    source: Loaded | str = "",
    tools: Iterable[str] | Mapping[str, str] = ("onnx",),
) -> None:
    """Append a step to the model's metadata, in place; what it says is the same every time.

    options: what the pass was asked for; those that are None are left out, of a path stays the
    name, and an array or a callable is told by its kind: no file should hold samples or folders.
    source: the model that was read, or its SHA-256 in hexadecimal (of a framework's file).
    tools: names of the packages that took part, whose releases are looked up, or both by name.
    """
    told = Step(
        step,
        __version__,
        {
            name: tools[name] if isinstance(tools, Mapping) else _version(name)
            for name in sorted(tools)
        },
        {name: _plain(value) for name, value in options.items() if value is not None},
        source if isinstance(source, str) else source.sha256,
        {} if isinstance(source, str) else source.external_sha256(),
    )
    rows = [s.as_dict() for s in (*steps(model), told)]
    entry = next((e for e in model.metadata_props if e.key == KEY), None)
    if entry is None:
        entry = model.metadata_props.add(key=KEY)
    entry.value = json.dumps(rows, separators=(",", ":"))


def steps(model: ModelProto) -> tuple[Step, ...]:
    """The steps that made the model, the first step first."""
    return read_steps({e.key: e.value for e in model.metadata_props})


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # A distribution has another name, as onnxruntime-gpu has.
        module = importlib.import_module(package)
        return str(getattr(module, "__version__", "unknown"))


def _plain(value: object) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, os.PathLike):
        return os.path.basename(os.fspath(value))
    return f"<{getattr(value, '__name__', type(value).__name__)}>"
