"""Inputs for a model: those given, and seeded random values for the rest."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zerolane._arrays import numpy_dtype, string_array, usable
from zerolane.errors import Error, InvalidArgument, OutOfMemory, ShapeMismatch, Unsupported
from zerolane.model.session import Session
from zerolane.types import TensorSpec

Shapes = Mapping[str, Sequence[int]]

_WORDS = ("red", "green", "blue", "zero", "one", "two", "", "größe")
_INTEGERS_BELOW = 10


def parse_shapes(text: str) -> dict[str, tuple[int, ...]]:
    """Shapes by input name from trtexec's grammar: "x:1x3x224x224,y:1x10".

    "x:scalar" is rank 0. A name may stand in single quotes, and then hold commas.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for item in re.split(r",(?=(?:[^']*'[^']*')*[^']*$)", text):  # commas outside of quotes
        match = re.fullmatch(r"\s*(?:'([^']+)'|([^']+)):(scalar|\d{1,18}(?:x\d{1,18})*)\s*", item)
        if match is None:
            raise InvalidArgument(
                f"reading shapes: {item!r} does not fit, expected NAME:SIZExSIZE..., for instance "
                "'x:1x3x224x224,y:1x10'; give one for each input, separated by commas",
                "shapes",
            )
        name, dims = match[1] or match[2], match[3]
        if name in shapes:
            raise InvalidArgument(
                f"reading shapes: {name!r} is given twice, expected once; remove one", name
            )
        shapes[name] = () if dims == "scalar" else tuple(int(d) for d in dims.split("x"))
    return shapes


def random_inputs(
    specs: Sequence[TensorSpec], *, shapes: Shapes | str | None = None, seed: int = 0
) -> dict[str, Any]:
    """NumPy arrays by name: floats from a normal distribution, integers from 0 to 9.

    shapes: a shape for each input that is not to have the default: 1 for a dynamic dimension.
        A named dimension set by one input has that size in all.
    The values of an input depend on its name, dtype, shape and the seed only.
    """
    if type(seed) is not int or seed < 0:
        raise InvalidArgument(
            f"making inputs: the seed is {seed!r}, expected an int from 0 on; leave it out for 0",
            "seed",
        )
    given = parse_shapes(shapes) if isinstance(shapes, str) else dict(shapes or {})
    unknown = [name for name in given if name not in {s.name for s in specs}]
    if unknown:
        raise InvalidArgument(
            f"making inputs: a shape is given for {unknown[0]!r}, the inputs without a value are "
            f"{[s.name for s in specs]}; check the name",
            unknown[0],
        )
    sizes: dict[str, int] = {}
    for spec in specs:
        if spec.name in given:
            _fit(spec, given[spec.name], sizes)
    made: dict[str, Any] = {}
    for spec in specs:
        shape = _shape(spec, given, sizes)
        try:
            made[spec.name] = _values(spec, shape, seed)
        except (MemoryError, OverflowError, ValueError) as error:
            if isinstance(error, Error):
                raise
            raise OutOfMemory(
                f"making inputs: {spec.name!r} of shape {list(shape)} does not fit into memory "
                f"({error}); give smaller sizes",
                spec.name,
            ) from error
    return made


def complete_inputs(
    session: Session,
    inputs: Mapping[str, Any] | None = None,
    *,
    shapes: Shapes | str | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """`inputs` as row-major NumPy arrays, and random values for the required ones left out."""
    known = {spec.name: spec for spec in (*session.inputs, *session.optional_inputs)}
    values: dict[str, Any] = {}
    for name, value in (inputs or {}).items():
        if name not in known:
            raise InvalidArgument(
                f"making inputs of {session.name}: there is no input {name!r}, they are "
                f"{list(known)}; check the name",
                name,
            )
        spec = known[name]
        if not spec.type.startswith("tensor("):
            values[name] = value
        elif spec.dtype == "string":
            values[name] = np.asarray(value, dtype=object)
        else:
            values[name] = usable(value, spec.dtype, True, False, f"input {name!r}", name)
    rest = [spec for spec in session.inputs if spec.name not in values]
    return values | random_inputs(rest, shapes=shapes, seed=seed)


def _fit(spec: TensorSpec, shape: Sequence[int], sizes: dict[str, int]) -> None:
    if spec.shape is None:
        return
    fits = len(shape) == len(spec.shape) and all(
        not isinstance(want, int) or want == got
        for want, got in zip(spec.shape, shape, strict=True)
    )
    if not fits:
        raise ShapeMismatch(
            f"making inputs: {spec.name!r} is to be {list(shape)}, the model has "
            f"{['?' if d is None else d for d in spec.shape]}; give sizes for its dynamic "
            "dimensions only",
            spec.name,
        )
    for want, got in zip(spec.shape, shape, strict=True):
        if isinstance(want, str):
            sizes.setdefault(want, got)


def _shape(spec: TensorSpec, given: Shapes, sizes: Mapping[str, int]) -> tuple[int, ...]:
    if spec.name in given:
        return tuple(given[spec.name])
    if spec.shape is None:
        return (1,)
    return tuple(d if isinstance(d, int) else sizes.get(d or "", 1) for d in spec.shape)


def _values(spec: TensorSpec, shape: tuple[int, ...], seed: int) -> Any:
    if not spec.type.startswith("tensor("):
        raise Unsupported(
            f"making inputs: {spec.name!r} is a {spec.type}, random values are made for tensors "
            "only; give a value for it",
            spec.name,
        )
    rng = np.random.default_rng([seed, zlib.crc32(spec.name.encode())])
    if spec.dtype == "string":
        words = rng.integers(0, len(_WORDS), int(np.prod(shape))).tolist()
        return string_array([_WORDS[w] for w in words], shape)
    dtype = numpy_dtype(spec.dtype)
    if spec.dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0, _INTEGERS_BELOW, shape).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(dtype)
    values = np.asarray(rng.standard_normal(shape, np.float32))
    # Types of few bits cannot hold negative numbers or zero; all of them hold 1, 2 and 4.
    return (
        np.exp2(rng.integers(0, 3, shape)).astype(dtype)
        if spec.dtype == "float8_e8m0fnu"
        else values.astype(dtype)
    )
