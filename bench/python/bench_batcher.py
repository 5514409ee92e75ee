# SPDX-License-Identifier: Apache-2.0
"""Many clients of one model: requests a second and latency with a batcher and with what people use.

The policy net (three dense layers) shows what a request costs around the model, a convolutional
network whether the batcher notices that joining gains nothing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np

import zerolane as zl
from bench import models, native, settings
from bench.python import clients
from bench.python.clients import Served
from bench.results import Check, Report, Series
from bench.rivals import batching
from bench.settings import Settings, progress
from bench.stats import curve, summarize
from zerolane import _native

NAME = "batcher"
TITLE = "many clients of one model"
CLIENTS = 32
MAX_BATCH = 16
Run = Callable[[float, Served], None]


def run(options: Settings) -> Report:
    import onnxruntime

    report = Report(NAME, TITLE, options.as_dict() | {"clients": CLIENTS, "max_batch": MAX_BATCH})
    rounds, seconds = (3, 1.0) if options.quick else (10, 2.0)
    report.settings |= {"rounds": rounds, "seconds_a_round": seconds}
    case = models.policy(settings.BUILD_FOLDER / "models", "N")
    (x,) = case.inputs.values()
    peer = _peer(onnxruntime, case.path, 1)
    pooled = _peer(onnxruntime, case.path, 2)  # run_async wants a pool
    name = peer.get_inputs()[0].name
    with zl.Batcher(zl.load(case.path, threads=1), max_batch=MAX_BATCH) as batcher:
        np.testing.assert_allclose(batcher(x), peer.run(None, {name: x})[0], rtol=1e-5, atol=1e-6)
        tasks = partial(clients.coroutines, x=x, clients=CLIENTS)
        hand = batching.HandWritten(peer, MAX_BATCH)
        coroutines: dict[str, Run] = {
            "zerolane.batcher": lambda s, to: tasks(batcher.arun, seconds=s, into=to),
            "hand-written batcher": lambda s, to: tasks(hand.ask, seconds=s, into=to),
            "onnxruntime.run_async": lambda s, to: tasks(
                batching.run_async(pooled), seconds=s, into=to
            ),
            "thread executor": lambda s, to: tasks(batching.executor(peer, 2), seconds=s, into=to),
        }
        _compare(report, "policy, 32 coroutines", coroutines, rounds, seconds, 200_000, 300)
        many = partial(clients.threads, x=x, clients=CLIENTS)
        threads: dict[str, Run] = {
            "zerolane.batcher": lambda s, to: many(batcher, seconds=s, into=to),
            "zerolane.session": lambda s, to: many(batcher._session, seconds=s, into=to),
            "onnxruntime.run": lambda s, to: many(
                lambda x: peer.run(None, {name: x}), seconds=s, into=to
            ),
        }
        _compare(report, "policy, 32 threads", threads, rounds, seconds, 120_000, 1500)
    _clients_in_cpp(report, case, rounds, seconds)
    _convolutions(report, onnxruntime, rounds, seconds)
    return report


def _peer(onnxruntime: Any, path: Any, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compare(
    report: Report,
    subject: str,
    contestants: dict[str, Run],
    rounds: int,
    seconds: float,
    rate: float | None = None,
    p99_us: float | None = None,
) -> dict[str, Served]:
    """Contestants in turn. The targets are those of the first one."""
    progress(
        f"{NAME}: {subject}, {rounds} rounds of {seconds} s for {len(contestants)} contestants"
    )
    served = {name: Served() for name in contestants}
    for run_one in contestants.values():
        run_one(seconds / 4, Served())
    for _ in range(rounds):
        for name, run_one in contestants.items():
            run_one(seconds, served[name])
    first = next(iter(contestants))
    for name, one in served.items():
        quartiles = tuple(float(q) for q in np.quantile(one.rates, (0.25, 0.75)))
        mine = name == first
        report.checks += [
            Check(
                f"{name} rate",
                subject,
                median(one.rates),
                "/s",
                (quartiles[0], quartiles[1]),
                rate if mine else None,
                ">=",
            ),
            Check(f"{name} p50", subject, one.quantile(0.5), "us"),
            Check(f"{name} p99", subject, one.quantile(0.99), "us", None, p99_us if mine else None),
            Check(f"{name} p99.9", subject, one.quantile(0.999), "us"),
        ]
        if not mine:
            ratio = [a / b for a, b in zip(served[first].rates, one.rates, strict=True)]
            report.checks.append(Check(f"{first} rate over {name}", subject, median(ratio), "x"))
        summary = summarize(one.latencies_us).as_dict()
        report.series.append(Series(subject, name, "us", summary, curve(one.latencies_us)))
    return served


def _clients_in_cpp(report: Report, case: models.Case, rounds: int, seconds: float) -> None:
    """Clients in C++: one thread with 64 requests in flight; the lane spins for 100 us."""
    progress(f"{NAME}: policy, clients in C++")
    program = native.batch_clients()
    command = [program, native.onnxruntime_library(), case.path, MAX_BATCH, 1, 64, seconds, 100]
    results = [
        json.loads(subprocess.run([*map(str, command)], check=True, capture_output=True).stdout)
        for _ in range(max(3, rounds // 2))
    ]
    subject = "policy, clients in C++"
    share = [one["rate"] / one["ceiling"] for one in results]
    report.checks += [
        Check("rate", subject, median(one["rate"] for one in results), "/s"),
        Check(
            "one thread on full batches",
            subject,
            median(r["ceiling"] for r in results),
            "/s",
            note="the ceiling",
        ),
        Check(
            "rate over the ceiling",
            subject,
            median(share),
            "x",
            (min(share), max(share)),
            0.8,
            ">=",
        ),
        Check("p99", subject, median(one["p99_us"] for one in results), "us"),
        Check("rows a run", subject, median(one["rows_per_run"] for one in results), "rows"),
    ]


def _convolutions(report: Report, onnxruntime: Any, rounds: int, seconds: float) -> None:
    path = models.light("squeezenet", "N")
    x = np.random.default_rng(0).standard_normal((1, 3, 224, 224)).astype(np.float32)
    lanes = _native.usable_cpus()
    peer = _peer(onnxruntime, path, 0)
    name = peer.get_inputs()[0].name
    with zl.Batcher(zl.load(path, threads=1), max_batch=MAX_BATCH, lanes=lanes) as batcher:
        many = partial(clients.threads, x=x, clients=CLIENTS)
        contestants: dict[str, Run] = {
            "zerolane.batcher": lambda s, to: many(batcher, seconds=s, into=to),
            "onnxruntime.run": lambda s, to: many(
                lambda x: peer.run(None, {name: x}), seconds=s, into=to
            ),
            "thread executor": lambda s, to: clients.coroutines(
                batching.executor(peer, lanes), x, CLIENTS, s, to
            ),
        }
        subject = "squeezenet, 32 clients"
        served = _compare(report, subject, contestants, rounds, 2 * seconds)
        mine = served["zerolane.batcher"]
        ratio = [a / b for a, b in zip(mine.rates, served["onnxruntime.run"].rates, strict=True)]
        report.checks += [
            Check("rate over threads on one session", subject, median(ratio), "x", None, 1.0, ">="),
            Check(
                "p99 over p50", subject, mine.quantile(0.99) / mine.quantile(0.5), "x", None, 1.2
            ),
            Check("rows a run", subject, batcher.stats()["rows_per_run"], "rows"),
        ]


if __name__ == "__main__":
    settings.main(run, TITLE)
