"""`zerolane quantize`."""

from __future__ import annotations

from typing import Any

import click

from zerolane.cli.options import reporting, write_report
from zerolane.cli.verb import Verb, console, print_json, progress

_OF_A_FILE = ("mode", "block", "rest", "accuracy", "verify")


@click.command(cls=Verb)
@click.argument("model")
@click.argument("output", required=False)
@click.option(
    "--mode",
    type=click.Choice(["static", "dynamic", "int4", "fp8"]),
    default="static",
    show_default=True,
    help="static and fp8 need --calibration.",
)
@click.option(
    "--target",
    type=click.Choice(["cpu", "tensorrt"]),
    default="cpu",
    show_default=True,
    help="The runtime that is to be fast.",
)
@click.option(
    "--calibration", metavar="PATH", help="Real inputs: an .npz, an .npy or a folder of them."
)
@click.option(
    "--method",
    type=click.Choice(["minmax", "entropy", "percentile"]),
    default="minmax",
    show_default=True,
)
@click.option("--percentile", type=float, default=99.99, show_default=True)
@click.option("--per-channel/--per-tensor", default=True, show_default=True)
@click.option("--symmetric/--asymmetric", default=None, help="Default: as the target is best at.")
@click.option("--block", type=int, default=32, show_default=True, help="Weights a scale, for int4.")
@click.option(
    "--keep",
    multiple=True,
    metavar="LAYER",
    help="Leave in float: a name, an operator type, node:NAME or op:TYPE; wildcards. Repeat.",
)
@click.option(
    "--rest",
    type=click.Choice(["fp32", "fp16"]),
    default="fp32",
    show_default=True,
    help="What is not quantized.",
)
@click.option("--samples", metavar="PATH", help="What is scored; default: the calibration's first.")
@click.option(
    "--metric",
    default="cosine",
    show_default=True,
    help="top1, boxes, ctc, embedding, cosine, psnr, max_error; outputs behind a colon.",
)
@click.option(
    "--accuracy",
    type=float,
    help="Share of the score to keep: layers go back to float until it holds.",
)
@click.option("--verify/--no-verify", default=True, show_default=True)
@click.option(
    "--sensitivity", is_flag=True, help="Write no file; list what each layer alone would cost."
)
@reporting
def quantize(
    model: str,
    output: str | None,
    sensitivity: bool,
    report_file: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write MODEL to OUTPUT with 8 or 4 bits, scored against the original."""
    from zerolane import optimize

    if (output is None) != sensitivity:
        raise click.UsageError("give either OUTPUT or --sensitivity")
    with progress() as tell:
        report: optimize.QuantReport | optimize.SensitivityReport
        if output is None:
            if options["calibration"] is None:
                raise click.UsageError("--sensitivity needs --calibration")
            if options["mode"] not in ("static", "fp8"):
                raise click.UsageError("--sensitivity is for --mode static and fp8")
            mode = options["mode"]
            rest = {k: v for k, v in options.items() if k not in _OF_A_FILE}
            report = optimize.sensitivity(model, mode=mode, progress=tell, **rest)
        else:
            report = optimize.quantize(model, output, progress=tell, **options)
    files = {} if output is None else {"original": model, options["mode"]: output}
    write_report(report, report_file, files, options["calibration"] or options["samples"])
    if as_json:
        print_json(report.as_dict())
    else:
        console().print(str(report), markup=False, soft_wrap=True)
