"""`zerolane optimize graph`."""

from __future__ import annotations

import warnings
from typing import Any

import click

from zerolane.cli.options import reporting, write_report
from zerolane.cli.verb import Verb, console, print_json, progress


@click.command(cls=Verb)
@click.argument("model")
@click.argument("output")
@click.option(
    "--pass", "passes", multiple=True, metavar="NAME", help="Only these; repeat for more."
)
@click.option("--skip", multiple=True, metavar="NAME", help="Not these; repeat.")
@click.option("--inputs", metavar="NAMES", help="Cut: values to begin at, with commas between.")
@click.option("--outputs", metavar="NAMES", help="Cut: values to end at, with commas between.")
@click.option("--opset", type=click.IntRange(1), help="Raise the opset to this one.")
@click.option("--batch", metavar="N|SIZE", help="Name or size of the batch dimension.")
@click.option("--samples", metavar="PATH", help=".npz, .npy or a folder of them, to verify with.")
@click.option("--shapes", metavar="SHAPES", help="Of random inputs, x:1x3x224x224,y:1x10.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--verify/--no-verify", default=True, show_default=True)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-5,
    show_default=True,
    help="Leave out a pass beyond this error, relative to the largest value of an output.",
)
@click.option(
    "--onnxruntime-offline",
    metavar="FILE",
    help="Also write ONNX Runtime's optimized model, for this machine only.",
)
@reporting
def graph(
    model: str,
    output: str,
    passes: tuple[str, ...],
    inputs: str | None,
    outputs: str | None,
    batch: str | None,
    report_file: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write MODEL to OUTPUT with a smaller graph, each pass held against the original.

    The passes: inline, opset, cut, batch, fold, fuse, dedupe, dead, shapes.
    """
    from zerolane import optimize

    with progress() as tell, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report = optimize.graph(
            model,
            output,
            passes=passes or None,
            inputs=inputs.split(",") if inputs else (),
            outputs=outputs.split(",") if outputs else (),
            batch=int(batch) if batch is not None and batch.isdecimal() else batch,
            progress=tell,
            **options,
        )
    for warning in told:
        click.echo(f"warning: {warning.message}", err=True)
    write_report(report, report_file, {"original": model, "graph": output}, options["samples"])
    if as_json:
        print_json(report.as_dict())
    else:
        console().print(str(report), markup=False, soft_wrap=True)
