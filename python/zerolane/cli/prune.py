"""`zerolane prune`."""

from __future__ import annotations

from typing import Any

import click

from zerolane.cli.options import reporting, write_report
from zerolane.cli.verb import Verb, console, print_json, progress


@click.command(cls=Verb)
@click.argument("model")
@click.argument("output")
@click.option(
    "--method",
    type=click.Choice(["magnitude", "2:4", "channels"]),
    default="magnitude",
    show_default=True,
    help="Smallest weights to zero; two of every four; whole channels out of the graph.",
)
@click.option("--ratio", type=float, default=0.5, show_default=True, help="Share to take away.")
@click.option(
    "--target-ms",
    type=float,
    metavar="MS",
    help="Instead of --ratio, of channels: take as few as make a call this fast here.",
)
@click.option(
    "--samples",
    metavar="PATH",
    help="Real inputs: an .npy, an .npz, or a folder of them. They rank channels and recover.",
)
@click.option("--metric", help="top1, boxes, ctc, embedding, cosine, psnr, max_error.")
@click.option("--accuracy", type=float, help="Fail below this share of the original's score.")
@click.option(
    "--keep",
    multiple=True,
    metavar="NODE",
    help="Leave alone: a node or one of its outputs by name, or an operator type. Repeat for more.",
)
@click.option(
    "--output-name", "outputs", multiple=True, metavar="NAME", help="Keep only these outputs."
)
@click.option(
    "--scope",
    type=click.Choice(["global", "layer"]),
    help="Rank all together or layer by layer. Default: layer for channels, else global.",
)
@click.option(
    "--recover",
    type=click.Choice(["weights", "scale", "bias", "none"]),
    default="weights",
    show_default=True,
    help="How far to fit layers to what they gave before, on --samples.",
)
@click.option("--permute/--no-permute", default=True, help="2:4: reorder channels to keep more.")
@click.option("--threads", type=click.IntRange(1, 1024), default=1, help="For --target-ms.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@reporting
def prune(
    as_json: bool,
    recover: Any,
    outputs: tuple[str, ...],
    report_file: str | None,
    **options: Any,
) -> None:
    """Write MODEL to OUTPUT with fewer weights."""
    from zerolane.optimize import prune as pass_

    with progress() as tell:
        report = pass_(
            recover=False if recover == "none" else recover,
            outputs=outputs or None,
            progress=tell,
            **options,
        )
    files = {"original": options["model"], "pruned": options["output"]}
    write_report(report, report_file, files, options["samples"], options["threads"])
    if as_json:
        print_json(report.as_dict())
    else:
        console().print(str(report), markup=False, soft_wrap=True)
