"""`zerolane bench`."""

from __future__ import annotations

from pathlib import Path

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
    """
    from zerolane.cli.arrays import read_inputs
    from zerolane.measure.bench import bench as measure
    from zerolane.measure.plot import Panel, plot_latency, terminal_histogram

    sizes = running_shapes(shapes, min_shapes, opt_shapes, max_shapes)
    session = open_session(model, threads, backend, device, providers)
    values = read_inputs(given, session.inputs)
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
