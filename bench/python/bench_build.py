# SPDX-License-Identifier: Apache-2.0
"""Building engines with TensorRT-RTX: zerolane against the vendor's own Python bindings.

Times are interleaved in one process, after a first build of each that opens the library. The time
of the processors stands beside that on the clock: other load on the machine disturbs it less, and
what zerolane does on another thread meanwhile (the model's digest) counts in it. Memory is the peak
of a fresh process that builds once; for zerolane's child, of it and of its parent.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

from bench import settings
from bench.environment import memory_kib, package_version
from bench.results import Check, Report, Series, ratio_check
from bench.rivals import engine_builds
from bench.rivals.engine_builds import Build, Shapes
from bench.settings import Settings, progress
from bench.stats import curve, paired_ratio, summarize

NAME = "build"
TITLE = "build of an engine (TensorRT-RTX, no GPU), interleaved"
TRAINED = ("digits_cnn", "line_ctc", "stream_vad", "ttt_policy")
LIGHT = ("light_resnet50", "light_squeezenet")
SIZES = (1, 4, 16)
CHILD_S = 0.3  # allowed for a process of its own


def cases(folder: Path, built: Path) -> dict[str, Path]:
    """The trained models, a transformer of 21 MB, and whole networks of the onnx package."""
    import onnx
    from tests.models import large

    found = {name: folder / f"{name}.onnx" for name in TRAINED}
    built.mkdir(parents=True, exist_ok=True)
    found["text_embed"] = built / "text_embed.onnx"
    if not found["text_embed"].exists():
        onnx.save(large.text_embed(), found["text_embed"])
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return found | {name: light / f"{name}.onnx" for name in LIGHT}


def free_shapes(path: Path) -> Shapes:
    """1 to 16, best 4, for every free dimension."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    own = {tensor.name for tensor in graph.initializer}
    found = {}
    for value in graph.input:
        dims = [d.dim_value or None for d in value.type.tensor_type.shape.dim]
        if value.name not in own and None in dims:
            found[value.name] = [tuple(d or size for d in dims) for size in SIZES]
    return found


def built(build: Build, path: Path, shapes: Shapes) -> np.ndarray:
    return np.frombuffer(build(path, shapes), np.uint8).copy()


def seconds(build: Build, path: Path, shapes: Shapes) -> tuple[float, float]:
    """On the clock, and of this process's processors."""
    gc.collect()
    cpu, start = process_time(), perf_counter()
    build(path, shapes)
    return perf_counter() - start, process_time() - cpu


def check_same(name: str, plans: dict[str, np.ndarray]) -> None:
    """The library orders and numbers made-up names differently from run to run, and no more."""
    wanted = plans["bindings"]
    for who, plan in plans.items():
        same = plan.size == wanted.size and np.array_equal(plan[:64], wanted[:64])
        if not same or np.count_nonzero(plan != wanted) > wanted.size / 1000:
            raise RuntimeError(f"{who} built another engine of {name} than the bindings")


def peak_mib(who: str, path: Path, shapes: Shapes) -> dict[str, float]:
    """Of a fresh process that builds once."""
    code = "from bench.python.bench_build import tell_peak; tell_peak()"
    given = json.dumps([who, str(path), shapes])
    done = subprocess.run(
        [sys.executable, "-c", code, given], capture_output=True, text=True, check=True
    )
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def tell_peak() -> None:
    """Printed by that process: its own peak and that of zerolane's child, if there was one."""
    who, path, shapes = json.loads(sys.argv[1])
    if who == "bindings":
        plan = engine_builds.make(who)(Path(path), shapes)
        assert len(plan) > 1000
        child = 0
    else:
        import zerolane as zl

        isolate = who == "zerolane child"
        engine = zl.build(path, shapes=shapes or None, cache=False, isolate=isolate)
        child = engine.manifest.extra.get("peak_bytes", 0)
    own = int(memory_kib("VmHWM")) / 1024
    child = child / 2**20
    print(json.dumps({"self": own, "child": child, "most": max(own, child)}))


def measure(report: Report, name: str, path: Path, rounds: int) -> None:
    shapes = free_shapes(path)
    builds = {who: engine_builds.make(who) for who in engine_builds.BUILDS}
    check_same(name, {who: built(build, path, shapes) for who, build in builds.items()})
    times: dict[str, list[float]] = {who: [] for who in builds}
    cpu: dict[str, list[float]] = {who: [] for who in builds}
    order = list(builds)
    # Short builds are measured more often.
    typical = seconds(builds["bindings"], path, shapes)[0]
    for r in range(max(rounds, min(5 * rounds, int(rounds / typical)))):
        for who in (*order[r % 3 :], *order[: r % 3]):
            for values, value in zip(
                (times[who], cpu[who]), seconds(builds[who], path, shapes), strict=True
            ):
                values.append(value)
    for who, values in times.items():
        ms = [1e3 * value for value in values]
        report.series.append(Series(name, who, "ms", summarize(ms).as_dict(), curve(ms)))
    ratio = paired_ratio(times["zerolane"], times["bindings"])
    report.checks.append(ratio_check("in process / bindings", name, ratio, 1.05, "<="))
    ratio = paired_ratio(cpu["zerolane"], cpu["bindings"])
    report.checks.append(ratio_check("in process / bindings, CPU time", name, ratio, None, "<="))
    beyond = [c - 1.1 * b for c, b in zip(times["zerolane child"], times["bindings"], strict=True)]
    s = summarize(beyond)
    report.checks.append(
        Check("child - 1.1 x bindings", name, s.median, "s", (s.p25, s.p75), CHILD_S)
    )
    peaks = {who: peak_mib(who, path, shapes) for who in builds}
    for who in ("zerolane", "zerolane child"):
        value = peaks[who]["most"] / peaks["bindings"]["most"]
        note = f"{peaks[who]['most']:.0f} of {peaks['bindings']['most']:.0f} MiB"
        if who == "zerolane child":
            note += f"; {peaks[who]['self']:.0f} MiB in the parent"
        report.checks.append(Check(f"peak memory of {who} / bindings", name, value, "x", note=note))


def cancel(report: Report, path: Path, rounds: int) -> None:
    """How long cancelling takes to return, asked half a second after the start."""
    import threading

    import zerolane as zl

    for isolate in (True, False):
        waits = []
        for _ in range(rounds):
            job = zl.Build(path, cache=False, isolate=isolate)
            asked: list[float] = []

            def ask(job: zl.Build = job, asked: list[float] = asked) -> None:
                asked.append(perf_counter())
                job.cancel()

            timer = threading.Timer(0.5, ask)
            timer.start()
            try:
                job.run()
                timer.cancel()
            except zl.Cancelled:
                waits.append(perf_counter() - asked[0])
        if waits:
            where = "child" if isolate else "in process"
            s = summarize(waits)
            target = 3.0 if isolate else None
            spread = (s.p25, s.p75)
            report.checks.append(
                Check(f"cancel, {where}", path.stem, s.maximum, "s", spread, target, note="slowest")
            )


def from_cache(report: Report, path: Path, rounds: int) -> None:
    import zerolane as zl

    shapes = free_shapes(path)
    with tempfile.TemporaryDirectory() as folder:
        zl.build(path, shapes=shapes or None, cache=folder)
        values = []
        for _ in range(rounds):
            start = perf_counter()
            job = zl.Build(path, shapes=shapes or None, cache=folder)
            job.run()
            values.append(1e3 * (perf_counter() - start))
            assert job.from_cache
    s = summarize(values)
    report.checks.append(
        Check("second build, from the cache", path.stem, s.median, "ms", (s.p25, s.p75), 50)
    )


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds = 3 if options.quick else 9
    report.settings |= {"rounds": rounds, "bindings": package_version("tensorrt_rtx_cu13_bindings")}
    try:
        engine_builds.make("bindings")
    except ImportError as reason:
        report.checks.append(Check("bindings left out", "all", None, "", note=str(reason)))
        return report
    found = cases(options.models, settings.BUILD_FOLDER / "models")
    for name, path in found.items():
        progress(f"{NAME}: {name}")
        measure(report, name, path, rounds)
    from_cache(report, found["text_embed"], 3 * rounds)
    cancel(report, found["light_resnet50"], rounds)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
