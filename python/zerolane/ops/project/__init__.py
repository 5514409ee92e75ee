"""Writes a new package of ops: what `zerolane op new` does. The files lie in template/."""

from __future__ import annotations

import keyword
import re
import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

# Names that other things of a build or an installation have.
_TAKEN = {
    *("all", "build", "clean", "cpp", "dist", "help", "install", "package", "src", "std", "test"),
    *("tests", "click", "cmake", "nanobind", "ninja", "numpy", "onnx", "onnxruntime", "pytest"),
    *("rich", "tensorrt", "tensorrt_rtx", "torch", "zerolane"),
}
_TAKEN_BY_CODE = {"Each", "Element", "Math", "Np", "Op", "OpLibrary", "OpType", "Wide"}
_LONGEST = 64


def snake_case(name: str) -> str:
    """ScaledGelu: scaled_gelu; NMSFast: nms_fast. What files and reference functions are named."""
    parts = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", parts).lower()


def new(
    package: str, *, domain: str | None = None, op: str = "ScaledGelu", folder: Path | None = None
) -> Path:
    """Write a package that defines one op, ready for `pip install`, and return its folder.

    package: the name to import it by; a folder of that name is made in `folder` (None: here).
    domain: of its ops in models; None: the package's name without "_ops".
    op: the first op's name, in camel case.

    Raises InvalidArgument for names that a package, a domain or an op cannot have, and where there
    is something in the way: nothing is ever overwritten.
    """
    if domain is None:
        domain = package.removesuffix("_ops") or package
    _check_package(package)
    _check_domain(domain)
    _check_op(op)
    names = {"PACKAGE": package, "DOMAIN": domain, "OP": op, "SNAKE": snake_case(op)}
    root = (folder or Path()) / package
    try:
        root.mkdir(parents=True)
    except OSError as error:
        raise InvalidArgument(
            f"writing package {package!r}: the folder {str(root)!r} cannot be made "
            f"({error.strerror}), expected nothing of that name; choose another name or folder, or "
            "move it away",
            str(root),
        ) from error
    _write(files(__name__).joinpath("template"), root, names)
    return root


def _write(source: Traversable, target: Path, names: dict[str, str]) -> None:
    for item in source.iterdir():
        if item.is_dir():
            inner = target / item.name.replace("PACKAGE", names["PACKAGE"])
            inner.mkdir()
            _write(item, inner, names)
        else:
            name = item.name.removesuffix(".in")
            name = {"op.cu": f"{names['SNAKE']}.cu", "gitignore": ".gitignore"}.get(name, name)
            text = item.read_text(encoding="utf-8")
            text = re.sub(r"@([A-Z]+)@", lambda match: names[match[1]], text)
            (target / name).write_text(text, encoding="utf-8")


def _check_package(name: str) -> None:
    expected = "expected letters a to z, digits and single underscores, beginning with a letter"
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or len(name) > _LONGEST:
        _refuse("package", name, f"{expected}, {_LONGEST} at most", "my_ops")
    if keyword.iskeyword(name) or name in _TAKEN | sys.stdlib_module_names:
        _refuse("package", name, "expected one that nothing else has", f"{name}_ops")


def _check_domain(name: str) -> None:
    part = r"[A-Za-z][A-Za-z0-9_]*"
    if not re.fullmatch(rf"{part}(\.{part})*", name) or len(name) > _LONGEST:
        _refuse("domain", name, "expected letters, digits, underscores and dots", "my, com.example")
    if re.match(r"(zerolane|ai\.onnx|onnx|com\.microsoft|trt|tensorrt)(\.|$)", name.lower()):
        _refuse("domain", name, "expected one that no other maker of ops has", "my, com.example")


def _check_op(name: str) -> None:
    # Capitals alone could be a macro of C, and a snake-case keyword is no function of Python.
    if (
        not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name)
        or not re.search("[a-z]", name)
        or len(name) > _LONGEST
    ):
        _refuse("op", name, "expected a name in camel case, letters and digits", "ScaledGelu")
    if keyword.iskeyword(name) or keyword.iskeyword(snake_case(name)) or name in _TAKEN_BY_CODE:
        _refuse("op", name, "expected one that means nothing in the code", f"My{name}")


def _refuse(what: str, name: str, expected: str, example: str) -> None:
    raise InvalidArgument(
        f"writing a package of ops: the {what} is named {name[:100]!r}, {expected}; "
        f"choose another name (like {example})",
        name[:100],
    )
