"""Builds engines of damaged models, several at a time, in one process that must not die of it.

    python -m tests.fuzz.builder FIRST END      cases FIRST to END - 1
    python -m tests.fuzz.builder FILE           one file

Writes one JSON line a case: its number, what was done to which model, what came of it.
"""

from __future__ import annotations

import json
import logging
import os
import random
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import zerolane as zl
from zerolane.model.inspect import inspect

MEMORY = 12 << 30  # of address space, for each child; the library alone maps a quarter of it
TIMEOUT_S = 60


def shapes(content: bytes, rng: random.Random) -> dict[str, list[tuple[int, ...]]]:
    """A range for each input with free dimensions, as far as there can be one."""
    found = {}
    sizes = sorted((rng.choice((0, 1, 1, 2)), rng.choice((2, 4)), rng.choice((4, 16))))
    try:
        inputs = inspect(content, backends=False).inputs
    except zl.Error:
        return {}  # zl.build has to say so itself
    for spec in inputs:
        dims = spec.shape if spec.shape is not None else (None, None)
        if not all(isinstance(d, int) for d in dims) or spec.shape is None:
            found[spec.name] = [tuple(d if isinstance(d, int) else k for d in dims) for k in sizes]
    return found


def attempt(content: bytes, rng: random.Random) -> tuple[str, str]:
    """What came of it ("built", or the name of the typed error), and what was said."""
    try:
        engine = zl.build(
            content, shapes=shapes(content, rng) or None, cache=False, timeout_s=TIMEOUT_S
        )
    except zl.InternalError as error:
        return f"UNTYPED {type(error).__name__}", str(error)
    except zl.Error as error:
        return type(error).__name__, str(error)
    return ("built" if engine.plan.nbytes > 1000 else "UNTYPED empty plan"), ""


def run_case(number: int, content: bytes, what: str) -> None:
    try:
        outcome, said = attempt(content, random.Random(number))
    except BaseException as error:
        outcome, said = f"UNTYPED {type(error).__name__}", str(error)
    line = {"case": number, "what": what, "outcome": outcome, "said": said[:600]}
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    logging.getLogger("zerolane").addHandler(logging.NullHandler())
    if len(arguments) == 1:
        path = Path(arguments[0])
        run_case(0, path.read_bytes(), path.name)
        return
    from tests.fuzz import mutate

    def case(number: int) -> None:
        what, content = mutate.case(number)
        run_case(number, content, what)

    first, end = map(int, arguments)
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        list(pool.map(case, range(first, end)))


if __name__ == "__main__":
    main(sys.argv[1:])
