"""`zerolane build`."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.options import with_ops
from zerolane.cli.verb import Verb, console, print_json, progress

if TYPE_CHECKING:
    from zerolane.engine import Engine

_UNITS = {"": 2**20, "B": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_POOLS = {
    "workspace": "workspace",
    "dlaSRAM": "dla_managed_sram",
    "dlaLocalDRAM": "dla_local_dram",
    "dlaGlobalDRAM": "dla_global_dram",
    "tacticDRAM": "tactic_dram",
    "tacticSharedMem": "tactic_shared_memory",
}
_HARDWARE = {
    "none": "none",
    "ampere+": "ampere+",
    "sameComputeCapability": "same_compute_capability",
}
# Every build is so anyway, or they say that nothing shall be run.
_ACCEPTED = ("--skipInference", "--buildOnly", "--stronglyTyped")
_GONE = ("--int8", "--fp8", "--int4")

_Function = Callable[..., Any]


def _pools(ctx: click.Context, param: click.Parameter, value: str | None) -> dict[str, int]:
    """workspace:64,tacticSharedMem:48K, in MiB where no unit is given, as in trtexec."""
    found = {}
    for part in value.split(",") if value else ():
        match = re.fullmatch(r"(\w+):(\d+(?:\.\d+)?)([BKMG]?)(?:iB)?", part.strip())
        if match is None or match[1] not in _POOLS:
            raise click.BadParameter(
                f"{part!r} is no POOL:SIZE, expected one of {', '.join(_POOLS)} and a size in MiB "
                "or with B, K, M or G"
            )
        found[_POOLS[match[1]]] = int(float(match[2]) * _UNITS[match[3]])
    return found


def _targets(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in value.split(",")) if value else ()


def _refuse(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        raise click.UsageError(
            f"{param.opts[0]}: engines are strongly typed, so types stand in the model; run "
            "`zerolane quantize MODEL OUT --target tensorrt --calibration SAMPLES` first and build "
            "what it writes, or use --precision fp16 or bf16"
        )


def _trtexec(function: _Function) -> _Function:
    """The flags of trtexec that have no meaning here, or none any more."""
    for name in reversed(_ACCEPTED):
        function = click.option(
            name, is_flag=True, expose_value=False, help="Accepted; it is so anyway."
        )(function)
    for name in _GONE:
        function = click.option(
            name, is_flag=True, expose_value=False, callback=_refuse, hidden=True
        )(function)
    return function


@click.command(cls=Verb)
@click.argument("model", required=False)
@with_ops
@click.option("--onnx", metavar="FILE", help="The model, as in trtexec.")
@click.option(
    "--saveEngine",
    "-o",
    "save",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Where the engine goes. Default: the model's name with .engine, in the current folder.",
)
@click.option("--backend", default="tensorrt-rtx", show_default=True, help="Or tensorrt.")
@click.option("--shapes", metavar="SHAPES", help="Fixed shapes, x:1x3x224x224,y:1x10.")
@click.option(
    "--minShapes",
    "low",
    multiple=True,
    metavar="SHAPES",
    help="Least shapes; give the three repeatedly for several profiles.",
)
@click.option("--optShapes", "middle", multiple=True, metavar="SHAPES", help="Shapes to tune for.")
@click.option("--maxShapes", "high", multiple=True, metavar="SHAPES", help="Greatest shapes.")
@click.option("--precision", type=click.Choice(["fp16", "bf16"]), help="Convert the model first.")
@click.option("--keep", multiple=True, metavar="NAME", help="Node or operator it leaves alone.")
@click.option("--fp16", is_flag=True, help="As --precision fp16.")
@click.option("--bf16", is_flag=True, help="As --precision bf16.")
@click.option("--best", is_flag=True, help="As --fp16: for INT8 run `zerolane quantize` first.")
@click.option(
    "--computeCapabilities",
    "targets",
    callback=_targets,
    metavar="LIST",
    help="GPUs it is for: 8.9,12.0 or current (TensorRT-RTX).",
)
@click.option("--builderOptimizationLevel", "level", type=click.IntRange(0, 5), help="0 to 5.")
@click.option("--memPoolSize", "pools", callback=_pools, metavar="LIST", help="workspace:64,...")
@click.option(
    "--hardwareCompatibilityLevel", "hardware", type=click.Choice(list(_HARDWARE)), default="none"
)
@click.option("--versionCompatible", "--vc", "compatible", is_flag=True)
@click.option("--excludeLeanRuntime", "lean", is_flag=True)
@click.option("--stripWeights", "strip", is_flag=True, help="Leave out what a refit brings back.")
@click.option("--refit", is_flag=True, help="Weights may be exchanged later.")
@click.option("--allowWeightStreaming", "streaming", is_flag=True)
@click.option("--sparsity", type=click.Choice(["disable", "enable"]), default="disable")
@click.option("--noTF32", "no_tf32", is_flag=True)
@click.option("--directIO", "direct", is_flag=True)
@click.option("--tilingOptimizationLevel", "tiling", type=click.IntRange(0, 3))
@click.option("--avgTiming", "timing", type=click.IntRange(1, 1000))
@click.option("--maxAuxStreams", "streams", type=click.IntRange(0, 1024))
@click.option("--timingCacheFile", "timing_cache", metavar="FILE", help="Read and replaced.")
@click.option("--editableTimingCache", "editable", is_flag=True)
@click.option("--errorOnTimingCacheMiss", "reproducible", is_flag=True)
@click.option(
    "--profilingVerbosity",
    "verbosity",
    type=click.Choice(["layer_names_only", "detailed", "none"]),
    default="layer_names_only",
)
@click.option("--verbose", is_flag=True, help="All that the library says, on stderr.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="End it after that.")
@click.option("--cache", metavar="FOLDER", help="The cache of engines to use.")
@click.option("--no-cache", is_flag=True, help="Build in any case, and do not keep it.")
@click.option("--isolate/--no-isolate", default=True, help="Build in a process of its own.")
@_trtexec
def build(
    model: str | None,
    onnx: str | None,
    save: Path | None,
    backend: str,
    shapes: str | None,
    low: tuple[str, ...],
    middle: tuple[str, ...],
    high: tuple[str, ...],
    precision: str | None,
    keep: tuple[str, ...],
    fp16: bool,
    bf16: bool,
    best: bool,
    targets: tuple[str, ...],
    level: int | None,
    pools: dict[str, int],
    hardware: str,
    compatible: bool,
    lean: bool,
    strip: bool,
    refit: bool,
    streaming: bool,
    sparsity: str,
    no_tf32: bool,
    direct: bool,
    tiling: int | None,
    timing: int | None,
    streams: int | None,
    timing_cache: str | None,
    editable: bool,
    reproducible: bool,
    verbosity: Any,
    verbose: bool,
    timeout_s: float | None,
    cache: str | None,
    no_cache: bool,
    isolate: bool,
    as_json: bool,
) -> None:
    """Build an engine from an ONNX model. trtexec's flags for building work here."""
    from zerolane.builder.build import Build

    path = _one_model(model, onnx)
    if cache is not None and no_cache:
        raise click.UsageError("--cache and --no-cache contradict each other: give one of them")
    target = save if save is not None else Path(Path(path).stem + ".engine")
    profiles = _profiles(shapes, low, middle, high)
    hardware_level: Any = _HARDWARE[hardware]
    started = time.perf_counter()
    with _log_shown(verbose), progress() as tell:
        job = Build(
            path,
            backend=backend,
            profiles=profiles or None,
            precision=_precision(precision, fp16, bf16, best),
            cache=cache if cache is not None else not no_cache,
            isolate=isolate,
            progress=tell,
            compute_capabilities=targets,
            optimization_level=level,
            memory_pools=pools,
            hardware_compatibility=hardware_level,
            version_compatible=compatible,
            exclude_lean_runtime=lean,
            strip_weights=strip,
            refit=refit,
            weight_streaming=streaming,
            sparse_weights=sparsity == "enable",
            tf32=False if no_tf32 else None,
            direct_io=direct,
            tiling_level=tiling,
            avg_timing_iterations=timing,
            max_aux_streams=streams,
            timing_cache=timing_cache,
            editable_timing=editable,
            reproducible_timing=reproducible,
            profiling_verbosity=verbosity,
            log_level="verbose" if verbose else "warning",
            precision_keep=keep,
            timeout_s=timeout_s,
        )
        _check_target(target, path)
        engine = job.run()
    seconds = time.perf_counter() - started
    engine.save(target)
    about = _about(engine, target, seconds, job.from_cache)
    if as_json:
        print_json(about)
    else:
        _show(about)


def _one_model(model: str | None, onnx: str | None) -> str:
    if (model is None) == (onnx is None):
        raise click.UsageError("give one model: zerolane build MODEL, or --onnx=MODEL")
    return model if model is not None else str(onnx)


def _check_target(target: Path, model: str) -> None:
    """What can be seen of it now is not left until the build is over."""
    from zerolane.engine.atomic import is_special

    if target.exists() and os.path.samefile(target, model):
        raise click.UsageError(f"--saveEngine: {str(target)!r} is the model: give another name")
    if target.is_dir():
        raise click.UsageError(f"--saveEngine: {str(target)!r} is a folder: give a file's name")
    folder = target.parent
    if not folder.is_dir():
        raise click.UsageError(f"--saveEngine: there is no folder {str(folder)!r}: make it first")
    if not (os.access(folder, os.W_OK | os.X_OK) or is_special(target)):
        raise click.UsageError(f"--saveEngine: the folder {str(folder)!r} may not be written")


def _precision(precision: str | None, fp16: bool, bf16: bool, best: bool) -> str | None:
    """--fp16, --bf16 and --best once let the library choose types; now the model says them."""
    wanted = {name for name, on in (("fp16", fp16), ("bf16", bf16)) if on}
    if precision is not None:
        wanted.add(precision)
    if len(wanted) > 1:
        raise click.UsageError("--fp16, --bf16 and --precision: give one of them")
    chosen = next(iter(wanted), "fp16" if best else None)
    if fp16 or bf16 or best:
        flag = "--best" if best else f"--{chosen}"
        which = f" to {chosen} (INT8 needs samples: `zerolane quantize`)" if best else ""
        click.echo(
            f"note: engines are strongly typed, so {flag} converts the model first{which}; inputs "
            "and outputs keep their types, and --keep NAME leaves nodes alone",
            err=True,
        )
    return chosen


def _profiles(
    shapes: str | None, low: tuple[str, ...], middle: tuple[str, ...], high: tuple[str, ...]
) -> list[dict[str, Any]]:
    """One mapping a profile. As in trtexec, --optShapes alone are fixed shapes."""
    from zerolane.measure.random_inputs import parse_shapes

    if shapes is not None:
        if low or middle or high:
            raise click.UsageError("--shapes is for fixed shapes: leave out the other three")
        return [dict(parse_shapes(shapes))]
    count = max(len(low), len(middle), len(high))
    if any(len(given) not in (0, count) for given in (low, middle, high)):
        raise click.UsageError(
            "--minShapes, --optShapes and --maxShapes: each must be given once for every profile"
        )
    found = []
    for i in range(count):
        least, best, most = (
            dict(parse_shapes(given[i])) if given else {} for given in (low, middle, high)
        )
        profile = {}
        for name in {**least, **best, **most}:
            at = best.get(name, most.get(name, least.get(name)))
            profile[name] = (least.get(name, at), at, most.get(name, at))
        found.append(profile)
    return found


@contextmanager
def _log_shown(verbose: bool) -> Iterator[None]:
    """The library's messages on stderr: its warnings, or all."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    logger = logging.getLogger("zerolane")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbose else logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _about(engine: Engine, path: Path, seconds: float, from_cache: bool) -> dict[str, Any]:
    m = engine.manifest
    specs = {
        kind: [{"name": s.name, "dtype": s.dtype, "shape": s.shape} for s in tensors]
        for kind, tensors in (("inputs", m.inputs), ("outputs", m.outputs))
    }
    return {
        "model": m.model,
        "engine": str(path),
        "backend": m.backend,
        "library_version": m.library_version,
        "precision": m.precision,
        "profiles": list(m.profiles),
        "plan_bytes": m.plan_size,
        "layers": m.extra.get("layers"),
        "peak_bytes": m.extra.get("peak_bytes"),
        "seconds": seconds,
        "build_seconds": m.build_seconds,
        "from_cache": from_cache,
        "key": m.key,
        **specs,
    }


def _show(about: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, show_header=False, pad_edge=False)
    rows = [
        ("engine", f"{about['engine']}, plan of {about['plan_bytes']:,} bytes"),
        ("library", f"{about['backend']} {about['library_version']}"),
        ("network", f"{about['layers']} layers, {about['precision'] or 'types as in the model'}"),
    ]
    for number, profile in enumerate(about["profiles"]):
        texts = (f"{n} {' .. '.join('x'.join(map(str, s)) for s in r)}" for n, r in profile.items())
        rows.append((f"profile {number}", ", ".join(texts)))
    took = f"{about['seconds']:.2f} s"
    if about["from_cache"]:
        took += f", from the cache (its build took {about['build_seconds']:.2f} s)"
    elif about["peak_bytes"]:
        took += f", {about['peak_bytes'] / 2**20:,.0f} MiB of memory"
    rows.append(("time", took))
    for subject, text in rows:
        facts.add_row(Text(subject, "bold"), Text(text))
    console().print(facts)
