"""Where the op kit is installed. `python -m zerolane.cmake` prints the folder for CMake:

cmake -Dzerolane_DIR=$(python -m zerolane.cmake) ...      # then find_package(zerolane)
"""

from __future__ import annotations

import os
from importlib.util import find_spec


def get_include() -> str:
    """The folder of the kit's headers, for the compiler's -I: `#include "zerolane/op.h"`."""
    return os.path.join(_installed(), "include")


def get_cmake_dir() -> str:
    """The folder of zerolane-config.cmake, for CMake's zerolane_DIR."""
    return os.path.join(_installed(), "share", "cmake", "zerolane")


def _installed() -> str:
    # Beside the native module: an editable install has the Python files elsewhere.
    spec = find_spec("zerolane._native")
    if spec is None or spec.origin is None:
        from zerolane.errors import Unavailable

        raise Unavailable(
            "looking for the op kit: the module zerolane._native is not installed, expected it "
            "beside the headers; install zerolane again",
            "zerolane._native",
        )
    return os.path.dirname(spec.origin)


if __name__ == "__main__":
    print(get_cmake_dir())
