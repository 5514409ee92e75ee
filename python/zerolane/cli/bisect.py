"""`zerolane optimize bisect`."""

from __future__ import annotations

from typing import Any

import click

from zerolane.cli.options import reporting, write_report
from zerolane.cli.verb import Verb, console, print_json, progress


@click.command(cls=Verb)
@click.argument("model")
@click.argument("output")
@click.option(
    "--samples", required=True, metavar="PATH", help="Real inputs: .npz, .npy or a folder of them."
)
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16"]),
    default="float16",
    show_default=True,
    help="The type to convert to.",
)
@click.option("--metric", help="top1, boxes, ctc, embedding, cosine, psnr or max_error.")
@click.option(
    "--accuracy",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="The share of the original's score to keep, with --metric.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    help="Without --metric: the error allowed, relative to the largest value of an output.",
)
@click.option("--keep", multiple=True, metavar="NODE", help="Leave in float32 in any case; repeat.")
@click.option("--keep-io/--no-keep-io", default=True, show_default=True)
@reporting
def bisect(
    model: str, output: str, samples: str, report_file: str | None, as_json: bool, **options: Any
) -> None:
    """Convert MODEL to OUTPUT, leaving in float32 the fewest nodes with which it is accurate."""
    from zerolane import optimize

    with progress() as tell:
        report = optimize.bisect(model, output, samples, progress=tell, **options)
    write_report(report, report_file, {"original": model, "bisected": output}, samples)
    if as_json:
        print_json(report.as_dict())
    else:
        console().print(str(report), markup=False, soft_wrap=True)
