"""`zl.tune`: the whole search, from a model and samples to a table and the best setting."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from zerolane import __version__, _native
from zerolane.engine.digest import digest_model
from zerolane.errors import InvalidArgument, NotFound, Unsupported
from zerolane.measure.accuracy import Metric, Scorer, scorer
from zerolane.measure.progress import Progress, reporter
from zerolane.model.load import load
from zerolane.model.session import Session
from zerolane.model.tuned import file_sha256
from zerolane.optimize.samples import Samples, read_samples
from zerolane.tuning.artefact import Artefact, OutOfTime, make, original
from zerolane.tuning.halving import Block, Budget, Search, Trail
from zerolane.tuning.identity import identity_of
from zerolane.tuning.journal import Journal
from zerolane.tuning.measuring import Measurer
from zerolane.tuning.rank import median_interval
from zerolane.tuning.result import Goal, LeftOut, Row, Scratch, TuneResult, pareto
from zerolane.tuning.setting import Setting, Space, space_of

if TYPE_CHECKING:
    from zerolane.measure.progress import Report

MOST_SAMPLES = 64
_MAKING_SHARE = 0.5  # of the budget; no artefact is begun after it


def tune(
    model: str | os.PathLike[str] | bytes,
    samples: Samples,
    *,
    budget_s: float = 60.0,
    accuracy: float = 0.99,
    p99_ms: float | None = None,
    goal: Goal = "latency",
    metric: Metric | None = None,
    space: Space | Mapping[str, Sequence[Any]] | None = None,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = True,
) -> TuneResult:
    """Measure ways to run the model here and return them, the best first; blocks for the budget.

    model: a path, or the bytes of a model; never changed.
    samples: real inputs, see `zerolane.optimize.samples`; the first 64 calibrate, score and are
        timed.
    budget_s: seconds in all, making artefacts included. A step that runs when they are over (the
        making of an artefact that does not tell of its progress, a load, a block of calls) ends
        first, so the search ends late by one step at most; the original is measured in any case.
    accuracy, metric: see `zerolane.measure.accuracy`; an artefact must keep that share of the
        original's score. None: "cosine".
    p99_ms: the 99th percentile of a call's time is to be no more.
    goal: "latency", the p50 of one caller; "throughput", rows a second, with lanes, and batches
        where the model's batch dimension is open.
    space: what to combine in place of the defaults: a dict with some of the fields of
        `zerolane.tuning.setting.Space` (artefacts, backends, graph_levels, threads, lanes, batches,
        optimization_levels).
    folder: for artefacts and the journal; made where it is missing. A second call with the same
        folder goes on where the first ended; one with another model, other options (the budget
        excepted) or on another machine raises InvalidArgument. None: a temporary one, as long as
        the result lives.
    progress: a line on stderr where that is a terminal, or a function of (fraction, doing what).

    Raises NotFound, InvalidModel, InvalidArgument, ShapeMismatch, Unavailable.
    """
    budget = Budget.begin(_check(budget_s, accuracy, p99_ms, goal, seed))
    source = model if isinstance(model, bytes) else Path(os.fspath(model))
    threads = _native.usable_cpus()
    reference = load(model, threads=threads)
    rows = [*_first(read_samples(samples, reference.inputs, reference.optional_inputs))]
    chosen = space_of(space, _space(reference, goal, threads))
    chosen, left_out = _here(chosen, reference)
    scratch = None
    if folder is None:
        scratch = Scratch()
        folder = scratch.path
    home = Path(os.fspath(folder))
    home.mkdir(parents=True, exist_ok=True)
    digest = digest_model(model)
    identity = {"sha256": digest.model, "external_data": dict(digest.external_data)}
    environment = _environment()
    wanted = "cosine" if metric is None else metric
    named = wanted if isinstance(wanted, str) else getattr(wanted, "__name__", "function")
    journal = Journal(
        home,
        {
            "model": identity,
            "environment": environment,
            "samples": _digest_of(rows),
            "options": {
                "goal": goal,
                "accuracy": accuracy,
                "p99_ms": p99_ms,
                "metric": identity_of(wanted),
                "seed": seed,
                "space": chosen.as_dict(),
            },
        },
    )
    report = reporter(progress)
    try:
        artefacts = _artefacts(
            chosen, source, home, rows, reference, wanted, accuracy, budget, journal, report, seed
        )
        search, complete = _search(
            chosen, artefacts, source, home, rows, goal, p99_ms, budget, journal, report, seed
        )
    finally:
        journal.close()
    base = next(t for t in search.trails if t.setting == search.baseline)
    if base.broken:
        raise Unsupported(
            f"tuning {reference.name}: the model as it was given cannot be measured "
            f"({base.dropped}), expected one that runs on the samples; repair it first",
            "model",
        )
    left_out += [LeftOut(a.name, a.reason) for a in artefacts.values() if a.reason]
    left_out += [LeftOut(str(t.setting), t.dropped) for t in search.trails if t.broken]
    untried = sum(not t.blocks and not t.broken for t in search.trails)
    if untried:
        left_out.append(LeftOut(f"{untried} settings", "not tried: the budget ended first"))
    report(1.0, "tuned")
    return TuneResult(
        source="model in memory" if isinstance(source, bytes) else source.name,
        goal=goal,
        metric=named,
        floor=accuracy,
        p99_limit_ms=p99_ms,
        rows=table(search, artefacts, goal),
        left_out=tuple(left_out),
        budget_s=budget_s,
        seconds=round(budget.used, 3),
        complete=complete,
        resumed=journal.resumed,
        folder=home,
        files={name: a.as_dict() for name, a in artefacts.items()},
        model=identity,
        environment=environment,
        baseline=search.baseline,
        _scratch=scratch,
    )


def _artefacts(
    space: Space,
    model: Path | bytes,
    home: Path,
    samples: Sequence[Mapping[str, Any]],
    reference: Session,
    metric: Metric,
    accuracy: float,
    budget: Budget,
    journal: Journal,
    report: Report,
    seed: int,
) -> dict[str, Artefact]:
    """All of the space, each from the journal where it is in there and its file unchanged."""
    known = {
        line["artefact"]["name"]: line["artefact"] for line in journal.lines if "artefact" in line
    }
    stem = "model" if isinstance(model, bytes) else model.stem
    target = "cpu" if "onnxruntime" in space.backends else "tensorrt"
    score = _scorer(metric, reference, samples, budget)
    found: dict[str, Artefact] = {}
    for name in dict.fromkeys(("original", *space.artefacts)):
        old = known.get(name)
        if old is not None and (
            not old["file"]
            or ((home / old["file"]).is_file() and file_sha256(home / old["file"]) == old["sha256"])
        ):
            found[name] = Artefact(**old)
            continue
        if name == "original":
            found[name] = original(model)
            journal.write({"artefact": found[name].as_dict()})
            continue
        if score is None or budget.used > _MAKING_SHARE * budget.seconds:
            when = "before its turn" if score is not None else "for scoring the original"
            why = f"not made: half of the budget was used {when}"
            found[name] = Artefact(name, reason=why)
            continue
        report(min(0.99, budget.used / budget.seconds), f"tuning: making {name}")
        made = make(
            name,
            model,
            home,
            stem,
            samples,
            score,
            metric,
            accuracy,
            budget,
            target=target,
            seed=seed,
            threads=reference.options.threads or 1,
        )
        found[name] = made
        if "budget" not in made.reason:  # with more time it may come out otherwise
            journal.write({"artefact": made.as_dict()})
    return found


def _scorer(
    metric: Metric, reference: Session, samples: Sequence[Mapping[str, Any]], budget: Budget
) -> Scorer | None:
    """None where the original itself takes more than what there is for making artefacts."""

    def run(inputs: dict[str, Any]) -> Mapping[str, Any]:
        if budget.used > _MAKING_SHARE * budget.seconds:
            raise OutOfTime
        return reference.run(inputs)

    try:
        return scorer(metric, run, samples)
    except OutOfTime:
        return None


def _search(
    space: Space,
    artefacts: Mapping[str, Artefact],
    model: Path | bytes,
    home: Path,
    samples: Sequence[Mapping[str, Any]],
    goal: Goal,
    p99_ms: float | None,
    budget: Budget,
    journal: Journal,
    report: Report,
    seed: int,
) -> tuple[Search, bool]:
    names = [name for name in space.artefacts if not artefacts[name].reason]
    settings = space.settings(names)
    batch = 0 if 0 in space.batches else min(space.batches)
    baseline = Setting(batch=batch)
    settings = [baseline, *(s for s in settings if s != baseline)]
    trails = {setting.key: Trail(setting) for setting in settings}
    for line in journal.lines:
        trail = trails.get(line.get("setting", ""))
        if trail is None:
            continue
        if "us" in line:
            trail.blocks[line["sweep"]] = Block(tuple(line["us"]), line["wall_us"], line["rows"])
        elif "dropped" in line:
            trail.dropped, trail.broken = line["dropped"], line["broken"]
    files = {
        name: home / artefacts[name].file if artefacts[name].file else model for name in artefacts
    }
    measurer = Measurer(files, samples)
    search = Search(
        list(trails.values()),
        measurer,
        cost_of(goal),
        baseline,
        budget,
        report,
        p99_us=None if p99_ms is None else p99_ms * 1e3,
        seed=seed,
        on_block=lambda trail, sweep, block: journal.write(
            {
                "setting": trail.setting.key,
                "sweep": sweep,
                "us": [round(us, 2) for us in block.us],
                "wall_us": round(block.wall_us, 2),
                "rows": block.rows,
            }
        ),
        on_drop=lambda trail: journal.write(
            {"setting": trail.setting.key, "dropped": trail.dropped, "broken": trail.broken}
        ),
    )
    try:
        return search, search.run()
    finally:
        measurer.close()


def cost_of(goal: Goal) -> Callable[[Block], float]:
    """What a goal makes small: the median of calls, or the time a row takes."""
    if goal == "latency":
        return lambda block: float(np.median(block.us))
    return lambda block: block.wall_us / block.rows


def table(search: Search, artefacts: Mapping[str, Artefact], goal: Goal) -> tuple[Row, ...]:
    """A row for each setting that was measured; those that went to the end first, best first."""
    base = next(t for t in search.trails if t.setting == search.baseline)
    rows = []
    for trail in search.ranked(search.trails):
        if not trail.blocks or trail.broken:
            continue
        blocks = trail.blocks.values()
        speed = search.ratios(base, trail)
        p50s = [float(np.median(block.us)) / 1e3 for block in blocks]
        made = artefacts[trail.setting.artefact]
        rows.append(
            Row(
                setting=trail.setting,
                p50_ms=float(np.median(trail.us)) / 1e3,
                p99_ms=float(np.percentile(trail.us, 99)) / 1e3,
                p50_interval=median_interval(p50s),
                rows_per_s=sum(b.rows for b in blocks) / sum(b.wall_us for b in blocks) * 1e6,
                speedup=float(np.median(speed)) if speed else float("nan"),
                speedup_interval=median_interval(speed) if speed else (float("nan"),) * 2,
                accuracy=1.0 if made.score is None else made.score,
                bytes=made.bytes,
                calls=len(trail.us),
                sweeps=len(trail.blocks),
                dropped=trail.dropped,
            )
        )
    rows.sort(key=lambda row: bool(row.dropped))
    return tuple(replace(r, pareto=on) for r, on in zip(rows, pareto(rows, goal), strict=True))


def _space(session: Session, goal: Goal, cpus: int) -> Space:
    """What is worth combining for a goal on this machine."""
    threads = sorted({1, *(n for n in (2, 4, 8, 16, 32) if n < cpus), cpus})
    if goal == "latency":
        return Space(threads=threads)
    lanes = sorted({1, *(n for n in (2, 4, 8) if n < cpus), cpus})
    batches = (1, 4, 16) if open_batch(session) else (0,)
    return Space(threads=threads, lanes=lanes, batches=batches)


def open_batch(session: Session) -> bool:
    """Whether all inputs begin with one and the same dimension that is not fixed."""
    shapes = [spec.shape for spec in session.inputs]
    firsts = {shape[0] for shape in shapes if shape}
    return len(firsts) == 1 and all(shapes) and not isinstance(firsts.pop(), int)


def _here(space: Space, session: Session) -> tuple[Space, list[LeftOut]]:
    """The space without what this machine or the model rules out, and why."""
    left_out = []
    backends = []
    if any(space.batches) and not open_batch(session):
        raise InvalidArgument(
            f"tuning {session.name}: batches are {list(space.batches)}, and its batch dimension is "
            "fixed or not the first of every input; leave batches out, or open it with "
            "zl.optimize.graph(batch='N')",
            "batches",
        )
    for backend in space.backends:
        reason = _missing(backend)
        if reason:
            left_out.append(LeftOut(backend, reason))
        else:
            backends.append(backend)
    if not backends:
        raise NotFound(
            f"tuning {session.name}: {left_out[0].what}: {left_out[0].reason}, expected one of "
            f"{list(space.backends)} that runs here; name another in backends",
            "backends",
        )
    return replace(space, backends=tuple(backends)), left_out


def _missing(backend: str) -> str:
    """Why a backend cannot run here; "" where it can."""
    if backend == "onnxruntime":
        return ""
    from zerolane.runtimes.doctor import doctor

    found = doctor()
    abilities = found.tensorrt_rtx if backend == "tensorrt-rtx" else found.tensorrt
    if any(ability.run == "yes" for ability in abilities):
        return ""
    why = abilities[0].run if abilities else "the library is not installed"
    if not found.cuda.gpus:
        why = found.cuda.problem or "there is no GPU"
    return f"no candidates: {why}"


def _first(samples: Any) -> list[dict[str, Any]]:
    return [samples[index] for index in range(min(len(samples), MOST_SAMPLES))]


def _digest_of(samples: Sequence[Mapping[str, Any]]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for sample in samples:
        for name, value in sorted(sample.items()):
            array = np.asarray(value)
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(
                repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
            )
    return digest.hexdigest()


def _environment() -> dict[str, Any]:
    """What times depend on, besides the model."""
    from zerolane.runtimes.doctor import doctor

    found = doctor()
    return {
        "cpu": found.machine.cpu,
        "cpus": found.machine.cpus_usable,
        "onnxruntime": found.onnxruntime.version or "none",
        "gpus": ", ".join(str(g.name) for g in found.cuda.gpus) or "none",
        "zerolane": __version__,
    }


def _check(budget_s: float, accuracy: float, p99_ms: float | None, goal: str, seed: int) -> float:
    for name, value, ok, expected in (
        ("budget_s", budget_s, 0 < budget_s < float("inf"), "seconds above 0"),
        ("accuracy", accuracy, 0 < accuracy <= 1, "a share of the original's score, up to 1"),
        ("p99_ms", p99_ms, p99_ms is None or p99_ms > 0, "milliseconds above 0, or None"),
        ("goal", goal, goal in get_args(Goal), "'latency' or 'throughput'"),
        ("seed", seed, type(seed) is int and seed >= 0, "an int from 0 on"),
    ):
        if not ok:
            raise InvalidArgument(
                f"tuning: {name} is {value!r}, expected {expected}; leave it out for the default",
                name,
            )
    return float(budget_s)
