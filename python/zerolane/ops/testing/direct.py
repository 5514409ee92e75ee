"""Direct runs of one case, with everything watched. Runs in the child process (worker.py)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zerolane._arrays import numpy_dtype
from zerolane.errors import Error
from zerolane.ops.op import Op, definition
from zerolane.ops.testing.case import Array, Case
from zerolane.ops.testing.compare import bits_differ, element, first_difference
from zerolane.ops.testing.memory import Fenced

POISONS = 0xA5, 0x5A
_THREADS = 4
_RUNS, _MANY_RUNS, _MANY_ELEMENTS = 25, 400, 1000

Step = Callable[[str, str], None]


@dataclass
class Outcome:
    """What direct runs of one case came to.

    outputs: of the first run; None where there was none. problems: by check. refused: the error
    that the op, or zerolane on its behalf, raised for these inputs.
    """

    outputs: list[Array] | None = None
    problems: dict[str, str] = field(default_factory=dict)
    refused: str | None = None


def output_names(case: Case) -> list[str]:
    return [row["name"] for row in definition(case.op, case.version).outputs]


def run(case: Case, siblings: Sequence[Case], step: Step, *, fenced: bool = True) -> Outcome:
    """All checks that need nothing but the op's CPU body.

    siblings: other cases that the same object is to serve, in turn and at the same time. step: told
    what is about to be done, as check and text. fenced: else without guard pages.
    """
    outcome = Outcome()
    op = Op(case.op, version=case.version, gil="release", **case.attributes)
    step("bounds", "computing shapes")
    try:
        op._plan(case.inputs)
        _watched(op, case, step, outcome)
    except Error as error:
        outcome.refused = str(error)
        return outcome
    if outcome.problems:
        return outcome
    if fenced:
        for at_end in (True, False):
            step("bounds", f"guard pages {'behind' if at_end else 'in front of'} the buffers")
            _guarded(op, case, at_end, outcome)
    _repeats(op, case, siblings, step, outcome)
    _threads(op, [case, *siblings], step, outcome)
    _layouts(op, case, step, outcome)
    return outcome


def run_guarded(case: Case, buffer: int, at_end: bool, read_only: bool) -> None:
    """One run with a single buffer watched by the processor: inputs first, then outputs."""
    op = Op(case.op, version=case.version, **case.attributes)
    ins, outs = _buffers(op, case, at_end=at_end, guarded=None if read_only else {buffer})
    if read_only:
        fences = [f for f in ins if f is not None]
        fences[buffer].read_only()
    _run(op, ins, outs, at_end)


def buffer_names(case: Case) -> tuple[list[str], list[str]]:
    """Of the inputs that are there, and of the outputs."""
    rows = definition(case.op, case.version).inputs
    names = [rows[min(i, len(rows) - 1)]["name"] for i in range(len(case.inputs))]
    present = [n for n, array in zip(names, case.inputs, strict=True) if array is not None]
    return present, output_names(case)


def _buffers(
    op: Op, case: Case, *, at_end: bool, guarded: set[int] | None
) -> tuple[list[Fenced | None], list[Fenced]]:
    number = 0
    ins: list[Fenced | None] = []
    for array in case.inputs:
        if array is None:
            ins.append(None)
            continue
        guard = guarded is not None and number in guarded
        fence = Fenced(array.dtype, array.shape, at_end=at_end, guard=guard)
        fence.array[...] = array
        ins.append(fence)
        number += 1
    outs = []
    for dtype, shape, _ in op._plan(case.inputs):
        guard = guarded is not None and number in guarded
        outs.append(Fenced(numpy_dtype(dtype), shape, at_end=at_end, guard=guard))
        number += 1
    return ins, outs


def _run(
    op: Op, ins: Sequence[Fenced | None], outs: Sequence[Fenced], at_end: bool
) -> list[list[int]]:
    arrays = tuple(None if f is None else f.array for f in ins)
    return op._run_into(arrays, tuple(f.array for f in outs), counted_at_end=at_end)


def _result(fence: Fenced, shape: Sequence[int], at_end: bool) -> Array:
    """What was computed, of an output that has room for the most."""
    flat = fence.array.reshape(-1)
    count = int(np.prod(shape, dtype=np.int64))
    return flat[flat.size - count if at_end else 0 :][:count].reshape(tuple(shape)).copy()


def _watched(op: Op, case: Case, step: Step, outcome: Outcome) -> None:
    """Two runs over different garbage between known bytes."""
    names = output_names(case)
    results = []
    ins, outs = _buffers(op, case, at_end=True, guarded=None)
    for poison in POISONS:
        for fence in outs:
            fence.fill(poison)
        step("bounds", "a run between known bytes")
        shapes = _run(op, ins, outs, False)
        _check_fences(case, ins, outs, outcome)
        results.append([_result(f, s, False) for f, s in zip(outs, shapes, strict=True)])
        for name, fence, shape in zip(names, outs, shapes, strict=True):
            unused = fence.array.reshape(-1)[int(np.prod(shape, dtype=np.int64)) :]
            if (np.frombuffer(unused.tobytes(), np.uint8) != poison).any():
                outcome.problems.setdefault(
                    "bounds", f"output {name!r}: written beyond the {list(shape)} it asked for"
                )
    outcome.outputs = results[0]
    for name, a, b in zip(names, *results, strict=True):
        if a.shape != b.shape:
            text = f"output {name!r}: shape {list(a.shape)}, and {list(b.shape)} the next time"
            outcome.problems["unwritten"] = text
            continue
        changed = bits_differ(f"output {name!r}", b, a)
        if changed is None:
            continue
        size = a.dtype.itemsize
        raw = [np.frombuffer(x.tobytes(), np.uint8).reshape(-1, size) for x in (a, b)]
        left = ((raw[0] == POISONS[0]) & (raw[1] == POISONS[1])).any(axis=1)
        if left.any():
            first = int(np.flatnonzero(left)[0])
            outcome.problems["unwritten"] = (
                f"output {name!r}, element {element(a, first)}: got what was in the memory before, "
                f"expected a result ({int(left.sum())} of {a.size} elements were not written)"
            )
        else:
            outcome.problems["repeat"] = f"run over other garbage: {changed}"


def _check_fences(
    case: Case, ins: Sequence[Fenced | None], outs: Sequence[Fenced], outcome: Outcome
) -> None:
    in_names, out_names = buffer_names(case)
    given = [array for array in case.inputs if array is not None]
    present = [f for f in ins if f is not None]
    for name, fence, array in zip(in_names, present, given, strict=True):
        changed = bits_differ(f"input {name!r}", fence.array, array)
        if changed is not None:
            outcome.problems.setdefault("bounds", f"written to: {changed}")
            fence.array[...] = array
    for role, names, fences in (("input", in_names, present), ("output", out_names, outs)):
        for name, fence in zip(names, fences, strict=True):
            found = fence.damage()
            if found is not None:
                outcome.problems.setdefault(
                    "bounds",
                    f"{role} {name!r}, element {found}: written to, expected elements 0 to "
                    f"{fence.array.size - 1} alone",
                )


def _guarded(op: Op, case: Case, at_end: bool, outcome: Outcome) -> None:
    everything = set(range(len(case.inputs) + len(output_names(case))))
    ins, outs = _buffers(op, case, at_end=at_end, guarded=everything)
    for fence in ins:
        if fence is not None:
            fence.read_only()
    shapes = _run(op, ins, outs, at_end)
    _check_fences(case, ins, outs, outcome)
    # Elsewhere in memory, so a body may take another path: near, not equal.
    results = [_result(f, s, at_end) for f, s in zip(outs, shapes, strict=True)]
    assert outcome.outputs is not None
    wrong = first_difference(output_names(case), results, outcome.outputs)
    if wrong is not None:
        outcome.problems.setdefault("repeat", f"run on memory elsewhere: {wrong}")


class _Runs:
    """Runs of one case on arrays of its own, each held against the first, bit by bit."""

    def __init__(self, op: Op, case: Case) -> None:
        self.names = output_names(case)
        self._op = op
        self._inputs = case.inputs
        plan = op._plan(case.inputs)
        self._outputs = tuple(np.zeros(tuple(s), numpy_dtype(d)) for d, s, _ in plan)
        self._first = self._results()

    def again(self) -> str | None:
        results = self._results()
        # Nearly always equal; the words are made only where they are not.
        if all(a.tobytes() == b.tobytes() for a, b in zip(results, self._first, strict=True)):
            return None
        return first_difference(self.names, results, self._first, bits=True)

    def _results(self) -> list[Array]:
        shapes = self._op._run_into(self._inputs, self._outputs, counted_at_end=False)
        return [
            out.reshape(-1)[: int(np.prod(shape, dtype=np.int64))].reshape(tuple(shape)).copy()
            for out, shape in zip(self._outputs, shapes, strict=True)
        ]


def _repeats(op: Op, case: Case, siblings: Sequence[Case], step: Step, outcome: Outcome) -> None:
    step("repeat", "runs in a row")
    runs = _Runs(op, case)
    for _ in range(3):
        wrong = runs.again()
        if wrong is not None:
            outcome.problems.setdefault("repeat", f"run again: {wrong}")
            return
    for sibling in siblings:
        step("repeat", f"a run after one of {sibling}")
        _Runs(op, sibling)
        wrong = runs.again()
        if wrong is not None:
            outcome.problems.setdefault("repeat", f"run after {sibling}: {wrong}")
            return


def _threads(op: Op, cases: Sequence[Case], step: Step, outcome: Outcome) -> None:
    step("threads", "runs in several threads at once")
    runs = [_Runs(op, cases[i % len(cases)]) for i in range(_THREADS)]
    largest = max(case.elements for case in cases)
    count = _MANY_RUNS if largest >= _MANY_ELEMENTS else _RUNS
    found: list[str] = []

    def body(mine: _Runs) -> None:
        try:
            for _ in range(count):
                wrong = mine.again()
                if wrong is not None or found:
                    found.extend([wrong] if wrong is not None else [])
                    return
        except Error as error:
            found.append(str(error))

    threads = [threading.Thread(target=body, args=(mine,)) for mine in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if found:
        outcome.problems["threads"] = f"{_THREADS} threads calling one object: {found[0]}"


def layouts(array: Array) -> dict[str, Array]:
    """The same values as arrays that no body could take as they are."""
    found: dict[str, Array] = {}
    frozen = array.copy()
    frozen.flags.writeable = False
    found["read-only"] = frozen
    if array.ndim:
        spread = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        spread[..., ::2] = array
        found["every other element"] = spread[..., ::2]
        found["backwards"] = array[..., ::-1].copy()[..., ::-1]
    if array.ndim > 1:
        found["column-major"] = np.asfortranarray(array)
    if array.dtype.itemsize > 1:
        raw = np.zeros(array.nbytes + 1, np.uint8)
        shifted: Array = raw[1:].view(array.dtype).reshape(array.shape)
        shifted[...] = array
        found["misaligned"] = shifted
    return found


def _layouts(op: Op, case: Case, step: Step, outcome: Outcome) -> None:
    names = output_names(case)
    dense = _called(op, case.inputs)
    variants = [{} if array is None else layouts(array) for array in case.inputs]
    for kind in dict.fromkeys(kind for variant in variants for kind in variant):
        step("layouts", f"inputs that are {kind}")
        pairs = zip(variants, case.inputs, strict=True)
        wrong = first_difference(
            names, _called(op, [v.get(kind, array) for v, array in pairs]), dense, bits=True
        )
        if wrong is not None:
            outcome.problems["layouts"] = f"inputs that are {kind}: {wrong}"
            return


def _called(op: Op, inputs: Sequence[Any]) -> list[Array]:
    result = op(*inputs)
    return list(result) if isinstance(result, tuple) else [result]
