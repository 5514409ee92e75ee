"""An op inside ONNX Runtime, inside TensorRT, and on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from zerolane import _native
from zerolane._arrays import numpy_dtype
from zerolane.builder.build import build
from zerolane.builder.report import UnsupportedGraph
from zerolane.engine import Engine
from zerolane.errors import Error, Unavailable
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.ops.op import Op, definition
from zerolane.ops.testing.case import Array, Case
from zerolane.ops.testing.direct import POISONS
from zerolane.ops.testing.models import feeds, one_node

_TENSORRT_TYPES = {"bool", "uint8", "int8", "int32", "int64", "float16", "bfloat16", "float32"}
_CAPTURED_LAUNCHES = 3


class Impossible(Exception):
    """A way that cannot be gone here; the reason is the text."""


_sessions: dict[tuple[Any, ...], Session] = {}
_engines: dict[tuple[Any, ...], Engine | Exception] = {}  # or why there is none


def on_onnxruntime(case: Case) -> list[Array]:
    """The outputs of a model of one node, whose inputs have ranks and no extents."""
    key = _key(case)
    session = _sessions.get(key)
    if session is None:
        try:
            model = one_node(case, _plan(case), fixed=False)
            session = load(model, backend="onnxruntime", device="cpu")
        except Unavailable as error:
            raise Impossible(str(error)) from error
        _sessions[key] = session
    found = session.run(feeds(case))
    results = [np.asarray(found[row["name"]]) for row in definition(case.op, case.version).outputs]
    for spec, result in zip(session.outputs, results, strict=True):
        inferred = spec.shape
        if inferred is None:
            continue
        fits = len(inferred) == result.ndim and all(
            not isinstance(a, int) or a == b for a, b in zip(inferred, result.shape, strict=True)
        )
        if not fits:
            raise AssertionError(
                f"output {spec.name!r}: shape inference says {list(inferred)}, and the result is "
                f"{list(result.shape)}"
            )
    return results


def on_tensorrt(case: Case) -> list[Array] | None:
    """Builds an engine of a model of one node, of the case's shapes; its outputs where there is a
    GPU, else None. Without a GPU one build serves all shapes."""
    if not definition(case.op, case.version).cuda:
        raise Impossible("the op has no CUDA body (built without nvcc?)")
    names = [a.dtype.name for a in case.inputs if a is not None]
    names += [dtype for dtype, _, _ in _plan(case)]
    lacking = [name for name in names if name not in _TENSORRT_TYPES]
    if lacking:
        raise Impossible(f"TensorRT has no {lacking[0]}")
    if any(a is not None and 0 in a.shape for a in case.inputs):
        raise Impossible("an engine of an empty shape cannot be built")
    gpu = _gpu_problem() is None
    shapes = tuple(a.shape for a in case.inputs if a is not None) if gpu else ()
    key = case.op, case.version, repr(sorted(case.attributes.items())), tuple(names), shapes
    if key not in _engines:
        _engines[key] = _built(case)
    engine = _engines[key]
    if isinstance(engine, Exception):
        raise engine
    if not gpu:
        return None
    found = load(engine, device="cuda:0").run(feeds(case))
    return [np.asarray(found[row["name"]]) for row in definition(case.op, case.version).outputs]


def _built(case: Case) -> Engine | Exception:
    try:
        return build(one_node(case, _plan(case), fixed=True), cache=False)
    except Unavailable as error:
        return Impossible(str(error))
    except UnsupportedGraph as error:
        if "Plugin not found" in str(error):
            return Impossible(f"zerolane has no plugin of it: {error}")
        return error
    except Error as error:
        return error


def on_gpu(case: Case, *, captured: bool) -> list[list[Array]]:
    """The outputs of the CUDA body, run over each of the poisons; captured: as a CUDA graph."""
    if not definition(case.op, case.version).cuda:
        raise Impossible("the op has no CUDA body (built without nvcc?)")
    problem = _gpu_problem()
    if problem is not None:
        raise Impossible(problem)
    plan = _plan(case)
    if captured and all(0 in shape for _, shape, _ in plan):
        raise Impossible("a graph without work cannot be captured")
    op = _op(case)
    results = []
    for poison in POISONS:
        outputs = tuple(_poisoned(numpy_dtype(dtype), shape, poison) for dtype, shape, _ in plan)
        launches = _CAPTURED_LAUNCHES if captured else 0
        shapes = op._run_on_gpu(case.inputs, outputs, device=0, launches=launches)
        results.append([out[tuple(map(slice, s))] for out, s in zip(outputs, shapes, strict=True)])
    return results


def _op(case: Case) -> Op:
    return Op(case.op, version=case.version, **case.attributes)


def _plan(case: Case) -> list[tuple[str, list[int], bool]]:
    return _op(case)._plan(case.inputs)


def _poisoned(dtype: np.dtype[Any], shape: Sequence[int], poison: int) -> Array:
    count = int(np.prod(shape, dtype=np.int64))
    raw = np.full(count * dtype.itemsize, poison, np.uint8)
    array: Array = raw.view(dtype).reshape(tuple(shape))
    return array


def _key(case: Case) -> tuple[Any, ...]:
    signature = tuple(None if a is None else (a.dtype.name, a.ndim) for a in case.inputs)
    return case.op, case.version, repr(sorted(case.attributes.items())), signature


@cache
def _gpu_problem() -> str | None:
    """Why nothing runs on a GPU here."""
    try:
        info = _native.cuda_info()
    except Error as error:
        return f"no GPU: {error}"
    return None if info["devices"] else f"no GPU: {info['problem'] or 'the driver shows none'}"
