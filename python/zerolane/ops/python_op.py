"""Ops written in Python, to try out what a C++ op will do: `@zl.op`."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from zerolane import _native
from zerolane.errors import InvalidArgument

Function = TypeVar("Function", bound=Callable[..., Any])

_REQUIRED, _OPTIONAL, _VARIADIC = range(3)
_TYPES = {int: 1, bool: 1, float: 2, str: 3, list[int]: 4, list[float]: 5}
_OPERATORS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//"}
_ARGUMENT = re.compile(r"^\s*(\w+(?:\s*\|\s*\w+)*)\s*\[(.*)\]\s*$", re.DOTALL)


def op(
    name: str, *, version: int = 1, outputs: Sequence[str] | None = None
) -> Callable[[Function], Function]:
    """Define an op by a function on NumPy arrays.

        @zl.op("my::Affine")
        def affine(
            x: Annotated[np.ndarray, "float32|float64[N, C]"],
            w: Annotated[np.ndarray, "float32|float64[C]"],
            *,
            alpha: float = 1.0,
        ) -> Annotated[np.ndarray, "float32|float64[N, C]"]:
            return (alpha * x * w).astype(x.dtype)

    The op then runs by `zl.ops.call("my::Affine", x, w)` and in models that ONNX Runtime runs. It
    is slow: each call takes the GIL and copies the inputs. It is for trying out an op, its shapes
    and its tests; the C++ op that replaces it later has the same name, so models and tests stay.
    It cannot go into a TensorRT engine.

    name: "domain::Op". Defining it again in this process replaces it for models loaded later.
    version: of the definition, from 1.
    outputs: their names; "y", or "y0", "y1", ... by default.

    The annotations say what arguments are: element types by NumPy's names, then extents. Arguments
    with the same list of element types have the same one in a call. An extent is a number, a name
    (the same extent wherever it stands), or for outputs an expression of names and numbers with
    +, -, *, //, max(a, b), min(a, b). "K<=N" is an extent that the data decides, N at most. "..."
    stands for leading extents, as many as there are. `x: ... = None` is an optional input, `*x` is
    one or more; arguments by name alone are attributes: int, float, bool, str, list[int],
    list[float]; without a fallback they must be given. The result is an array, or a tuple of them.

    The function keeps working as it is. Raises InvalidArgument for annotations that cannot be read.
    """

    def define(function: Function) -> Function:
        definition = _Definition(name, version, outputs, function)
        _native.register_python_op(definition.spec(), definition.run)
        return function

    return define


class _Definition:
    def __init__(
        self, name: str, version: int, outputs: Sequence[str] | None, function: Callable[..., Any]
    ) -> None:
        self.doing = f"defining op {name}"
        domain, separator, op_type = name.partition("::")
        if not separator or not domain or not op_type:
            raise InvalidArgument(
                f"{self.doing}: the name is {name!r}, expected 'domain::Op'; give it a domain",
                "name",
            )
        self.function = function
        self.name = name
        self.types: list[tuple[str, ...]] = []
        hints = get_type_hints(function, include_extras=True)
        signature = inspect.signature(function)
        inputs: list[dict[str, Any]] = []
        attributes: list[dict[str, Any]] = []
        for parameter in signature.parameters.values():
            hint = hints.get(parameter.name)
            if parameter.kind is parameter.KEYWORD_ONLY:
                attributes.append(self.attribute(parameter, hint))
            elif parameter.kind is parameter.VAR_KEYWORD:
                raise self.refuse(parameter.name, "takes any attribute (**)", "name each one")
            else:
                inputs.append(self.input(parameter, hint))
        bound = {
            word
            for row in inputs
            for extent in row["extents"]
            for word in extent
            if isinstance(word, str)
        }
        results = self.results(hints.get("return"), outputs, bound)
        self.result_types = [row["type"] for row in results]
        self.row = {
            "domain": domain,
            "name": op_type,
            "doc": inspect.getdoc(function) or "",
            "version": version,
            "inputs": inputs,
            "outputs": results,
            "attributes": attributes,
        }

    def spec(self) -> dict[str, Any]:
        return self.row | {"types": self.types}

    def run(self, inputs: list[Any], attributes: dict[str, Any]) -> tuple[Any, ...]:
        """Called by the core with arrays that are the function's own."""
        try:
            result = self.function(*inputs, **attributes)
        except Exception as error:
            raise RuntimeError(f"{type(error).__name__}: {error}") from error
        many = result if isinstance(result, tuple) else (result,)
        if len(many) != len(self.result_types):
            raise RuntimeError(
                f"it returned {len(many)} arrays, expected {len(self.result_types)} as annotated"
            )
        return tuple(np.asarray(array, order="C") for array in many)

    def refuse(self, subject: str, found: str, remedy: str) -> InvalidArgument:
        return InvalidArgument(f"{self.doing}: {subject!r} {found}; {remedy}", subject)

    def input(self, parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
        kind = _REQUIRED
        if parameter.kind is parameter.VAR_POSITIONAL:
            kind = _VARIADIC
        elif parameter.default is None:
            kind = _OPTIONAL
        elif parameter.default is not parameter.empty:
            raise self.refuse(
                parameter.name,
                f"is an input with the default {parameter.default!r}",
                "use None for an optional input, or put it behind * to make it an attribute",
            )
        dtypes, extents = self.annotation(parameter.name, hint)
        rows = []
        for place, extent in enumerate(extents):
            rest = extent.strip() == "..."
            plain = extent.strip().isidentifier() or extent.strip().isdecimal()
            if not plain and not (rest and place == 0):
                raise self.refuse(
                    parameter.name,
                    f"has the extent {extent.strip()!r}, expected a name or a number (and '...' "
                    "as the first)",
                    "compute extents in the annotation of the result",
                )
            rows.append(["..."] if rest else self.extent(parameter.name, extent, set(), "input"))
        return {
            "name": parameter.name,
            "kind": kind,
            "type": self.type_index(dtypes),
            "extents": rows,
        }

    def results(
        self, hint: Any, names: Sequence[str] | None, bound: set[str]
    ) -> list[dict[str, Any]]:
        hints = list(get_args(hint)) if get_origin(hint) is tuple else [hint]
        if names is None:
            names = ["y"] if len(hints) == 1 else [f"y{i}" for i in range(len(hints))]
        if len(names) != len(hints):
            raise self.refuse(
                "outputs", f"has {len(names)} names for {len(hints)} results", "name each one"
            )
        rows = []
        for name, each in zip(names, hints, strict=True):
            dtypes, extents = self.annotation(name, each)
            words = [
                ["..."]
                if extent.strip() == "..." and place == 0
                else self.extent(name, extent, bound, "result")
                for place, extent in enumerate(extents)
            ]
            rows.append(
                {"name": name, "kind": 0, "type": self.type_index(dtypes), "extents": words}
            )
        return rows

    def annotation(self, name: str, hint: Any) -> tuple[tuple[str, ...], list[str]]:
        if get_origin(hint) is not None and type(None) in get_args(hint):
            hint = next(each for each in get_args(hint) if each is not type(None))
        texts = [each for each in get_args(hint) if isinstance(each, str)]
        match = _ARGUMENT.match(texts[0]) if get_origin(hint) is Annotated and texts else None
        if match is None:
            raise self.refuse(
                name,
                f"is annotated {hint!r}, expected element types and extents",
                "write Annotated[np.ndarray, 'float32[N, 3]']",
            )
        dtypes = tuple(each.strip() for each in match[1].split("|"))
        return dtypes, _split(match[2])

    def type_index(self, dtypes: tuple[str, ...]) -> int:
        if dtypes not in self.types:
            self.types.append(dtypes)
        return self.types.index(dtypes)

    def extent(self, name: str, text: str, bound: set[str], role: str) -> list[int | str]:
        """The extent in reverse Polish order."""
        match = re.match(r"^\s*(\w+)\s*<=(.*)$", text, re.DOTALL)
        if match is not None and role == "result":
            return [*self.extent(name, match[2], bound, role), f"most {match[1]}"]
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            words = list(_polish(tree))
        except (SyntaxError, ValueError) as error:
            raise self.refuse(
                name,
                f"has the extent {text.strip()!r}, expected names and numbers with +, -, *, //, "
                "max(a, b) and min(a, b)",
                "mend the annotation",
            ) from error
        free = {w for w in words if isinstance(w, str) and w.isidentifier()} - {"max", "min"}
        if role == "result" and free - bound:
            raise self.refuse(
                name,
                f"has the extent {sorted(free - bound)[0]!r}, which no input has",
                "write 'K<=N' for an extent that the data decides",
            )
        return words

    def attribute(self, parameter: inspect.Parameter, hint: Any) -> dict[str, Any]:
        if hint not in _TYPES:
            raise self.refuse(
                parameter.name,
                f"is an attribute annotated {hint!r}, expected int, float, bool, str, list[int] "
                "or list[float]",
                "annotate it",
            )
        given = parameter.default is not parameter.empty
        whole = hint in (int, list[int])
        return {
            "name": parameter.name,
            "type": _TYPES[hint],
            "fallback": parameter.default if given else None,
            "least": 0.0 if hint is bool else float(-(2**63)) if whole else float("-inf"),
            "greatest": 1.0 if hint is bool else float(2**63) if whole else float("inf"),
        }


def _split(text: str) -> list[str]:
    """At the commas that are not inside of parentheses."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part for part in parts if part.strip()]


def _polish(tree: ast.expr) -> list[int | str]:
    match tree:
        case ast.Constant(value=int(number)) if not isinstance(number, bool):
            return [number]
        case ast.Name(id=name):
            return [name]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _OPERATORS:
            return [*_polish(left), *_polish(right), _OPERATORS[type(operator)]]
        case ast.Call(func=ast.Name(id="max" | "min" as name), args=[left, right], keywords=[]):
            return [*_polish(left), *_polish(right), name]
    raise ValueError("no extent")
