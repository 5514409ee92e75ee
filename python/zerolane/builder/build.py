"""`zl.build`: from an ONNX model to an engine."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from zerolane import _native
from zerolane.builder import request
from zerolane.builder.options import BuildFields, BuildOptions, merge
from zerolane.builder.profiles import Shapes, read_profiles
from zerolane.builder.progress import Forecast, Phases, Progress, Teller, reporter
from zerolane.builder.request import PRECISIONS, BuilderLibrary
from zerolane.builder.source import Source, open_source, read_path
from zerolane.builder.work import Stop, Work
from zerolane.engine import Cache, Engine, Manifest, OpLibraryUse
from zerolane.engine.atomic import write_atomic
from zerolane.engine.manifest import now
from zerolane.errors import Cancelled, DeadlineExceeded, InvalidArgument, Unsupported

BACKENDS = ("tensorrt", "tensorrt-rtx")
_STRING = 8  # ONNX's number of the element type


def build(
    model: str | os.PathLike[str] | bytes,
    *,
    backend: str = "tensorrt-rtx",
    shapes: Shapes | None = None,
    profiles: Sequence[Shapes] | None = None,
    precision: str | None = None,
    cache: bool | str | os.PathLike[str] = True,
    isolate: bool = True,
    progress: Progress = False,
    options: BuildOptions | None = None,
    **fields: Unpack[BuildFields],
) -> Engine:
    """Build an engine from an ONNX model. Blocks; other threads go on.

    model: path of an .onnx file, or its bytes (with folder= where weights lie in files beside it).
    backend: "tensorrt-rtx" (needs no GPU) or "tensorrt".
    shapes: for each input with free dimensions one shape, or its least, best and greatest. Inputs
        of fixed shape and scalars need none. Inputs whose values decide shapes are Unsupported.
    profiles: several such mappings, one an optimization profile, instead of `shapes`.
    precision: "fp16" or "bf16" converts the model first (`zl.optimize`); None builds it as typed.
    cache: True looks in and adds to the cache of engines; a path is another folder for it.
    isolate: build in a child process: a crash of the library is then a BackendCrashed error, and
        cancelling works at once. Without, both depend on the library, which asks seldom.
    progress: True shows a line on stderr where that is a terminal; a callable gets
        (fraction, text).
    options, fields: see `BuildOptions`; fields given by name go over `options`.

    Ops of libraries (`zl.ops.load`, installed packages) that have a CUDA body become plugins; the
    engine's manifest names their libraries, and loading the engine loads them.

    Raises NotFound, InvalidModel, InvalidArgument (ShapeMismatch), Unavailable (no library, or no
    process or descriptor for a child), Unsupported (UnsupportedGraph lists the nodes),
    BackendCrashed, DeadlineExceeded, OutOfMemory, and what ops of the model fail with.
    """
    job = Build(
        model,
        backend=backend,
        shapes=shapes,
        profiles=profiles,
        precision=precision,
        cache=cache,
        isolate=isolate,
        progress=progress,
        options=options,
        **fields,
    )
    return job.run()


class Build:
    """A build that can be cancelled: `run` in one thread, `cancel` from any.

    Takes what `zl.build` takes, and checks it at once.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        backend: str = "tensorrt-rtx",
        shapes: Shapes | None = None,
        profiles: Sequence[Shapes] | None = None,
        precision: str | None = None,
        cache: bool | str | os.PathLike[str] = True,
        isolate: bool = True,
        progress: Progress = False,
        options: BuildOptions | None = None,
        **fields: Unpack[BuildFields],
    ) -> None:
        _choose("backend", backend, BACKENDS)
        _choose("precision", precision, (None, *PRECISIONS))
        self._backend = backend
        self._precision = precision
        self._options = merge(options, fields)
        request.check_backend(self._options, backend)
        _check("isolate", isolate, isinstance(isolate, bool), "True or False")
        fits = isinstance(progress, bool) or callable(progress)
        _check("progress", progress, fits, "True, False or a callable")
        self._isolate = isolate
        self._progress = progress
        self._source = open_source(model, self._options.folder)
        self._metadata = self._source.metadata
        _refuse_inputs_and_outputs(self._source)
        self._profiles = read_profiles(self._source.inputs, shapes, profiles)
        self._ops = _op_libraries(self._source)
        self._cache = _open_cache(cache)
        self._stop = Stop()
        self.from_cache = False
        """Whether `run` found the engine in the cache."""

    @classmethod
    def check(cls, model: str | os.PathLike[str] | bytes, *, backend: str = "tensorrt-rtx") -> str:
        """What the backend's parser says of a model, in words. Blocks; builds nothing.

        Needs no shapes. Raises as `zl.build` does, UnsupportedGraph where nodes are refused; a
        model that it takes may still fail to build.
        """
        from zerolane.builder import isolated

        _choose("backend", backend, BACKENDS)
        source = open_source(model, None)
        _refuse_inputs_and_outputs(source)
        library = request.find_library(backend)
        ops = _op_libraries(source)
        asked = request.native_options(BuildOptions(), (), plugins=bool(ops)) | {"parse_only": True}
        paths = tuple(use.path for use in ops)
        work = Work(source.name, library.path, source.path, source.content, asked, None, paths)
        built = isolated.run(work, Stop(), None, Teller(source.name, False, None))
        assert built is not None, "nobody can have cancelled it"
        _raise_unsupported(source, library, built)
        return f"{library.title} takes it: {built['layers']} layers"

    def cancel(self) -> None:
        """End the build: `run` raises Cancelled. Any thread, any time, any number of times."""
        self._stop.set()

    def run(self) -> Engine:
        """Build, or find in the cache. Blocks."""
        limit = self._options.timeout_s
        deadline = None if limit is None else time.monotonic() + limit
        library = request.find_library(self._backend)
        if self._cache is None:
            return self._run_uncached(library, deadline)
        digest = self._source.digest(self._cache.memo)
        asked = self._manifest(digest, library)
        forecast = Forecast(self._cache.folder, digest.model, f"{self._backend}-{library.version}")

        def build_now() -> Engine:
            self._log_miss(asked)
            started = time.monotonic()
            built = self._work_and_build(library, forecast.seconds(), deadline)
            engine = self._finish(asked, built, started)
            forecast.remember(time.monotonic() - started)
            return engine

        engine, self.from_cache = self._cache.get_or_build(
            asked,
            build_now,
            waiting=lambda who: self._wait(who, deadline),
            unchanged=digest.unchanged,
        )
        return engine

    def _log_miss(self, asked: Manifest) -> None:
        """Tell those who listen why an engine of this model is built again."""
        import logging

        logger = logging.getLogger("zerolane")
        if self._cache is None or not logger.isEnabledFor(logging.INFO):
            return
        missed = self._cache.why_missed(asked)
        if missed is not None:
            near, parts = missed
            text = "; ".join(map(str, parts))
            logger.info(
                f"cache: {asked.model} is built: the nearest engine, {near.key[:12]}: {text}"
            )

    def _run_uncached(self, library: BuilderLibrary, deadline: float | None) -> Engine:
        """The model's digest is taken beside the build: only the manifest needs it."""
        started = time.monotonic()
        digests: list[Any] = []
        source = self._source  # alone: a build that fails at once leaves the thread to itself

        def digest() -> None:
            with contextlib.suppress(Exception):  # then it is tried again below, and raised there
                digests.append(source.digest(None))

        reader = threading.Thread(target=digest, name="zerolane-digest", daemon=True)
        reader.start()
        built = self._work_and_build(library, None, deadline)
        reader.join()
        known = digests[0] if digests else source.digest(None)
        return self._finish(self._manifest(known, library), built, started)

    def _wait(self, who: str, deadline: float | None) -> None:
        """Another process or thread builds the same engine."""
        if self._stop.is_set():
            raise self._cancelled()
        if deadline is not None and time.monotonic() > deadline:
            raise self._late(f", waiting for {who}")
        report = reporter(self._progress)
        if report is not None:
            report(0.0, f"waiting for {who}")

    def _manifest(self, digest: Any, library: BuilderLibrary) -> Manifest:
        return request.manifest(
            self._source,
            digest,
            library,
            self._profiles,
            self._precision,
            self._options,
            self._ops,
        )

    def _finish(self, asked: Manifest, built: dict[str, Any], started: float) -> Engine:
        options = self._options
        if options.timing_cache is not None and built["timing_cache"] is not None:
            _write_timing_cache(Path(options.timing_cache), built["timing_cache"])
        facts = self._source.facts
        done = replace(
            asked,
            inputs=request.specs(built["inputs"], facts["inputs"]),
            outputs=request.specs(built["outputs"], facts["outputs"]),
            created=now(),
            build_seconds=round(time.monotonic() - started, 3),
            host_code=options.version_compatible and not options.exclude_lean_runtime,
            extra={"metadata": self._metadata}
            | {name: built[name] for name in ("layers", "peak_bytes") if name in built}
            | ({"plugins": built["plugins"]} if self._ops else {}),
        )
        return Engine(done, memoryview(built["plan"]))

    def _work_and_build(
        self, library: BuilderLibrary, forecast_s: float | None, deadline: float | None
    ) -> dict[str, Any]:
        """What the native core returns for a finished build."""
        teller = Teller(self._source.name, self._progress, forecast_s)
        try:
            built = self._build(self._work(library), deadline, teller)
            if built is None:
                raise self._cancelled() if self._stop.is_set() else self._late()
            _raise_unsupported(self._source, library, built)
        except BaseException:
            teller.abandon()
            raise
        teller.finish()
        return built

    def _work(self, library: BuilderLibrary) -> Work:
        source, options = self._source, self._options
        path, content = source.path, source.content
        if self._precision is not None:
            path = None
            content = request.convert(
                source, self._precision, options.precision_keep, self._profiles
            )
            self._metadata = open_source(content, None).metadata  # tells of the conversion too
        elif content is not None and source.folder is not None:
            path = os.path.join(source.folder, "model.onnx")  # tells the parser the folder only
        return Work(
            source.name,
            library.path,
            path,
            content,
            request.native_options(options, self._profiles, plugins=bool(self._ops)),
            request.read_timing_cache(options.timing_cache),
            tuple(use.path for use in self._ops),
        )

    def _build(self, work: Work, deadline: float | None, teller: Teller) -> dict[str, Any] | None:
        """None where it was cancelled or took too long."""
        if self._stop.is_set():
            return None
        if self._isolate:
            from zerolane.builder import isolated  # not needed for an engine from the cache

            return isolated.run(work, self._stop, deadline, teller)

        def follow(phases: Phases) -> bool:
            teller.phases(phases)
            late = deadline is not None and time.monotonic() > deadline
            return not (late or self._stop.is_set())

        with contextlib.suppress(Cancelled):
            return _native.build_engine(
                work.library,
                work.name,
                work.path,
                work.content,
                dict(work.options),
                work.timing_cache,
                follow,
                None,
            )
        return None

    def _cancelled(self) -> Cancelled:
        return Cancelled(f"building {self._source.name}: it was cancelled", self._source.name)

    def _late(self, doing: str = "") -> DeadlineExceeded:
        return DeadlineExceeded(
            f"building {self._source.name}: it took longer than the {self._options.timeout_s:g} s "
            f"of timeout_s{doing}; allow more, or lower optimization_level",
            "timeout_s",
        )


def _write_timing_cache(path: Path, content: bytes) -> None:
    """The engine is built, and must not be lost for this."""
    try:
        write_atomic(path, [content])
    except OSError as error:
        import logging

        logging.getLogger("zerolane").warning(
            f"writing the timing cache {str(path)!r}: {error.strerror}; the next build times its "
            "tactics again"
        )


def _op_libraries(source: Source) -> tuple[OpLibraryUse, ...]:
    """The libraries whose ops the model uses."""
    if not source.facts["ops"]:
        return ()
    from zerolane.ops import engines  # which needs NumPy

    return engines.uses(source.facts["ops"], source.name)


def _raise_unsupported(source: Source, library: BuilderLibrary, built: dict[str, Any]) -> None:
    if built["unsupported"] is not None:
        from zerolane.builder.report import UnsupportedReport, unsupported

        report = UnsupportedReport.read(built["unsupported"], source.nodes)
        raise unsupported(source.name, library.title, report, source.nodes)


def _refuse_inputs_and_outputs(source: Source) -> None:
    """Those on which the parser gives up somewhere else, and blames what it finds there."""
    given = {row[0] for row in source.facts["inputs"]}
    for role, rows in (("input", "inputs"), ("output", "outputs")):
        for name, kind, element, _ in source.facts[rows]:
            if kind in ("tensor", "") and element != _STRING:
                continue
            what = "a tensor of strings" if kind in ("tensor", "") else f"a {kind}"
            raise Unsupported(
                f"building {source.name}: {role} {name!r} is {what}, expected a tensor of numbers, "
                "which is all that TensorRT has; compute it outside of the model, or run it with "
                "backend='onnxruntime'",
                name,
            )
    for name in (row[0] for row in source.facts["outputs"]):
        if name in given:
            # The parser would rename such an input and then miss its shapes.
            raise Unsupported(
                f"building {source.name}: output {name!r} is an input as well, expected one that a "
                "node makes; leave it out, or put an Identity before it",
                name,
            )


def _choose(name: str, value: object, allowed: tuple[str | None, ...]) -> None:
    if not any(value == item and type(value) is type(item) for item in allowed):
        known = ", ".join(map(repr, allowed))
        hint = "; INT8 comes with the quantization pass" if value == "int8" else ""
        raise InvalidArgument(
            f"building an engine: {name} is {value!r:.60}, expected one of {known}{hint}; correct "
            "it or leave it out",
            name,
        )


def _check(name: str, value: object, fits: bool, expected: str) -> None:
    if not fits:
        raise InvalidArgument(
            f"building an engine: {name} is {value!r:.60}, expected {expected}; correct it", name
        )


def _open_cache(cache: bool | str | os.PathLike[str]) -> Cache | None:
    if cache is False:
        return None
    if cache is True:
        return Cache()
    if isinstance(cache, str | os.PathLike):
        return Cache(read_path(cache, "cache"))
    _check("cache", cache, False, "True, False or a folder")
    return None
