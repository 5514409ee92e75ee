"""The loaded model."""

from __future__ import annotations

import os
import re
from collections import namedtuple
from collections.abc import Mapping, Sequence, Set
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from zerolane import _native
from zerolane.errors import InvalidArgument
from zerolane.types import Options, TensorSpec

if TYPE_CHECKING:
    from zerolane._native import Binding, Future

_GRAPH_LEVELS = {"none": 0, "basic": 1, "extended": 2, "all": 99}
_LOG_LEVELS = {"verbose": 0, "info": 1, "warning": 2, "error": 3, "fatal": 4}


def _result_type(names: list[str]) -> type:
    fields = [re.sub(r"\W", "_", name) for name in names]
    return namedtuple("Outputs", fields, rename=True)


class Session(_native.Session):
    """An immutable loaded model; any thread may use it. Made by `load`.

    Calling it with arrays returns arrays of the same kind (NumPy, torch, JAX, CuPy through DLPack):
    the array itself where the model has one output, else a named tuple in output order. Calling it
    with one dict returns a dict. Inputs are not changed and not kept; results are the caller's.
    """

    inputs: tuple[TensorSpec, ...]
    optional_inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    backend: str
    device: str
    why: Mapping[str, str]
    _recipe: tuple[str | bytes | None, dict[str, Any]]  # what `load` was given; None: not to be had

    def __new__(cls) -> Session:
        raise TypeError("zl.Session objects are made by zl.load(model)")

    def __init__(self) -> None:
        raise TypeError("zl.Session objects are made by zl.load(model)")

    @classmethod
    def _open(
        cls,
        source: str | bytes,
        arguments: dict[str, Any],
        options: Options,
        providers: list[tuple[str, list[tuple[str, str]]]],
        device: str,
        why: dict[str, str],
    ) -> Session:
        """Through ONNX Runtime. arguments: those of `load`, to load it again."""
        self: Session = _native.Session.__new__(cls)
        native = {
            "name": "model in memory",
            "folder": "",
            "threads": options.threads or 0,
            "inter_threads": options.inter_threads or 0,
            "spin": options.spin,
            "graph_level": _GRAPH_LEVELS[options.graph_level],
            "parallel": options.execution_mode == "parallel",
            "arena": options.arena,
            "memory_pattern": options.memory_pattern,
            "free_dimensions": list(options.free_dimensions.items()),
            "config": list(options.config.items()),
            "profile": options.profile or "",
            "log_level": _LOG_LEVELS[options.log_level],
            "providers": providers,
            "gil": options.gil,
            "copy": options.copy == "auto",
        }
        _native.Session.__init__(self, source, native, _result_type)
        self._finish(source, arguments, "onnxruntime", device, why)
        return self

    @classmethod
    def _open_engine(
        cls,
        library: str,
        plan: memoryview,
        native: dict[str, Any],
        source: str | bytes | None,
        arguments: dict[str, Any],
        backend: str,
        device: str,
        why: dict[str, str],
    ) -> Session:
        """Through TensorRT. source: what to load it from again, None where nothing holds it."""
        self: Session = _native.Session.__new__(cls)
        _native.Session.__init__(self, library, plan, native, _result_type)
        self._finish(source, arguments, backend, device, why)
        return self

    def _finish(
        self,
        source: str | bytes | None,
        arguments: dict[str, Any],
        backend: str,
        device: str,
        why: dict[str, str],
    ) -> None:
        if isinstance(source, str):
            source = os.path.abspath(source)
        self._recipe = (source, arguments)
        self.inputs = tuple(_spec(row) for row in self._inputs)
        self.optional_inputs = tuple(_spec(row) for row in self._optional_inputs)
        self.outputs = tuple(_spec(row) for row in self._outputs)
        self.backend = backend
        self.device = device
        self.why = MappingProxyType(why)

    @property
    def options(self) -> Options:
        """The options it was loaded with."""
        options: Options = self._recipe[1]["options"]
        return options

    @property
    def metadata(self) -> dict[str, Any]:
        """What the model says: producer, graph_name, domain, description, version, custom."""
        return self._metadata()

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        out: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        deadline_ms: float | None = None,
    ) -> dict[str, Any]:
        """Run once on a dict of arrays and return a dict of arrays.

        out: writable arrays that take the outputs of these names, used in place and returned.
        outputs: the names to compute (default: all).
        deadline_ms: the run is ended and raises DeadlineExceeded when it takes longer (checked
            between operators); the session stays usable.
        """
        results: dict[str, Any] = self._run(
            inputs if type(inputs) is dict else self._dict("inputs", inputs),
            None if out is None else self._dict("out", out),
            None if outputs is None else self._names(outputs),
            deadline_ms,
        )
        return results

    def _dict(self, what: str, given: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            raise InvalidArgument(
                f"calling {self.name}: {what} is a {type(given).__name__}, expected a dict of name "
                "to array; give {name: array}, or call the session itself with arrays",
                what,
            )
        return dict(given)

    def _names(self, outputs: Sequence[str]) -> list[str]:
        names = [outputs] if isinstance(outputs, str) else outputs
        if not isinstance(names, Sequence | Set) or not all(isinstance(n, str) for n in names):
            raise InvalidArgument(
                f"calling {self.name}: outputs is {outputs!r:.60}, expected a list of names; "
                f"the names are {[spec.name for spec in self.outputs]}",
                "outputs",
            )
        return list(names)

    def bind(
        self,
        /,
        *arrays: Any,
        out: Mapping[str, Any] | None = None,
        gil: str | None = None,
        **inputs: Any,
    ) -> Binding:
        """Fix input and output memory; calling the result is the fastest way to run.

        Each input is a shape (new zeroed memory) or an array to be used in place, by position or
        name; inputs of fixed shape may be left out. out: arrays to be used for outputs. gil:
        "auto", "hold" or "release" for this binding. Runs the model once to size the outputs.
        """
        named = {spec.name: array for spec, array in zip(self.inputs, arrays, strict=False)}
        if len(arrays) > len(self.inputs) or named.keys() & inputs.keys():
            raise InvalidArgument(
                f"binding {self.name}: {len(arrays)} positional and {sorted(inputs)} named inputs "
                f"do not fit the inputs {[s.name for s in self.inputs]}; give each once",
                self.name,
            )
        return self._bind(named | inputs, None if out is None else self._dict("out", out), gil)

    def submit(self, /, *args: Any, deadline_ms: float | None = None, **inputs: Any) -> Future:
        """Queue a call for native worker threads (one a CPU) and return a `Future`.

        Arguments and results as in a direct call. Large inputs are read in place when the run
        starts: do not change them before the future is done.
        """
        return self._submit(args, inputs or None, deadline_ms)

    async def arun(self, /, *args: Any, deadline_ms: float | None = None, **inputs: Any) -> Any:
        """Like `submit`, awaited. Cancelling the task ends the run."""
        from zerolane.model.asyncio import wait

        return await wait(self._submit(args, inputs or None, deadline_ms))

    def latency(self) -> dict[str, Any]:
        """Percentiles in microseconds of the timed runs (one in 16 of very short ones)."""
        return self._latency()

    def end_profiling(self) -> str:
        """End profiling (see `Options.profile`); returns the file's path."""
        return self._end_profiling()

    def engine_facts(self) -> dict[str, Any]:
        """What the TensorRT engine behind it tells: library, profiles, sizes in bytes.

        Raises Unsupported for a session of another backend, as the methods below do.
        """
        return _native.engine_facts(self)

    def engine_layers(self, *, json: bool = True) -> str:
        """The engine's layers in the library's own words, as JSON or one line each."""
        return _native.engine_layers(self, json)

    def engine_weights(self) -> list[str]:
        """Names of the weights that `refit` takes; none for an engine not built for it."""
        return _native.engine_weights(self)

    def refit(self, weights: Mapping[str, Any] | str | os.PathLike[str] | bytes) -> None:
        """Exchange weights, or bring those that strip_weights left out. Waits for runs in flight.

        weights: arrays by name (`engine_weights`), of the same type and size; or an ONNX model with
        the graph that the engine was built from (as converted, where precision= was given), as path
        or bytes. It is read by the library's parser in this process.

        All sessions that share the engine get them. Raises InvalidArgument (names, types, sizes, or
        weights that are missing), NotFound, InvalidModel, Unsupported (not built with refit=True).
        """
        if isinstance(weights, str | os.PathLike | bytes):
            self._refit_from(weights)
            return
        import numpy as np

        arrays = {name: np.ascontiguousarray(array) for name, array in weights.items()}
        _native.refit_engine(self, arrays)

    def _refit_from(self, model: str | os.PathLike[str] | bytes) -> None:
        if isinstance(model, bytes):
            name, path, content = "model in memory", None, model
        else:
            path, content = os.path.abspath(model), None
            name = os.path.basename(path)
            if not os.path.isfile(path):
                from zerolane.errors import NotFound

                raise NotFound(
                    f"refitting {self.name} from {name}: there is no file {path!r}; check the path",
                    path,
                )
        # The vendor's parser is not asked about bytes that are no model at all.
        _native.read_model(path if content is None else content)
        _native.refit_engine_from(self, name, path, content)

    def __reduce__(self) -> tuple[Any, ...]:
        source, arguments = self._recipe
        if source is None:
            raise TypeError(
                f"pickling {self.name}: its engine is only in memory, expected one in a file; "
                "engine.save(path), and load that"
            )
        return _reload, (source, arguments)

    def __repr__(self) -> str:
        def show(specs: tuple[TensorSpec, ...]) -> str:
            return ", ".join(f"{s.name}: {s.type} {_shape_text(s)}".rstrip() for s in specs)

        return (
            f"<zerolane.Session {self.name!r} on {self.backend}, {self.device}: "
            f"({show(self.inputs)}) -> ({show(self.outputs)})>"
        )


def _spec(row: tuple[str, str, tuple[int | str | None, ...] | None, str, str]) -> TensorSpec:
    name, dtype, shape, text, kind = row
    return TensorSpec(name, dtype, shape if kind == "tensor" else None, text)


def _shape_text(spec: TensorSpec) -> str:
    if spec.shape is None:
        return ""
    return "[" + ", ".join("?" if d is None else str(d) for d in spec.shape) + "]"


def _reload(source: str | bytes, arguments: dict[str, Any]) -> Session:
    from zerolane.model.load import load

    return load(source, **arguments)
