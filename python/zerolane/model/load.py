"""`zl.load`: from a file, bytes or an engine to a session."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Unpack

from zerolane import _native
from zerolane.errors import Error, InvalidArgument, InvalidModel, NotFound, Unavailable
from zerolane.model.session import Session
from zerolane.runtimes import onnxruntime
from zerolane.types import OptionFields, Options, merge_options

if TYPE_CHECKING:
    from zerolane.builder.options import BuildOptions
    from zerolane.builder.profiles import Shapes
    from zerolane.builder.progress import Progress
    from zerolane.engine import Engine

BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")
_ENGINE_START = b"\x89ZLE"  # of engine.file.MAGIC, without importing that for each model
_PLAN_START = b"trt"  # behind one byte: how the plans of TensorRT begin, and no ONNX model


def load(
    model: str | os.PathLike[str] | bytes | Engine,
    *,
    backend: str = "auto",
    device: str = "auto",
    options: Options | None = None,
    shapes: Shapes | None = None,
    profiles: Sequence[Shapes] | None = None,
    precision: str | None = None,
    cache: bool | str | os.PathLike[str] = True,
    build: BuildOptions | None = None,
    progress: Progress = False,
    require_signature: Any = None,
    tuned: str | os.PathLike[str] | None = None,
    **fields: Unpack[OptionFields],
) -> Session:
    """Load a model and return a `Session`. Blocks; releases the GIL.

    model: path of an .onnx or .ort file or of an engine, the bytes of a model (without external
        data), or what `zl.build` returned.
    backend: "auto", "onnxruntime", "tensorrt" or "tensorrt-rtx". "auto" runs an engine with the
        library that built it, and a model with ONNX Runtime: building an engine takes long, so it
        is done only where the backend is named.
    device: "auto", "cpu" or "cuda:N". ONNX Runtime: "cuda:N" asks for its CUDA provider, "auto" is
        the CPU. TensorRT: "auto" is "cuda:0".
    shapes, profiles, precision, cache, build, progress: as in `zl.build`, for a model on TensorRT;
        build is its `options`. The engine comes from the cache where it is in there.
    require_signature: a public key or several, one of which must have signed the engine file. An
        engine in memory is not signed, and refused.
    tuned: a file that `zl.tune` found the settings in it for; loads the artefact that it names in
        place of the model, after checking that both are the ones that were measured. Fields given
        by name go over its own.
    options, fields: see `Options`; fields given by name go over `options`.

    Raises NotFound, InvalidModel, InvalidArgument, Unavailable (no usable library, provider or
    GPU), Unsupported, OutOfMemory, and what `zl.build` raises. A session may be used from any
    thread; sessions of the same engine, device and limits share it.
    """
    if tuned is not None:
        return _load_tuned(
            model,
            tuned,
            backend,
            {"options": options, "precision": precision, "build": build},
            fields,
            {
                "device": device,
                "shapes": shapes,
                "profiles": profiles,
                "cache": cache,
                "progress": progress,
                "require_signature": require_signature,
            },
        )
    merged = merge_options(options, fields)
    _check_backend(backend)
    arguments: dict[str, Any] = {"backend": backend, "device": device, "options": merged}
    building = {
        "shapes": shapes,
        "profiles": profiles,
        "precision": precision,
        "cache": cache,
        "build": build,
    }
    given = {name: value for name, value in building.items() if value is not None}
    if cache is True:
        del given["cache"]
    source = _source(model)
    found = _engine(source, require_signature)
    if found is not None:
        if given:
            name = next(iter(given))
            raise InvalidArgument(
                f"loading an engine: {name}= was given, and the engine is built already; leave it "
                "out, or load the model",
                name,
            )
        if require_signature is not None:
            arguments["require_signature"] = require_signature
        path = source if isinstance(source, str) else None
        return _load_engine(found, backend, device, merged, path, path, arguments)
    if require_signature is not None:
        raise InvalidArgument(
            "loading a model: require_signature= was given, and only engine files are signed; "
            "leave it out, or load an engine",
            "require_signature",
        )
    assert isinstance(source, str | bytes)
    if backend in ("tensorrt", "tensorrt-rtx"):
        from zerolane.model.engine import check_options

        check_options(merged)
        _gpu(backend, device)  # before a long build
        engine = _build(source, backend, given, progress)
        return _load_engine(
            engine,
            backend,
            device,
            merged,
            _name(source),
            source,
            arguments | given,
        )
    if given:
        name = next(iter(given))
        raise InvalidArgument(
            f"loading a model with ONNX Runtime: {name}= was given, which is for building engines; "
            "leave it out, or name the backend: 'tensorrt' or 'tensorrt-rtx'",
            name,
        )
    return _load_model(source, backend, device, merged, arguments)


def _load_tuned(
    model: str | os.PathLike[str] | bytes | Engine,
    path: str | os.PathLike[str],
    backend: str,
    clashing: dict[str, Any],
    fields: OptionFields,
    rest: dict[str, Any],
) -> Session:
    from zerolane.model.tuned import read_tuned

    for name, value in clashing.items():
        if value is not None:
            raise InvalidArgument(
                f"loading a model with tuned={os.fspath(path)!r}: {name}= was given too, which "
                "that file decides; leave one of them out",
                name,
            )
    source = _source(model)
    if not isinstance(source, str | bytes):
        raise InvalidArgument(
            "loading an engine: tuned= was given, which is for the model it was built from; give "
            "that model",
            "tuned",
        )
    found = read_tuned(source, path)
    if backend not in ("auto", found.backend):
        raise InvalidArgument(
            f"loading a model with tuned={os.fspath(path)!r}: it was tuned for {found.backend}, "
            f"and backend={backend!r} was given; leave it out, or tune for that backend",
            "backend",
        )
    if found.build:
        from zerolane.builder.options import BuildOptions

        rest["build"] = BuildOptions(**found.build)
    return load(found.model, backend=found.backend, **rest, **{**found.options, **fields})


def _load_model(
    source: str | bytes, backend: str, device: str, merged: Options, arguments: dict[str, Any]
) -> Session:
    reason = (
        "engines are built only where this backend is named, as that takes long"
        if backend == "auto"
        else f"backend={backend!r} was asked for"
    )
    why = dict.fromkeys(("tensorrt", "tensorrt-rtx"), f"passed over: {reason}")
    chosen, providers = _choose_device(device, merged)
    if merged.free_dimensions:
        _check_free_dimensions(source, merged.free_dimensions)
    if merged.profile is not None:
        _check_profile(merged.profile)
    info = onnxruntime.open_library()
    why["onnxruntime"] = f"chosen: {info['version']} from {info['path']}"
    dropped: dict[str, str] = {}
    if merged.fallback:
        providers, dropped = _drop_missing(providers, info["providers"])
    for name in [name for name, _ in providers if name in ("CUDA", "Tensorrt")]:
        from zerolane.runtimes import cuda_libraries

        try:
            cuda_libraries.preload(info["path"], name)
        except Unavailable as error:
            if not merged.fallback:
                raise
            dropped[name] = f"passed over: {error}"
            providers = [provider for provider in providers if provider[0] != name]
    if dropped:
        why.update({f"provider {name}": reason for name, reason in dropped.items()})
        if not providers:
            chosen = "cpu"
    for name, _ in providers:
        why[f"provider {name}"] = "chosen: asked for"
    if not providers:
        why["provider CPU"] = "chosen: " + (
            "device='cpu' was asked for"
            if device == "cpu"
            else "no other execution provider was asked for"
            if not merged.providers
            else "fallback"
        )
    return Session._open(source, arguments, merged, providers, chosen, why)


def _check_free_dimensions(source: str | bytes, given: Mapping[str, int]) -> None:
    """The library ignores names that the model does not have."""
    try:
        inputs = _native.read_model(source)["inputs"]
    except (
        Error,
        UnicodeDecodeError,
    ):  # no ONNX file; the library says what is wrong with it, if anything
        return
    names = sorted({dim for row in inputs for dim in row[3] or () if isinstance(dim, str)})
    for name in given:
        if name not in names:
            raise InvalidArgument(
                f"reading option 'free_dimensions': {name!r} is no dimension of the model's "
                f"inputs, they have {names}; check the name",
                "free_dimensions",
            )


def _check_profile(prefix: str) -> None:
    """The library would write nothing, in silence."""
    folder = os.path.dirname(prefix) or "."
    if not os.path.isdir(folder):
        raise NotFound(
            f"reading option 'profile': there is no folder {folder!r} (in {os.getcwd()!r}) for "
            f"{os.path.basename(prefix)!r}; make it first",
            folder,
        )


def _source(model: object) -> str | bytes | Engine:
    """A path, bytes, or an engine."""
    if isinstance(model, bytes | bytearray | memoryview):
        return bytes(model)
    if isinstance(model, str | os.PathLike):
        path: str = os.fspath(model)
        return path
    from zerolane.engine import Engine

    if isinstance(model, Engine):
        return model
    raise InvalidArgument(
        f"loading a model: a {type(model).__name__} was given, expected a path, bytes or an "
        "engine; give model.SerializeToString() for an onnx.ModelProto",
        "model",
    )


def _engine(source: str | bytes | Engine, require_signature: Any) -> Engine | None:
    """The engine that `source` is or holds; None for a model."""
    if isinstance(source, bytes):
        return None
    if not isinstance(source, str):
        if require_signature is not None:
            raise InvalidArgument(
                "loading an engine in memory: require_signature= was given, and only engine files "
                "are signed; give the path of the file, or leave it out",
                "require_signature",
            )
        return source
    try:
        # Without the layers of open(): models load in 200 us. O_NONBLOCK: a pipe must not wait.
        file = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound(
            f"loading model {os.path.basename(source)}: there is no file {source!r} (in "
            f"{os.getcwd()!r}); check the path",
            source,
        ) from error
    except ValueError as error:
        raise InvalidArgument(
            f"loading a model: {source!a} is no path of a file ({error}), expected one; check it",
            "model",
        ) from error
    except OSError:
        return None  # the library says what is wrong with it
    try:
        start = os.read(file, len(_ENGINE_START))
        if start[1:] == _PLAN_START:
            raise _bare_plan(source)
        if start != _ENGINE_START:
            return None
    except OSError:
        return None
    finally:
        os.close(file)
    from zerolane.engine import Engine

    return Engine.read(source, require_signature=require_signature)


def _bare_plan(path: str) -> InvalidModel:
    return InvalidModel(
        f"loading {os.path.basename(path)}: it is a bare plan of TensorRT, expected an engine file "
        "of zerolane, which says what the plan was built from and for; build one from the model "
        "with zl.build or `zerolane build`",
        path,
    )


def _load_engine(
    engine: Engine,
    backend: str,
    device: str,
    options: Options,
    name: str | None,
    source: str | bytes | None,
    arguments: dict[str, Any],
) -> Session:
    """name: the path of what was loaded, None: the manifest's name of the model."""
    from zerolane.model import engine as engines

    manifest = engine.manifest
    engines.check_options(options)
    if backend not in ("auto", manifest.backend):
        raise InvalidArgument(
            f"loading the engine of {manifest.model}: it was built for {manifest.backend}, and "
            f"backend={backend!r} was given; leave it out, or build one for that backend",
            "backend",
        )
    engines.check_host_code(manifest, options.host_code)
    path, version, origin = engines.find_library(manifest)
    gpu = _gpu(manifest.backend, device)
    engines.check_device(manifest, gpu)
    ops: list[tuple[str, dict[str, int]]] = []
    if manifest.op_libraries:
        from zerolane.ops import engines as op_engines

        folder = os.path.dirname(os.path.abspath(source)) if isinstance(source, str) else None
        ops = op_engines.load(manifest.op_libraries, folder)
    native = engines.native_options(
        engine,
        os.path.basename(name) if name is not None else manifest.model,
        gpu,
        (path, version),
        options,
        manifest.extra.get("metadata") or {},  # type: ignore[arg-type]
        ops,
    )
    reason = (
        f"backend={backend!r} was asked for"
        if backend != "auto"
        else f"the engine was built for {manifest.backend}"
    )
    why = dict.fromkeys(BACKENDS[1:], f"passed over: {reason}")
    why[manifest.backend] = f"chosen: {version} from {path} ({origin})"
    return Session._open_engine(
        path,
        engine.plan,
        native,
        source,
        arguments,
        manifest.backend,
        f"cuda:{gpu['index']}",
        why,
    )


def _build(source: str | bytes, backend: str, given: dict[str, Any], progress: Progress) -> Engine:
    import zerolane  # by its public name: building stands above loading

    asked = {name: value for name, value in given.items() if name != "build"}
    return zerolane.build(
        source, backend=backend, options=given.get("build"), progress=progress, **asked
    )


def _gpu(backend: str, device: str) -> dict[str, Any]:
    """The entry of `cuda_info` that `device` means. Raises Unavailable where there is none."""
    from zerolane.model.engine import device_index

    index = device_index(device)
    try:
        info = _native.cuda_info()
        problem = info["problem"]
    except Unavailable as error:
        info, problem = {"devices": []}, str(error)
    gpus: list[dict[str, Any]] = info["devices"]
    if index >= len(gpus):
        found = problem or f"there are {len(gpus)} GPUs, and cuda:{index} was asked for"
        raise Unavailable(
            f"choosing a device for backend {backend!r}: {found}; check the driver and the number, "
            "or use backend='onnxruntime' (building an engine for tensorrt-rtx needs no GPU: "
            "zl.build)",
            backend,
        )
    return gpus[index]


def _name(source: str | bytes) -> str:
    return "model in memory" if isinstance(source, bytes) else source


def _check_backend(backend: str) -> None:
    if backend not in BACKENDS:
        raise InvalidArgument(
            f"choosing a backend: {backend!r} is not known, expected one of {', '.join(BACKENDS)}; "
            "leave it out for the best one here",
            "backend",
        )


def _choose_device(
    device: str, options: Options
) -> tuple[str, list[tuple[str, list[tuple[str, str]]]]]:
    providers = [_provider(p) for p in options.providers or ()]
    for name, settings in providers:
        if name == "CPU" and settings:
            raise InvalidArgument(
                f"adding execution provider 'CPU': the options {dict(settings)} were given, and "
                "it has none; leave them out, see zl.Options for what there is",
                "CPU",
            )
    providers = [p for p in providers if p[0] != "CPU"]
    if device == "cpu":
        if providers:
            raise InvalidArgument(
                f"choosing a device: device='cpu' and providers={[p[0] for p in providers]} "
                "contradict each other; give one of them",
                "device",
            )
        return "cpu", []
    if device == "auto":
        gpu = next((p for p in providers if p[0] in ("CUDA", "Tensorrt")), None)
        if gpu is None:
            return "cpu", providers
        return "cuda:" + dict(gpu[1]).get("device_id", "0"), providers
    kind, _, number = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise InvalidArgument(
            f"choosing a device: {device!r} is not known, expected 'auto', 'cpu' or 'cuda:N'; "
            "for other hardware name its execution provider in providers=",
            "device",
        )
    number = number or "0"
    if not any(p[0] in ("CUDA", "Tensorrt") for p in providers):
        providers.append(("CUDA", []))
    placed = [
        (name, [*((k, v) for k, v in opts if k != "device_id"), ("device_id", number)])
        if name in ("CUDA", "Tensorrt")
        else (name, opts)
        for name, opts in providers
    ]
    return f"cuda:{number}", placed


def _provider(spec: object) -> tuple[str, list[tuple[str, str]]]:
    name, options = spec if isinstance(spec, tuple) else (spec, {})
    short = str(name).removesuffix("ExecutionProvider")
    # The spelling of ONNX Runtime's own names, whatever case the user typed.
    known = {"cpu": "CPU", "cuda": "CUDA", "tensorrt": "Tensorrt", "openvino": "OpenVINO"}
    text = {True: "1", False: "0"}
    return known.get(short.lower(), short), [
        (str(k), text[v] if isinstance(v, bool) else str(v)) for k, v in options.items()
    ]


def _drop_missing(
    providers: list[tuple[str, list[tuple[str, str]]]], built_in: list[str]
) -> tuple[list[tuple[str, list[tuple[str, str]]]], dict[str, str]]:
    dropped = {
        name: f"passed over: not in this build, which has {', '.join(built_in)}"
        for name, _ in providers
        if f"{name}ExecutionProvider" not in built_in and name not in built_in
    }
    return [p for p in providers if p[0] not in dropped], dropped
