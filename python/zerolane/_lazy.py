"""Optional packages are imported here, in the function that needs them."""

from __future__ import annotations

import importlib

from zerolane.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or raise `Unavailable` that names the extra which brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Unavailable(
            f"{purpose}: the package {module.partition('.')[0]!r} cannot be imported ({error}); "
            f"pip install 'zerolane[{extra}]'",
            module,
        ) from error
