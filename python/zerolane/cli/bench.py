"""`zerolane bench`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.options import (
    giving_inputs,
    loading,
    open_session,
    running_shapes,
    tracing,
    trtexec_shapes,
)
from zerolane.cli.tables import latency_table
from zerolane.cli.verb import FAILED, Verb, console, print_json, progress

if TYPE_CHECKING:
    from zerolane.measure.random_inputs import Shapes
    from zerolane.model.session import Session


@click.command(cls=Verb)
@click.argument("model")
@giving_inputs
@trtexec_shapes
@click.option(
    "--mode",
    type=click.Choice(["bound", "call", "run"]),
    default="bound",
    show_default=True,
    help="b() on fixed memory, s(x), or s.run({...}).",
)
@click.option("--vs", type=click.Choice(["onnxruntime"]), help="Measure this in turn with it.")
@click.option("--calls", type=click.IntRange(1), help="Calls to time, instead of --seconds.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="About how long to time.",
)
@click.option("--warmup", type=click.IntRange(0), help="Calls before; default: 0.2 s of them.")
@click.option(
    "--clients",
    metavar="N,...",
    help="Under load: so many clients that each wait for their answer (1,2,4,8).",
)
@click.option(
    "--rate", metavar="R,...", help="Under load: so many requests a second, answered or not."
)
@click.option("--lanes", type=click.IntRange(1), help="Under load: through so many lanes.")
@click.option("--max-batch", type=click.IntRange(1), help="Under load: through a batcher.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw the distributions into this .png."
)
@loading
@tracing
@click.pass_context
def bench(
    ctx: click.Context,
    model: str,
    given: tuple[str, ...],
    shapes: str | None,
    seed: int,
    min_shapes: str | None,
    opt_shapes: str | None,
    max_shapes: str | None,
    mode: str,
    vs: str | None,
    calls: int | None,
    seconds: float,
    warmup: int | None,
    clients: str | None,
    rate: str | None,
    lanes: int | None,
    max_batch: int | None,
    plot: Path | None,
    threads: int,
    backend: str,
    device: str,
    providers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Time calls of a model: percentiles and throughput of one caller.

    Inputs not given are random. --vs measures the onnxruntime package in blocks A B A B with the
    same inputs and threads, compares the outputs, and exits with 1 if they differ.

    --clients, --rate, --lanes and --max-batch measure latency against throughput under load, each
    load for --seconds. Give --threads 1 with them, so that lanes compute side by side.
    """
    from zerolane.cli.arrays import read_inputs
    from zerolane.measure.bench import bench as measure
    from zerolane.measure.plot import Panel, plot_latency, terminal_histogram

    sizes = running_shapes(shapes, min_shapes, opt_shapes, max_shapes)
    session = open_session(model, threads, backend, device, providers)
    values = read_inputs(given, session.inputs)
    if clients is not None or rate is not None or lanes is not None or max_batch is not None:
        refused = {"--vs": vs, "--calls": calls, "--warmup": warmup}
        for name, value in refused.items():
            if value is not None:
                raise click.UsageError(f"{name} does not go with a test under load")
        _under_load(
            session, values, sizes, seed, clients, rate, lanes, max_batch, seconds, plot, as_json
        )
        return
    with progress() as report:
        result = measure(
            session,
            inputs=values,
            shapes=sizes,
            calls=calls,
            seconds=seconds,
            warmup=warmup,
            mode=mode,  # type: ignore[arg-type]
            vs=vs,  # type: ignore[arg-type]
            progress=report,
            seed=seed,
        )
    results = [result] if result.peer is None else [result, result.peer]
    series = {r.label: r.samples_us for r in results}
    if plot is not None:
        what = f"{result.threads} thread{'s' if result.threads > 1 else ''}, {result.calls} calls"
        title = f"Latency of {result.model}"
        plot_latency([Panel("", series)], plot, title=title, subtitle=what)
    agrees = result.agreement is None or result.agreement.ok
    if as_json:
        print_json(result.as_dict() | {"plot": None if plot is None else str(plot)})
    else:
        out = console()
        out.print(latency_table(results))
        if result.speedup is not None and result.peer is not None:
            ratio = result.speedup
            out.print(
                f"{result.label} is {ratio.median:.2f} x as fast as {result.peer.label} "
                f"(middle half of the blocks: {ratio.p25:.2f} to {ratio.p75:.2f})"
            )
            if not agrees:
                out.print(str(result.agreement), markup=False)
        out.print(terminal_histogram(series))
        if plot is not None:
            out.print(f"picture: {plot}", markup=False)
    if not agrees:
        ctx.exit(FAILED)


def _numbers(text: str | None, kind: Any, name: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")] if text else []
    except ValueError:
        raise click.BadParameter(f"{text!r} is no list like 1,2,4", param_hint=name) from None


def _under_load(
    session: Session,
    values: Mapping[str, Any],
    sizes: Shapes | None,
    seed: int,
    clients: str | None,
    rate: str | None,
    lanes: int | None,
    max_batch: int | None,
    seconds: float,
    plot: Path | None,
    as_json: bool,
) -> None:
    from rich.table import Table

    from zerolane.measure.load_test import load_test
    from zerolane.measure.plot import plot_load, time_text

    rates = _numbers(rate, float, "--rate")
    default = () if rates else (1, 2, 4, 8, 16, 32)
    with progress() as report:
        result = load_test(
            session,
            clients=_numbers(clients, int, "--clients") or default,
            rates=rates,
            lanes=lanes or 1,
            max_batch=max_batch,
            seconds=seconds,
            inputs=values,
            shapes=sizes,
            seed=seed,
            progress=report,
        )
    way = f"{result.lanes} lane{'' if result.lanes == 1 else 's'}"
    if result.rows_per_run is not None:
        way = f"a batcher, {way}, {result.rows_per_run:.1f} rows a run"
    if plot is not None:
        closed = [
            (str(p.clients), p.throughput, p.p50_us, p.p99_us)
            for p in result.points
            if p.clients is not None
        ]
        sent = [
            (f"{p.rate:g}/s", p.throughput, p.p50_us, p.p99_us)
            for p in result.points
            if p.rate is not None
        ]
        curves = [curve for curve in (closed, sent) if curve]
        plot_load(curves, plot, title=f"{result.model} under load", subtitle=f"through {way}")
    if as_json:
        print_json(result.as_dict() | {"plot": None if plot is None else str(plot)})
        return
    table = Table("load", title=f"{result.model} through {way}", title_justify="left")
    for name in ("answers/s", "p50", "p90", "p99", "p99.9", "max"):
        table.add_column(name, justify="right")
    for p in result.points:
        load = f"{p.clients} clients" if p.clients is not None else f"{p.rate:g} requests/s"
        times = (p.p50_us, p.p90_us, p.p99_us, p.p999_us, p.max_us)
        table.add_row(load, f"{p.throughput:.0f}", *map(time_text, times))
    out = console()
    out.print(table)
    if plot is not None:
        out.print(f"picture: {plot}", markup=False)
