"""`zerolane compare`."""

from __future__ import annotations

from dataclasses import replace

import click

from zerolane.cli.options import giving_inputs, loading, open_session, tracing
from zerolane.cli.tables import difference_table
from zerolane.cli.verb import FAILED, Verb, console, print_json


@click.command(cls=Verb)
@click.argument("a")
@click.argument("b", required=False)
@click.option("--vs", type=click.Choice(["onnxruntime"]), help="The reference, instead of file B.")
@click.option("--atol", type=click.FloatRange(0), default=1e-5, show_default=True)
@click.option("--rtol", type=click.FloatRange(0), default=1e-5, show_default=True)
@giving_inputs
@loading
@tracing
@click.pass_context
def compare(
    ctx: click.Context,
    a: str,
    b: str | None,
    vs: str | None,
    atol: float,
    rtol: float,
    given: tuple[str, ...],
    shapes: str | None,
    seed: int,
    threads: int,
    backend: str,
    device: str,
    providers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compare the outputs of model A with those of the reference on the same inputs.

    The reference is model file B, loaded alike, or with --vs the onnxruntime package on A. A
    number x agrees with the reference's r if |x - r| <= atol + rtol |r|. Exit code 1 if any
    output differs.
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
    result = hold_against(
        session,
        reference,
        read_inputs(given, session.inputs),
        atol=atol,
        rtol=rtol,
        shapes=shapes,
        seed=seed,
    )
    result = replace(result, a=a, b=b or f"the {vs} package")
    if as_json:
        print_json(result.as_dict())
    else:
        out = console()
        out.print(difference_table(result))
        verdict = "[bold green]agree[/]" if result.ok else "[bold red]differ[/]"
        out.print(
            f"outputs {verdict}: {len(result.outputs)} compared, atol {atol:g}, rtol {rtol:g}"
        )
    if not result.ok:
        ctx.exit(FAILED)
