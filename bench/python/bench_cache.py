# SPDX-License-Identifier: Apache-2.0
"""What the cache of engines costs: a second build of a 20 MB model, `verify`, hashing, storing.

`zl.build` is timed whole where a library that builds is installed. Beside it stand its parts, with
random bytes for a plan: the model's digest (read, or known from an earlier look), finding and
checking the engine, storing it. The files are in the page cache.
"""

from __future__ import annotations

import gc
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns

import zerolane as zl
from bench import settings
from bench.results import Check, Report, Series
from bench.settings import Settings, progress
from bench.stats import Summary, curve, summarize
from zerolane.engine import Cache, Engine, Manifest, digest_model
from zerolane.engine.digest import Memo
from zerolane.engine.environment import parts_here, this_platform

NAME = "cache"
TITLE = "cache of engines: a second build, verify"
MEGABYTE = 1_000_000
MODEL_BYTES = 20 * MEGABYTE
ENTRIES = 50


# After the interpreter's own start.
FRESH = """
import sys
from time import perf_counter

start = perf_counter()
import zerolane as zl

job = zl.Build(sys.argv[1], shapes={"x": (8, int(sys.argv[2]))}, cache=sys.argv[3])
job.run()
end = perf_counter()
assert job.from_cache
print(1e3 * (end - start))
"""


def write_model(path: Path) -> Path:
    """Two dense layers with 20 MB of fixed random weights."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    side = int((MODEL_BYTES / 2 / 4) ** 0.5)
    generator = np.random.default_rng(0)
    weights = [
        numpy_helper.from_array(generator.random((side, side), np.float32) - 0.5, name)
        for name in ("w1", "w2")
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["y"]),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", side]) for name in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "dense", values[:1], values[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


def timed(call: Callable[[], object], rounds: int) -> list[float]:
    """Milliseconds of each call, after two that do not count."""
    times = []
    for i in range(rounds + 2):
        gc.collect()
        start = perf_counter_ns()
        call()
        if i >= 2:
            times.append((perf_counter_ns() - start) / 1e6)
    return times


def add(report: Report, subject: str, name: str, times: list[float]) -> Summary:
    summary = summarize(times)
    report.series.append(Series(subject, name, "ms", summary.as_dict(), curve(times)))
    return summary


def judge(report: Report, measure: str, subject: str, summary: Summary, most: float | None) -> None:
    spread = summary.p25, summary.p75
    report.checks.append(Check(measure, subject, summary.median, "ms", spread, most))


def bench_build(report: Report, model: Path, folder: Path, rounds: int) -> None:
    """zl.build itself, with a real engine in the cache."""
    side = int((MODEL_BYTES / 2 / 4) ** 0.5)
    subject = "20 MB model"

    def build() -> Engine:
        return zl.build(model, shapes={"x": (8, side)}, cache=folder)

    try:
        start = perf_counter_ns()
        engine = build()
    except zl.Error as error:
        report.checks.append(Check("zl.build left out", subject, None, "", note=str(error)))
        return
    first = (perf_counter_ns() - start) / 1e6
    plan = f"first build {first:.0f} ms, plan {engine.manifest.plan_size / MEGABYTE:.1f} MB"
    summary = add(report, subject, "zl.build, second", timed(build, rounds))
    spread = summary.p25, summary.p75
    report.checks.append(
        Check("zl.build, second", subject, summary.median, "ms", spread, 50.0, note=plan)
    )
    bench_fresh_process(report, model, folder, rounds)


def bench_fresh_process(report: Report, model: Path, folder: Path, rounds: int) -> None:
    """The same as the first thing a process does: zerolane is imported in that time, too."""
    side = int((MODEL_BYTES / 2 / 4) ** 0.5)
    # The first process leaves the compiled modules for the others, as in every installation.
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    times = []
    for _ in range(rounds + 1):
        done = subprocess.run(
            [sys.executable, "-c", FRESH, str(model), str(side), str(folder)],
            env=env,
            capture_output=True,
            text=True,
            check=True,
        )
        times.append(float(done.stdout))
    subject, name = "20 MB model", "import and zl.build, second, fresh process"
    judge(report, name, subject, add(report, subject, name, times[1:]), None)


def bench_parts(report: Report, model: Path, folder: Path, rounds: int) -> None:
    """The way of a second build by its steps, with a plan as large as the model."""
    subject = "20 MB model"
    cache = Cache(folder)
    sure = Memo(folder / "digests", settle_seconds=0)
    digest = digest_model(model)

    def request(found: str) -> Manifest:
        return Manifest(
            model=model.name,
            model_digest=found,
            backend="tensorrt-rtx",
            library_version="1.7.1",
            platform=this_platform(),
        )

    engine = Engine(request(digest.model), random.Random(0).randbytes(MODEL_BYTES))

    def ask(memo: Memo | None) -> None:
        wanted = request(digest_model(model, memo).model)
        _, hit = cache.get_or_build(wanted, lambda: engine)
        if not hit and cache.get(wanted.key) is None:
            raise RuntimeError("the cache does not keep what it is given")

    key = engine.manifest.key
    for name, call in (
        ("read and ask", lambda: ask(None)),
        ("ask, model known", lambda: ask(sure)),
        ("digest, read", lambda: digest_model(model)),
        ("digest, known", lambda: digest_model(model, sure)),
        ("get", lambda: cache.get(key)),
        ("put", lambda: cache.put(key, engine)),
    ):
        summary = add(report, subject, name, timed(call, rounds))
        judge(report, name, subject, summary, 50.0 if "ask" in name else None)
    data = model.read_bytes()
    for algorithm in ("sha256", "blake2b"):
        times = timed(lambda algorithm=algorithm: hashlib.new(algorithm, data).digest(), rounds)
        judge(report, algorithm, subject, add(report, subject, algorithm, times), None)


def bench_verify(report: Report, folder: Path, rounds: int) -> None:
    """Time an entry of `Cache.verify`, of a cache with many engines of 2 MB and one of 20 MB."""
    cache = Cache(folder)
    plan = random.Random(1).randbytes(2 * MEGABYTE)
    for number in range(ENTRIES):
        wanted = Manifest(
            model=f"model_{number}.onnx",
            model_digest=f"{number:064x}",
            backend="tensorrt-rtx",
            library_version="1.7.1",
            platform=this_platform(),
            flags={f"flag_{i}": i for i in range(30)},
        )
        cache.put(wanted.key, Engine(wanted, plan))
    for full in (False, True):
        times: list[float] = []
        for _ in range(max(3, rounds // 5)):
            start = perf_counter_ns()
            for _verdict in cache.verify(parts_here, full=full):
                now = perf_counter_ns()
                times.append((now - start) / 1e6)
                start = now
        name = "verify --full" if full else "verify"
        subject = "an entry (20 MB, 50 of 2 MB)"
        summary = add(report, subject, name, times)
        judge(report, name, subject, summary, None if full else 10.0)
        worst = Check(f"{name}: slowest", subject, summary.maximum, "ms", None, None)
        report.checks.append(worst)


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    rounds = 10 if options.quick else 60
    report.settings |= {"rounds": rounds, "model_bytes": MODEL_BYTES, "entries": ENTRIES}
    settings.BUILD_FOLDER.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="cache-", dir=settings.BUILD_FOLDER))
    try:
        model = write_model(folder / "dense_20mb.onnx")
        progress(f"{NAME}: zl.build")
        bench_build(report, model, folder / "built", rounds)
        progress(f"{NAME}: the steps of a second build")
        bench_parts(report, model, folder / "parts", rounds)
        progress(f"{NAME}: verify")
        bench_verify(report, folder / "parts", rounds)
    finally:
        shutil.rmtree(folder)
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
