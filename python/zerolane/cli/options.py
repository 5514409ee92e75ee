"""Options that several verbs take: how to load a model, and which inputs to give it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.verb import OPS, TRACE

if TYPE_CHECKING:
    from zerolane.model.session import Session

_Function = Callable[..., Any]


def _all(*options: Callable[[_Function], _Function]) -> Callable[[_Function], _Function]:
    def add(function: _Function) -> _Function:
        for option in reversed(options):
            function = option(function)
        return function

    return add


with_ops = click.option(
    "--ops",
    multiple=True,
    metavar="LIBRARY",
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({OPS: value}),
    help="Library of ops that the model uses; those of installed packages are known. Repeatable.",
)

loading = _all(
    with_ops,
    click.option(
        "--threads",
        type=click.IntRange(1, 1024),
        default=1,
        show_default=True,
        help="Threads inside an operator.",
    ),
    click.option("--backend", default="auto", show_default=True, help="Backend, by name."),
    click.option("--device", default="auto", show_default=True, help="auto, cpu or cuda:N."),
    click.option(
        "--provider",
        "providers",
        multiple=True,
        metavar="NAME",
        help="ONNX Runtime execution provider, in order of preference.",
    ),
)

giving_inputs = _all(
    click.option(
        "--input",
        "given",
        multiple=True,
        metavar="[NAME=]FILE",
        help=".npy, .npz (arrays by name), .json or .pb (ONNX TensorProto).",
    ),
    click.option(
        "--shapes",
        metavar="SHAPES",
        help="Shapes of random inputs, x:1x3x224x224,y:1x10. Default: 1 for a dynamic dimension.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Seed of random inputs.",
    ),
)

tracing = click.option(
    "--trace",
    metavar="FILE",
    expose_value=False,
    callback=lambda ctx, _, value: ctx.meta.update({TRACE: value}),
    help="Write what happened when into FILE, for ui.perfetto.dev.",
)

reporting = click.option(
    "--report",
    "report_file",
    metavar="FILE",
    help="Also write an HTML page on what was done: sizes, speed, accuracy.",
)

trtexec_shapes = _all(
    click.option("--minShapes", "min_shapes", metavar="SHAPES", help="Checked, not run."),
    click.option("--optShapes", "opt_shapes", metavar="SHAPES", help="The same as --shapes."),
    click.option("--maxShapes", "max_shapes", metavar="SHAPES", help="Checked, not run."),
)


def open_session(
    model: str, threads: int, backend: str, device: str, providers: tuple[str, ...]
) -> Session:
    """Load a model as the options of `loading` say."""
    from zerolane.model.load import load

    return load(
        model,
        backend=backend,
        device=device,
        threads=threads,
        providers=list(providers) or None,
    )


def write_report(
    part: Any, path: str | None, models: dict[str, str], samples: object = None, threads: int = 1
) -> None:
    """Write the page of --report, with the models timed in turn; nothing where it is not asked."""
    if path is None:
        return
    from zerolane.reports.report import report

    report(part, path, models=models, samples=samples, threads=threads, progress=False)
    click.echo(f"report written to {path}", err=True)


def running_shapes(
    shapes: str | None, least: str | None, opt: str | None, most: str | None
) -> dict[str, tuple[int, ...]]:
    """The shapes to run with: --shapes, or --optShapes between --minShapes and --maxShapes."""
    from zerolane.measure.random_inputs import parse_shapes

    if shapes is not None and opt is not None:
        raise click.UsageError("--shapes and --optShapes are the same thing: give one of them")
    chosen = shapes if shapes is not None else opt
    if chosen is None:
        if least is not None or most is not None:
            raise click.UsageError(
                "--minShapes and --maxShapes only bound what is run: give --optShapes too"
            )
        return {}
    run = parse_shapes(chosen)
    for flag, text, sign in (("--minShapes", least, 1), ("--maxShapes", most, -1)):
        for name, bound in (parse_shapes(text) if text is not None else {}).items():
            shape = run.get(name, bound)
            if len(shape) != len(bound) or any(
                sign * (size - limit) < 0 for size, limit in zip(shape, bound, strict=True)
            ):
                raise click.UsageError(
                    f"{flag} of {name!r} is {list(bound)}, which does not fit the "
                    f"{list(shape)} to be run"
                )
    return run
