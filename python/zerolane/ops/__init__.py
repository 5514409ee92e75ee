"""`zl.ops`: call ops directly, load libraries of them, put them into models.

    zl.ops.Letterbox(size=[640, 640])(image)          # an object with its attributes, then arrays
    zl.ops.call("my::ScaledGelu", x, alpha=1.2)       # by full name
    zl.ops.load("libmy_ops.so")
    zl.ops.attach("model.onnx", "whole.onnx", before={...}, after=[...])

An op by its name alone is one of zerolane's own, or the only one of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerolane.ops.attach import Attached, attach
from zerolane.ops.library import OpLibrary, load, loaded
from zerolane.ops.op import Op, OpType, call, definition, names

if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "Attached",
    "Op",
    "OpLibrary",
    "OpType",
    "attach",
    "call",
    "definition",
    "load",
    "loaded",
    "names",
]


def __getattr__(name: str) -> Any:
    if name.startswith("_") or not name[:1].isupper():
        raise AttributeError(f"module 'zerolane.ops' has no attribute {name!r}")
    from zerolane.errors import NotFound

    try:
        return definition(name)
    except NotFound as error:
        raise AttributeError(str(error)) from error


def __dir__() -> list[str]:
    return sorted({*__all__, *(full.split("::")[-1] for full in names())})
