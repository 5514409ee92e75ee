"""Values that leave the range of float16, found by one run of the float32 model on real samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, helper, numpy_helper

from zerolane.model.load import load
from zerolane.model_file import Payloads, write
from zerolane.optimize.onnx_graph import FLOAT, all_names, view
from zerolane.optimize.precision.rounding import FLOAT16_NORMAL, FLOAT16_OVERFLOWS

_SENTINEL = 3.39e38  # the lowest float32 in a mask stands for minus infinity, as in `verify`


def largest_values(
    model: ModelProto,
    payloads: Payloads,
    samples: Iterable[Mapping[str, Any]],
    folder: Path,
    *,
    external: bool,
) -> dict[str, float]:
    """The largest finite magnitude of each float32 value of the main graph, over the samples.

    Each value gets a maximum beside it in the graph, so no value is brought out: it takes one run a
    sample and little memory. Raises what loading and running raise.
    """
    watched = ModelProto()
    watched.CopyFrom(model)
    names = _watch(watched)
    if not names:
        return {}
    path = folder / "watched.onnx"
    write(watched, payloads, path, external=external)
    session = load(path, graph_level="basic")
    found = dict.fromkeys(names, 0.0)
    for sample in samples:
        got = session.run(dict(sample), outputs=[*names.values()])
        for name, shown in names.items():
            found[name] = max(found[name], float(got[shown]))
    return found


def out_of_range(largest: Mapping[str, float]) -> dict[str, str]:
    """Why float16 does not hold a value, by its name; those that it holds are left out."""
    reasons = {}
    for name, size in largest.items():
        if size >= FLOAT16_OVERFLOWS:
            reasons[name] = f"{name} reaches {size:.3g} on the samples, beyond float16's 65504"
        elif 0 < size < FLOAT16_NORMAL:
            reasons[name] = (
                f"{name} reaches only {size:.3g} on the samples, where float16 has few bits or none"
            )
    return reasons


def _watch(model: ModelProto) -> dict[str, str]:
    """Adds the maxima in place; the output's name by the value's."""
    taken = all_names(model)
    graph = model.graph

    def fresh(stem: str) -> str:
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        return name

    limit, zero = fresh("watch_limit"), fresh("watch_zero")
    names = {}
    for value in view(model).values.values():
        if not value.is_float or value.constant is not None:
            continue
        size, small, kept, most = (
            fresh(f"{value.name}_{part}") for part in ("size", "small", "kept", "most")
        )
        graph.node.extend(
            [
                helper.make_node("Abs", [value.name], [size]),
                helper.make_node("Less", [size, limit], [small]),
                helper.make_node("Where", [small, size, zero], [kept]),
                helper.make_node("ReduceMax", [kept], [most], keepdims=0),
            ]
        )
        graph.output.append(helper.make_tensor_value_info(most, FLOAT, []))
        names[value.name] = most
    for name, number in ((limit, _SENTINEL), (zero, 0.0)) if names else ():
        graph.initializer.append(numpy_helper.from_array(np.array(number, np.float32), name))
    return names
