"""Shapes as users give them, checked against the model's inputs: least, best and greatest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import index
from typing import Any, SupportsIndex

from zerolane.builder.source import Dims
from zerolane.errors import InvalidArgument, ShapeMismatch, Unsupported

Shape = tuple[int, ...]
Range = tuple[Shape, Shape, Shape]
Shapes = Mapping[str, Sequence[int] | Sequence[Sequence[int]]]
"""Input name to one shape, or to its least, best and greatest."""

GREATEST = 2**31 - 1


def read_profiles(
    inputs: Mapping[str, Dims | None],
    shapes: Shapes | None,
    profiles: Sequence[Shapes] | None,
) -> tuple[dict[str, Range], ...]:
    """One mapping a profile, with every input whose shape is not fixed. () for a fixed model.

    Raises InvalidArgument and ShapeMismatch, both naming the input.
    """
    if shapes is not None and profiles is not None:
        raise InvalidArgument(
            "reading shapes: shapes= and profiles= were both given; shapes= is one profile, "
            "profiles= is a list of them",
            "shapes",
        )
    if profiles is None:
        given: list[Any] = [] if shapes is None else [shapes]
    elif isinstance(profiles, Sequence) and not isinstance(profiles, str | bytes) and profiles:
        given = list(profiles)
    else:
        raise InvalidArgument(
            f"reading profiles: it is {profiles!r:.100}, expected a list of mappings; "
            "give one like shapes= for each profile",
            "profiles",
        )
    free = [name for name, dims in inputs.items() if dims is None or None in dims]
    read = [_profile(inputs, profile) for profile in given]
    for profile in read or [{}]:
        _complete(inputs, free, profile)
    return tuple({n: profile[n] for n in inputs if n in profile} for profile in read if profile)


def _profile(inputs: Mapping[str, Dims | None], given: Any) -> dict[str, Range]:
    if not isinstance(given, Mapping):
        raise InvalidArgument(
            f"reading shapes: it is {given!r:.100}, expected a mapping of input name to shape; "
            'give {"x": ((1, 3), (4, 3), (8, 3))}',
            "shapes",
        )
    found = {}
    for name, value in given.items():
        if name not in inputs:
            known = ", ".join(inputs) or "none"
            raise InvalidArgument(
                f"reading shapes: the model has no input {name!r}; its inputs are {known}",
                str(name),
            )
        found[name] = _range(name, value, inputs[name])
    return found


def _range(name: str, value: Any, dims: Dims | None) -> Range:
    several = _is_list(value) and value and all(map(_is_list, value))
    bounds = value if several else (value,) * 3
    if len(bounds) == 1:
        bounds = (*bounds,) * 3
    if len(bounds) != 3:
        raise InvalidArgument(
            f"reading the shapes of input {name!r}: there are {len(bounds)}, expected one, or "
            "three; give least, best and greatest",
            name,
        )
    low, best, high = (_shape(name, bound, dims) for bound in bounds)
    if len({len(low), len(best), len(high)}) > 1:
        raise ShapeMismatch(
            f"reading the shapes of input {name!r}: least {list(low)}, best {list(best)}, greatest "
            f"{list(high)}, expected equally many dimensions; correct them",
            name,
        )
    if not all(a <= b <= c for a, b, c in zip(low, best, high, strict=True)):
        raise ShapeMismatch(
            f"reading the shapes of input {name!r}: least {list(low)}, best {list(best)}, greatest "
            f"{list(high)}, expected each dimension to grow or stay; put them in that order",
            name,
        )
    return low, best, high


def _shape(name: str, value: Any, dims: Dims | None) -> Shape:
    doing = f"reading the shapes of input {name!r}"
    if not _is_list(value) or not all(map(_is_size, value)):
        raise InvalidArgument(
            f"{doing}: {value!r:.100} is no shape, expected integers; give (1, 3, 224, 224)", name
        )
    shape = tuple(map(index, value))
    if any(not 0 <= d <= GREATEST for d in shape):
        raise ShapeMismatch(
            f"{doing}: {list(shape)!s:.100} has a size outside 0 to {GREATEST}; give the sizes "
            "that will be run",
            name,
        )
    if dims is None:
        raise _no_rank(name)
    if len(shape) != len(dims):
        raise ShapeMismatch(
            f"{doing}: {list(shape)!s:.100} has {len(shape)} dimensions, the model declares "
            f"{_text(dims)}; give {len(dims)} sizes",
            name,
        )
    if any(want is not None and d != want for d, want in zip(shape, dims, strict=True)):
        raise ShapeMismatch(
            f"{doing}: {list(shape)} does not fit the {_text(dims)} that the model declares; "
            "change only its free dimensions",
            name,
        )
    return shape


def _complete(
    inputs: Mapping[str, Dims | None], free: Sequence[str], profile: Mapping[str, Range]
) -> None:
    """The library's own complaint comes late and names no input."""
    missing = [name for name in free if name not in profile]
    if not missing:
        return
    name = missing[0]
    dims = inputs[name]
    if dims is None:
        raise _no_rank(name)
    example = "x".join(str(d or 1) for d in dims)
    raise InvalidArgument(
        f"reading shapes: input {name!r} is {_text(dims)} and has no range of shapes"
        + (f" (nor have {', '.join(missing[1:])})" if missing[1:] else "")
        + ', expected least, best and greatest; give shapes={"'
        + f'{name}": (least, best, greatest)}}, on the command line '
        + f"--minShapes/--optShapes/--maxShapes={name}:{example}",
        name,
    )


def _no_rank(name: str) -> Unsupported:
    """The libraries take such an input for a scalar, whatever a profile says."""
    return Unsupported(
        f"reading shapes: the model does not say how many dimensions input {name!r} has, expected "
        "as many as it will be run with; export it again with a shape (sizes may be free)",
        name,
    )


def _is_size(value: object) -> bool:
    """Whole numbers of any kind (NumPy's too), but no truth values."""
    return isinstance(value, SupportsIndex) and type(value).__name__ not in ("bool", "bool_")


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _text(dims: Dims) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
