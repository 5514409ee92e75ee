"""`zl.bench`: how long a call of a model takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from zerolane import __version__, _native
from zerolane.errors import InvalidArgument, Unsupported
from zerolane.measure.compare import CompareResult, compare_outputs
from zerolane.measure.peer import PEERS, Peer, open_peer
from zerolane.measure.progress import Progress, reporter
from zerolane.measure.random_inputs import Shapes, complete_inputs
from zerolane.measure.timing import Call, Latency, Ratio, Timing, interleave
from zerolane.model.load import load
from zerolane.model.session import Session

Mode = Literal["bound", "call", "run"]

LABELS = {"bound": "zerolane b()", "call": "zerolane s(x)", "run": "zerolane s.run"}
# Wide enough for other kernels and another order of sums, too narrow for a wrong answer.
_AGREE_ATOL, _AGREE_RTOL = 1e-4, 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class BenchResult:
    """Times of one way to call a model, and of the peer measured in turn with it.

    latency_us, samples_us: of the calls, in microseconds, each with the clock's own 50 ns.
    throughput: calls a second of one caller.
    speedup: the peer's time over this one's, block by block.
    agreement: this one's outputs held against the peer's.
    """

    model: str
    label: str
    mode: str
    version: str
    device: str
    threads: int
    shapes: Mapping[str, tuple[int, ...]]
    calls: int
    latency_us: Latency
    throughput: float
    samples_us: NDArray[np.float64] = field(repr=False)
    peer: BenchResult | None = None
    speedup: Ratio | None = None
    agreement: CompareResult | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values without the samples, for JSON."""
        values: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("model", "label", "mode", "version", "device", "threads", "calls")
        }
        values["shapes"] = {name: list(shape) for name, shape in self.shapes.items()}
        values["latency_us"] = asdict(self.latency_us)
        values["throughput"] = self.throughput
        values["peer"] = None if self.peer is None else self.peer.as_dict()
        values["speedup"] = None if self.speedup is None else asdict(self.speedup)
        values["agreement"] = None if self.agreement is None else self.agreement.as_dict()
        return values

    def __str__(self) -> str:
        us = self.latency_us
        text = (
            f"{self.label}, {self.model}: p50 {us.p50:.1f} us, p90 {us.p90:.1f}, p99 {us.p99:.1f}, "
            f"p99.9 {us.p999:.1f}, max {us.max:.1f}, mean {us.mean:.1f}; "
            f"{self.throughput:.0f} calls/s ({self.calls} calls)"
        )
        if self.peer is None or self.speedup is None:
            return text
        ratio = self.speedup
        return (
            f"{text}\n{self.peer}\n{self.label} is {ratio.median:.2f} x as fast as "
            f"{self.peer.label} (middle half {ratio.p25:.2f} to {ratio.p75:.2f})"
        )


def bench(
    model: Session | str | os.PathLike[str] | bytes,
    *,
    inputs: Mapping[str, Any] | None = None,
    shapes: Shapes | str | None = None,
    calls: int | None = None,
    seconds: float = 2.0,
    warmup: int | None = None,
    threads: int | None = None,
    mode: Mode = "bound",
    vs: Literal["onnxruntime"] | None = None,
    progress: Progress = False,
    seed: int = 0,
) -> BenchResult:
    """Time one caller's calls of a model, and return their distribution. Blocks.

    inputs: arrays by name; those left out are random, of `shapes` ({name: shape} or
        "x:1x3x224x224,y:1x10"), else 1 for every dynamic dimension.
    calls: how many to time; None: as many as take about `seconds`.
    warmup: calls before the first timed one; None: what fits in 0.2 s.
    threads: threads inside an operator, 1 if not given; a session keeps its own.
    mode: "bound" times b(), "call" s(x), "run" s.run({...}).
    vs: "onnxruntime" also times that package's `session.run` in blocks A B A B, with the same
        inputs, options and threads.
    """
    if mode not in get_args(Mode):
        raise InvalidArgument(
            f"benchmarking: mode is {mode!r}, expected 'bound', 'call' or 'run'; "
            "leave it out for 'bound'",
            "mode",
        )
    if vs is not None and vs not in PEERS:
        raise InvalidArgument(
            f"benchmarking: vs is {vs!r}, expected 'onnxruntime'; leave it out for no peer", "vs"
        )
    report = reporter(progress)
    if isinstance(model, Session):
        session = model
        if threads is not None and threads != threads_of(session):
            raise InvalidArgument(
                f"benchmarking {session.name}: threads={threads}, the session was loaded with "
                f"{threads_of(session)}; give the path, or load it with threads={threads}",
                "threads",
            )
    else:
        session = load(model, threads=1 if threads is None else threads)
    values = complete_inputs(session, inputs, shapes=shapes, seed=seed)
    contestants: dict[str, list[Call]] = {LABELS[mode]: [call_of(session, values, mode)]}
    peer: Peer | None = None
    agreement: CompareResult | None = None
    if vs is not None:
        peer = open_peer(session, threads_of(session))
        agreement = compare_outputs(
            session.run(values),
            peer(values),
            names=("zerolane", peer.name),
            atol=_AGREE_ATOL,
            rtol=_AGREE_RTOL,
        )
        contestants[f"{peer.name} run"] = [peer.call(values)]
    times = interleave(contestants, calls=calls, seconds=seconds, warmup=warmup, report=report)
    (label, ours), *others = times.items()
    result = _result(session, label, ours, values, mode=mode, version=__version__)
    if peer is None:
        return result
    label, theirs = others[0]
    return replace(
        result,
        peer=_result(session, label, theirs, values, mode="run", version=peer.version),
        speedup=Ratio.of(theirs, ours),
        agreement=agreement,
    )


def threads_of(session: Session) -> int:
    """How many threads work inside one of its operators."""
    info = _native.onnxruntime_info()
    return session.options.threads or (1 if info is None else int(info["threads"]))


def call_of(session: Session, inputs: Mapping[str, Any], mode: Mode) -> Call:
    """The call without arguments that is timed for a mode, on these inputs."""
    if mode == "run":
        return partial(session.run, dict(inputs))
    if mode == "call":
        if list(inputs) == [spec.name for spec in session.inputs]:
            return partial(session, *inputs.values())
        return partial(session, dict(inputs))
    try:
        binding: Call = session._bind(dict(inputs), None, None)
    except Unsupported as error:
        raise Unsupported(f"{error}, or mode='call' for a benchmark", error.subject) from error
    return binding


def _result(
    session: Session,
    label: str,
    timing: Timing,
    inputs: Mapping[str, Any],
    *,
    mode: str,
    version: str,
) -> BenchResult:
    latency = Latency.of(timing.samples_us)
    return BenchResult(
        model=session.name,
        label=label,
        mode=mode,
        version=version,
        device=session.device,
        threads=threads_of(session),
        shapes={name: tuple(np.shape(value)) for name, value in inputs.items()},
        calls=len(timing.samples_us),
        latency_us=latency,
        throughput=1e6 / latency.mean,
        samples_us=timing.samples_us,
    )
