"""Cases of an op whose inputs are free, from its own table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from typing import Any

import numpy as np

from zerolane._arrays import numpy_dtype
from zerolane.errors import Error, Unsupported
from zerolane.ops.op import Op, OpType
from zerolane.ops.testing.case import Array, Case

Shape = tuple[int, ...]

# Prime, not a multiple of any vector width, one, empty, of all ranks. The last are for threads.
SHAPES: tuple[Shape, ...] = (
    *((67,), (5, 13), (2, 3, 17), (1, 3, 5, 7), (), (1,), (1031,), (1, 1), (1, 1, 1, 1)),
    *((0,), (3, 0), (0, 3, 4), (2, 0, 3, 3), (8209,), (7, 1171)),
)
_SPECIAL = (np.nan, np.inf, -np.inf, -0.0, 0.0)
_MOST_COMBINATIONS = 12
_LARGEST = 64  # of numbers that are tried as attributes: they may be sizes


def generate(op: OpType) -> list[Case]:
    """The cases: every element type with every shape that the op takes, NaN and infinities, each
    number and kind of inputs, each attribute by itself.

    Raises Unsupported where the op takes none of the inputs that are tried.
    """
    rng = np.random.default_rng(7)
    fixed = {row["name"]: _values(row)[0] for row in op.attributes if row["required"]}
    cases: list[Case] = []
    refusal = "nothing was tried"
    for number, dtypes in enumerate(_dtypes(op)):
        first: Case | None = None
        arguments = list(_arguments(op))
        for shape in SHAPES:
            found = _accepted(op, fixed, arguments[0], shape, dtypes, rng)
            if isinstance(found, str):
                refusal = found
                continue
            cases.append(found)
            if first is None:
                first = found
                cases += _with_specials(found)
                for others in arguments[1:]:
                    other = _accepted(op, fixed, others, shape, dtypes, rng)
                    cases += [other] if isinstance(other, Case) else []
                if number == 0:
                    cases += _with_attributes(op, found)
    if not cases:
        raise Unsupported(
            f"making test cases for {op.name}: it takes none of the inputs that were tried (at the "
            f"end: {refusal}), expected one whose inputs are free; write cases() beside its "
            "reference, which makes inputs that it takes",
            op.name,
        )
    return cases


def _dtypes(op: OpType) -> Iterator[dict[int, str]]:
    """Element types by type of the op."""
    types = {row["type"]: row["dtypes"] for row in op.inputs}
    count = int(np.prod([len(dtypes) for dtypes in types.values()]))
    if count <= _MOST_COMBINATIONS:
        combinations: Iterator[tuple[str, ...]] = product(*types.values())
    else:
        longest = max(len(dtypes) for dtypes in types.values())
        turns = [cycle(dtypes) for dtypes in types.values()]
        combinations = (tuple(next(turn) for turn in turns) for _ in range(longest))
    for names in combinations:
        yield dict(zip(types, names, strict=True))


def _arguments(op: OpType) -> Iterator[Sequence[int | None]]:
    """Which inputs are given, as rows of the table: all, then none that may be left out."""
    required = [i for i, row in enumerate(op.inputs) if row["kind"] == "required"]
    whole = list(range(len(op.inputs)))
    if op.inputs and op.inputs[-1]["kind"] == "variadic":
        last = len(op.inputs) - 1
        yield [*whole, last]
        yield [i if i in {*required, last} else None for i in whole]
        yield [*whole, last, last, last, last]
        return
    yield whole
    least: list[int | None] = [i if i in required else None for i in whole]
    while least and least[-1] is None:
        least.pop()
    if least != whole:
        yield least
        for row in sorted(set(whole) - set(required)):
            yield [i if i in {*required, row} else None for i in range(max(*required, row) + 1)]


def _accepted(
    op: OpType,
    attributes: Mapping[str, Any],
    arguments: Sequence[int | None],
    shape: Shape,
    dtypes: Mapping[int, str],
    rng: np.random.Generator,
) -> Case | str:
    """A case of that shape, or why the op takes none: all inputs alike, or the later ones of the
    last axis alone, or scalars."""
    refusal = ""
    for rest in dict.fromkeys((shape, shape[-1:], ())):
        inputs: list[Array | None] = []
        for place, row in enumerate(arguments):
            if row is None:
                inputs.append(None)
                continue
            dtype = numpy_dtype(dtypes[op.inputs[row]["type"]])
            inputs.append(_fill(dtype, shape if place == 0 else rest, rng))
        case = Case(op.name, tuple(inputs), dict(attributes), version=op.version)
        refused = _refusal(case)
        if refused is None:
            return case
        refusal = refused
    return refusal


def _refusal(case: Case) -> str | None:
    try:
        Op(case.op, version=case.version, **case.attributes)._plan(case.inputs)
    except Error as error:
        return str(error)
    return None


def _fill(dtype: np.dtype[Any], shape: Shape, rng: np.random.Generator) -> Array:
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -50, 50, shape).astype(dtype)
    return np.asarray(2 * rng.standard_normal(shape)).astype(dtype)


def _with_specials(case: Case) -> Iterator[Case]:
    """The same with NaN, infinities and zeros spread over each input of floats."""
    inputs: list[Array | None] = []
    for turn, array in enumerate(case.inputs):
        if array is not None and array.dtype.kind in "fV" and array.size >= len(_SPECIAL):
            array = array.copy()
            places = np.linspace(0, array.size - 1, len(_SPECIAL)).astype(int)
            array.reshape(-1)[places] = np.roll(np.array(_SPECIAL), turn).astype(array.dtype)
        inputs.append(array)
    if any(a is not b for a, b in zip(inputs, case.inputs, strict=True)):
        about = "NaN and infinities"
        yield Case(case.op, tuple(inputs), case.attributes, about, version=case.version)


def _with_attributes(op: OpType, case: Case) -> Iterator[Case]:
    for row in op.attributes:
        for value in _values(row):
            if not row["required"] and value == row["fallback"]:
                continue
            changed = Case(
                case.op,
                case.inputs,
                {**case.attributes, row["name"]: value},
                version=case.version,
            )
            # Attributes may hang together, so that one alone is refused.
            if _refusal(changed) is None:
                yield changed


def _values(row: Mapping[str, Any]) -> list[Any]:
    """What to try for an attribute; floats are such that float32 holds them."""
    kind = row["type"]
    if kind == "string":
        return list(row["choices"]) or ["a"]
    whole = kind.startswith("int")
    tried = (1, 0, 2, 3) if whole else (0.5, -1.25, 2.0, 0.0)
    numbers = [v for v in tried if row["least"] <= v <= row["greatest"]]
    for bound in (row["least"], row["greatest"]):
        if abs(bound) <= _LARGEST:
            numbers.append(int(bound) if whole else float(np.float32(bound)))
    numbers = list(dict.fromkeys(numbers)) or [int(row["least"]) if whole else row["least"]]
    if kind in ("int", "float"):
        return numbers
    least, greatest = row["counts"]
    counts = {min(max(least, n), greatest) for n in (0, 1, 3)}
    return [[numbers[i % len(numbers)] for i in range(count)] for count in sorted(counts) if count]
