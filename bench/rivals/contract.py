# SPDX-License-Identifier: Apache-2.0
"""The contract: a driver loads a file; its handle offers forms of calling it, ready to be timed.

What a timed call includes is the same within a kind:
- bound ("bound", "iobinding", "loop"): inputs and outputs lie in memory fixed beforehand; the call
  computes the outputs there, and nothing else. Filling the input is not timed, for anyone.
- free ("call", "run"): NumPy arrays in; every call makes its outputs as new NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Feed = dict[str, Array]


class Unsupported(Exception):
    """This driver has no such form for this model; the text is the reason."""


def _not_python(*_: object) -> object:
    raise TypeError("calling a native form from Python: it has no Python call; use `native`")


@dataclass(frozen=True)
class Form:
    """One way of calling, ready to be timed.

    `fn(*args)` is one call. A form in C has `native(batches, calls)` in its place, which returns
    the nanoseconds of each batch of calls. `outputs()` makes one such call and copies what it
    computed. Whatever the call needs stays alive with the form.
    """

    name: str
    outputs: Callable[[], Feed]
    fn: Callable[..., object] = _not_python
    args: tuple[Any, ...] = ()
    native: Callable[[int, int], list[int]] | None = None


class Handle(Protocol):
    """A loaded model."""

    def form(self, kind: str, inputs: Feed, wanted: Feed) -> Form:
        """The call of one of the driver's `kinds` with these inputs in place, or Unsupported.

        `wanted` are the right outputs: their shapes and dtypes are what a bound form binds.
        """
        ...


class Driver(Protocol):
    """A library, with the options that are the same for all: threads, sequential, optimized."""

    name: str
    kinds: tuple[str, ...]

    def version(self) -> str: ...

    def load(self, path: Path, threads: int) -> Handle: ...


def check_equal(who: str, outputs: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    """Refuses to compare the speed of different work: names, shapes, dtypes and values must agree.

    Floats agree within 1e-5, everything else exactly.
    """
    problem = ""
    if list(outputs) != list(wanted):
        problem = f"outputs {list(outputs)} against {list(wanted)}"
    for name, want in wanted.items() if not problem else ():
        got = np.asarray(outputs[name])
        text = want.dtype.kind in "OUS" and got.dtype.kind in "OUS"
        if got.shape != want.shape or (got.dtype != want.dtype and not text):
            problem = f"{name} {got.dtype}{got.shape} against {want.dtype}{want.shape}"
        elif want.dtype.kind == "f" and not np.allclose(got, want, rtol=1e-5, atol=1e-5):
            problem = f"{name} differs by {float(np.abs(got - want).max()):g} against 1e-5 allowed"
        elif want.dtype.kind != "f" and not np.array_equal(got, want):
            problem = f"{name} {got.ravel()[:4]} against {want.ravel()[:4]}"
        if problem:
            break
    if problem:
        raise RuntimeError(
            f"comparing the outputs of {who} with onnxruntime's: {problem}; "
            "a time would be worth nothing, so find out why they differ"
        )
