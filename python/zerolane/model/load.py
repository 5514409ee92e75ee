"""`zl.load`: from a file or bytes to a session."""

from __future__ import annotations

import os
from typing import Unpack

from zerolane.errors import InvalidArgument, NotFound, Unavailable
from zerolane.model.session import Session
from zerolane.runtimes import onnxruntime
from zerolane.types import OptionFields, Options, merge_options

BACKENDS = ("auto", "onnxruntime", "tensorrt", "tensorrt-rtx")


def load(
    model: str | os.PathLike[str] | bytes,
    *,
    backend: str = "auto",
    device: str = "auto",
    options: Options | None = None,
    **fields: Unpack[OptionFields],
) -> Session:
    """Load a model and return a `Session`. Blocks; releases the GIL.

    model: path of an .onnx or .ort file, or the bytes of one (without external data).
    backend: "auto", "onnxruntime", "tensorrt" or "tensorrt-rtx".
    device: "auto", "cpu" or "cuda:N"; "cuda:N" asks for ONNX Runtime's CUDA provider.
    options, fields: see `Options`; fields given by name go over `options`.

    Raises NotFound, InvalidModel, InvalidArgument, Unavailable (no usable library or provider),
    Unsupported. A session may be used from any thread.
    """
    merged = merge_options(options, fields)
    why = _choose_backend(backend)
    chosen, providers = _choose_device(device, merged)
    info = onnxruntime.open_library()
    why["onnxruntime"] = f"chosen: {info['version']} from {info['path']}"
    if merged.fallback:
        providers, dropped = _drop_missing(providers, info["providers"])
        why.update({f"provider {name}": reason for name, reason in dropped.items()})
        if dropped and not providers:
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
    source: str | bytes
    if isinstance(model, bytes | bytearray | memoryview):
        source = bytes(model)
    elif isinstance(model, str | os.PathLike):
        source = os.fspath(model)
        if not os.path.exists(source):
            raise NotFound(
                f"loading model {os.path.basename(source)}: there is no file {source!r} (in "
                f"{os.getcwd()!r}); check the path",
                source,
            )
    else:
        raise InvalidArgument(
            f"loading a model: a {type(model).__name__} was given, expected a path or bytes; "
            "give model.SerializeToString() for an onnx.ModelProto",
            "model",
        )
    return Session._open(source, backend, device, merged, providers, chosen, why)


def _choose_backend(backend: str) -> dict[str, str]:
    if backend not in BACKENDS:
        raise InvalidArgument(
            f"choosing a backend: {backend!r} is not known, expected one of {', '.join(BACKENDS)}; "
            "leave it out for the best one here",
            "backend",
        )
    absent = "this release of zerolane does not build or run its engines yet"
    if backend.startswith("tensorrt"):
        raise Unavailable(
            f"choosing backend {backend!r}: {absent}; use backend='onnxruntime'", backend
        )
    return {"tensorrt": f"passed over: {absent}", "tensorrt-rtx": f"passed over: {absent}"}


def _choose_device(
    device: str, options: Options
) -> tuple[str, list[tuple[str, list[tuple[str, str]]]]]:
    providers = [_provider(p) for p in options.providers or ()]
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
