"""`zerolane compare`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from zerolane.cli.options import (
    giving_inputs,
    loading,
    open_session,
    reporting,
    tracing,
    write_report,
)
from zerolane.cli.tables import difference_table
from zerolane.cli.verb import FAILED, Verb, console, print_json


@click.command(cls=Verb)
@click.argument("a")
@click.argument("b", required=False)
@click.option("--vs", type=click.Choice(["onnxruntime"]), help="The reference, instead of file B.")
@click.option("--atol", type=click.FloatRange(0), default=1e-5, show_default=True)
@click.option("--rtol", type=click.FloatRange(0), default=1e-5, show_default=True)
@click.option(
    "--samples",
    metavar="PATH",
    help="Real inputs instead of one: an .npy, an .npz or a folder of them.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="NAME",
    help="top1, boxes, ctc, embedding, cosine, psnr, max_error; 'NAME:OUTPUT'. Repeat for more.",
)
@click.option("--accuracy", type=float, help="Pass on this share of each metric, not on tolerance.")
@click.option("--noise", is_flag=True, help="Tell errors from the noise of the reference itself.")
@click.option("--layers", is_flag=True, help="Compare values inside; name where the error jumps.")
@giving_inputs
@loading
@reporting
@tracing
@click.pass_context
def compare(
    ctx: click.Context,
    a: str,
    b: str | None,
    vs: str | None,
    atol: float,
    rtol: float,
    samples: str | None,
    metrics: tuple[str, ...],
    accuracy: float | None,
    noise: bool,
    layers: bool,
    given: tuple[str, ...],
    shapes: str | None,
    seed: int,
    threads: int,
    backend: str,
    device: str,
    providers: tuple[str, ...],
    report_file: str | None,
    as_json: bool,
) -> None:
    """Compare the outputs of model A with those of the reference on the same inputs.

    The reference is model file B, loaded alike, or with --vs the onnxruntime package on A. A
    number x agrees with the reference's r if |x - r| <= atol + rtol |r|. Exit code 1 if any
    output differs. --noise and --layers load the models in ways of their own.
    """
    from zerolane.cli.arrays import read_inputs
    from zerolane.measure.compare import compare as hold_against
    from zerolane.measure.peer import open_peer

    if (b is None) == (vs is None):
        raise click.UsageError("give the reference: a second model file, or --vs onnxruntime")
    session = open_session(a, threads, backend, device, providers)
    reference = (
        open_peer(session, threads)
        if b is None
        else open_session(b, threads, backend, device, providers)
    )
    if samples is not None and given:
        raise click.UsageError("--samples and --input are the same thing: give one of them")
    if (noise or layers) and b is None:
        raise click.UsageError("--noise and --layers need the second model file")
    inputs: Any = read_inputs(given, session.inputs)
    if samples is not None:
        from zerolane.optimize.samples import read_samples

        inputs = list(read_samples(samples, session.inputs, session.optional_inputs, finite=False))
    result = hold_against(
        a if layers else session,
        b if (noise or layers) and b is not None else reference,
        inputs,
        metrics=metrics,
        accuracy=accuracy,
        noise=noise,
        layers=layers,
        atol=atol,
        rtol=rtol,
        shapes=shapes,
        seed=seed,
    )
    result = replace(result, a=a, b=b or f"the {vs} package")
    files = {} if b is None else {"reference": b, "compared": a}
    write_report(result, report_file, files, samples or inputs or None, threads)
    if as_json:
        print_json(result.as_dict())
    else:
        out = console()
        out.print(difference_table(result))
        for line in str(result).splitlines()[1 + len(result.outputs) :]:
            out.print(line.strip(), markup=False, soft_wrap=True)
        if noise:
            for row in result.outputs:
                out.print(f"{row}".removeprefix("ok  ").removeprefix("FAIL"), markup=False)
        verdict = "[bold green]agree[/]" if result.ok else "[bold red]differ[/]"
        out.print(
            f"outputs {verdict}: {len(result.outputs)} compared, atol {atol:g}, rtol {rtol:g}"
        )
    if not result.ok:
        ctx.exit(FAILED)
