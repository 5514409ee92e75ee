# SPDX-License-Identifier: Apache-2.0
"""The same engine built three ways: by zerolane in this process, in its child, by the bindings.

All three parse the same file for the same shapes with the library's defaults, strongly typed, and
end with the plan in this process's memory. zerolane also reads the model itself, and takes the
digests that go into the manifest.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Shapes = dict[str, list[tuple[int, ...]]]
Build = Callable[[Path, Shapes], Any]


def zerolane(isolate: bool) -> Build:
    import zerolane as zl

    def build(path: Path, shapes: Shapes) -> Any:
        return zl.build(path, shapes=shapes or None, cache=False, isolate=isolate).plan

    return build


def bindings() -> Build:
    """The vendor's package; raises ImportError where it is missing."""
    import tensorrt_rtx_bindings as trt

    log = trt.Logger(trt.Logger.ERROR)

    def build(path: Path, shapes: Shapes) -> Any:
        builder = trt.Builder(log)
        typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
        network = builder.create_network(typed)
        parser = trt.OnnxParser(network, log)
        if not parser.parse_from_file(str(path)):
            raise RuntimeError(f"the bindings cannot parse {path}")
        config = builder.create_builder_config()
        if shapes:
            profile = builder.create_optimization_profile()
            for name, bounds in shapes.items():
                profile.set_shape(name, *bounds)
            config.add_optimization_profile(profile)
        return memoryview(builder.build_serialized_network(network, config))

    return build


BUILDS: dict[str, Callable[[], Build]] = {
    "zerolane": lambda: zerolane(isolate=False),
    "zerolane child": lambda: zerolane(isolate=True),
    "bindings": bindings,
}


def make(name: str) -> Build:
    return BUILDS[name]()
