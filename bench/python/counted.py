# SPDX-License-Identifier: Apache-2.0
"""Child of bench_instructions: N calls of one form on the one-operator model, then 2N, marked off.

    python -m bench.python.counted zerolane bound MODEL 1 2000

zerolane is told to hold the GIL, as it decides by itself for calls this short: under valgrind all
calls look long. callgrind sees the marks as calls of floor_marked. Where the counting library is
preloaded, the heap blocks taken between the marks are printed.
"""

from __future__ import annotations

import ctypes
import json
import sys
from itertools import repeat
from pathlib import Path

import numpy as np

from bench import native
from bench.rivals import all_drivers
from bench.rivals.contract import Form

WARM_UP_CALLS = 500


def calls(form: Form, count: int) -> None:
    """`count` calls with nothing else in the loop that takes heap memory."""
    if form.native is not None:
        form.native(1, count)
        return
    fn, args = form.fn, form.args
    if len(args) == 0:
        for _ in repeat(None, count):
            fn()
    else:
        for _ in repeat(None, count):
            fn(*args)


def main(driver_name: str, kind: str, model: str, threads: int, count: int) -> None:
    driver = next(d for d in all_drivers(gil="hold") if d.name == driver_name)
    x = np.array([[-1, 0, 1, 2]], np.float32)
    form = driver.load(Path(model), threads).form(kind, {"x": x}, {"y": np.maximum(x, 0)})
    mark = ctypes.CDLL(str(native.floor_library())).floor_mark
    counter = getattr(ctypes.CDLL(None), "allocations_taken", None)
    if counter is not None:
        counter.restype = ctypes.c_long
    taken = counter or int
    marks = [0, 0, 0]
    calls(form, WARM_UP_CALLS)
    mark()
    marks[0] = taken()
    calls(form, count)
    mark()
    marks[1] = taken()
    calls(form, 2 * count)
    mark()
    marks[2] = taken()
    if counter is not None:
        print(json.dumps([marks[1] - marks[0], marks[2] - marks[1]]))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
