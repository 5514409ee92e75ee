"""`zerolane optimize`: graph, fp16, bf16, bisect."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.bisect import bisect
from zerolane.cli.graph import graph
from zerolane.cli.options import giving_inputs, reporting, write_report
from zerolane.cli.verb import Verb, console, print_json

if TYPE_CHECKING:
    from zerolane.optimize import PrecisionReport

_OPTIONS = (
    click.argument("model"),
    click.argument("output"),
    click.option(
        "--keep",
        multiple=True,
        metavar="NODE",
        help="Leave in float32: a node or one of its outputs by name, an operator type, or "
        "node:NAME and op:TYPE; wildcards * ? []. Repeat for more.",
    ),
    click.option(
        "--keep-io/--no-keep-io",
        default=True,
        show_default=True,
        help="Inputs and outputs stay float32.",
    ),
    click.option(
        "--defaults/--no-defaults",
        "keep_defaults",
        default=True,
        show_default=True,
        help="Also keep operators that lose accuracy or have no kernels.",
    ),
    click.option(
        "--upgrade/--no-upgrade",
        default=True,
        show_default=True,
        help="Raise the opset where more nodes can be converted then.",
    ),
    click.option(
        "--verify/--no-verify",
        default=True,
        show_default=True,
        help="Hold the result against the original in ONNX Runtime.",
    ),
    click.option(
        "--tolerance",
        type=click.FloatRange(0),
        help="Fail beyond this error, relative to the largest value of an output.",
    ),
    click.option("--by-node", is_flag=True, help="Measure the error of every node."),
    click.option(
        "--samples",
        metavar="PATH",
        help="Real inputs: .npz, .npy or a folder of them; what leaves float16's range on them "
        "stays in float32.",
    ),
    giving_inputs,
    reporting,
)


@click.group()
def optimize() -> None:
    """Write a faster model file: smaller graph, narrower types, checked against the original."""


def _narrow(model: str, given: tuple[str, ...], name: str, **options: Any) -> PrecisionReport:
    from zerolane import optimize as passes
    from zerolane.cli.arrays import read_inputs
    from zerolane.measure.random_inputs import complete_inputs
    from zerolane.model.load import load

    samples: Any = options.pop("samples")
    if given and samples is not None:
        raise click.UsageError("--input and --samples both give inputs: take one of them")
    if given:
        session = load(model)
        inputs = read_inputs(given, session.inputs)
        shapes, seed = options["shapes"], options["seed"]
        samples = complete_inputs(session, inputs, shapes=shapes, seed=seed)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        report: PrecisionReport = getattr(passes, name)(model, samples=samples, **options)
    for warning in told:
        click.echo(f"warning: {warning.message}", err=True)
    return report


def _verb(name: str, dtype: str) -> click.Command:
    def run(as_json: bool, report_file: str | None, **options: Any) -> None:
        report = _narrow(name=name, **options)
        files = {"original": options["model"], name: options["output"]}
        write_report(report, report_file, files, options["samples"])
        if as_json:
            print_json(report.as_dict())
        else:
            console().print(str(report), markup=False, soft_wrap=True)

    for option in reversed(_OPTIONS):
        run = option(run)
    run.__doc__ = f"Write MODEL to OUTPUT with {dtype} wherever its operators admit that."
    return click.command(name, cls=Verb)(run)


for _name, _dtype in (("fp16", "float16"), ("bf16", "bfloat16")):
    optimize.add_command(_verb(_name, _dtype))
optimize.add_command(graph)
optimize.add_command(bisect)
