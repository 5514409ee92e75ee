"""`zerolane tune`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zerolane.cli.options import reporting, write_report
from zerolane.cli.verb import FAILED, Verb, console, print_json, progress


@click.command(cls=Verb)
@click.argument("model")
@click.option(
    "--samples",
    required=True,
    metavar="PATH",
    help="Real inputs: an .npy, an .npz or a folder of them.",
)
@click.option("--budget", "budget_s", type=float, default=60.0, show_default=True, metavar="S")
@click.option(
    "--accuracy",
    type=float,
    default=0.99,
    show_default=True,
    help="Share of the original's score to keep.",
)
@click.option("--p99-ms", type=float, metavar="MS", help="The 99th percentile of a call at most.")
@click.option(
    "--goal",
    type=click.Choice(["latency", "throughput"]),
    default="latency",
    show_default=True,
)
@click.option("--metric", help="top1, boxes, ctc, embedding, cosine, psnr, max_error.")
@click.option(
    "--out",
    required=True,
    metavar="FOLDER",
    help="Takes tuned.toml, the artefacts and the journal; a second call goes on from there.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--plot", "draw", is_flag=True, help="Also write tuned.png into the folder.")
@reporting
@click.pass_context
def tune(
    ctx: click.Context,
    /,
    model: str,
    out: str,
    draw: bool,
    report_file: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure ways to run MODEL here and write the fastest that is still right.

    Exit code 1 if no setting keeps to the limits.
    """
    from zerolane.tuning.tune import tune as search

    with progress() as tell:
        result = search(model, folder=out, progress=tell, **options)
    if result.ok:
        result.save(Path(out) / "tuned.toml")
    write_report(result, report_file, {})
    if draw:
        result.plot(Path(out) / "tuned.png")
    if as_json:
        print_json(result.as_dict())
    else:
        console().print(str(result), markup=False, soft_wrap=True)
    if not result.ok:
        ctx.exit(FAILED)
