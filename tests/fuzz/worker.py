"""Loads and runs damaged models, in a process that may die of it.

    python -m tests.fuzz.worker FIRST STEP END     cases FIRST, FIRST + STEP, ... below END
    python -m tests.fuzz.worker FILE               one file

Writes one JSON line a case before it (`begin`) and after it (`end`, and what came of it).
"""

from __future__ import annotations

import json
import logging
import random
import resource
import sys
from pathlib import Path
from typing import Any

import numpy as np

import zerolane as zl
from zerolane._arrays import numpy_dtype

MOST_ELEMENTS = 1_000_000
MEMORY = 8 << 30
DEADLINE_MS = 2000


def tensor(dtype: str, shape: tuple[Any, ...] | None, rng: random.Random) -> Any:
    """Random values of a declared type; free dimensions are small, and sometimes 0."""
    size = rng.choice((1, 1, 2, 3, 0, 16))
    dims = [d if isinstance(d, int) else size for d in shape or ()]
    if shape is None:
        dims = [size] * rng.randrange(4)
    if float(np.prod([float(d) for d in dims])) > MOST_ELEMENTS or any(
        d < 0 or d > MOST_ELEMENTS for d in dims
    ):
        return None
    if dtype == "string":
        return np.full(dims, "text", object)
    values = np.random.default_rng(rng.randrange(2**32)).integers(0, 3, dims)
    return values.astype(numpy_dtype(dtype))


def value(spec: zl.TensorSpec, rng: random.Random) -> Any:
    if "map(" in spec.type:
        key = "a" if "map(string" in spec.type else 1
        return [{key: 1.0}] if spec.type.startswith("sequence") else {key: 1.0}
    if spec.type.startswith("sequence"):
        return [tensor(spec.dtype, (2, 2), rng)]
    return tensor(spec.dtype, spec.shape, rng)


def attempt(content: bytes, rng: random.Random) -> str:
    """What came of it: "ran", or the name of the typed error, with where it was raised."""
    where = "load"
    try:
        session = zl.load(content, threads=1)
        where = "run"
        inputs = {spec.name: value(spec, rng) for spec in session.inputs}
        if any(given is None for given in inputs.values()):
            return "run: input too large"
        session.run(inputs, deadline_ms=DEADLINE_MS)
    except zl.InternalError:
        raise
    except zl.Error as error:
        return f"{where}: {type(error).__name__}"
    return "ran"


def say(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def run_case(number: int, content: bytes, what: str) -> None:
    say({"begin": number, "what": what})
    try:
        outcome = attempt(content, random.Random(number))
    except BaseException as error:
        outcome = f"UNTYPED {type(error).__name__}: {error}"[:400]
    say({"end": number, "what": what, "outcome": outcome})


def main(arguments: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.getLogger("zerolane").addHandler(logging.NullHandler())
    if len(arguments) == 1:
        path = Path(arguments[0])
        for number in range(8):  # eight draws of inputs
            run_case(number, path.read_bytes(), path.name)
        return
    from tests.fuzz import mutate

    first, step, end = map(int, arguments)
    for number in range(first, end, step):
        what, content = mutate.case(number)
        run_case(number, content, what)


if __name__ == "__main__":
    main(sys.argv[1:])
