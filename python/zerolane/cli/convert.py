"""`zerolane convert`."""

from __future__ import annotations

import importlib
import os
import re
import sys
from typing import Any

import click

from zerolane.cli.verb import Verb, console, print_json
from zerolane.errors import InvalidArgument, NotFound

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_FREE = re.compile(r"([^:]+(?::\d+(?!=))?):(\d+)=(\w+)")


@click.command(cls=Verb)
@click.argument("source")
@click.argument("output")
@click.option("--sample", metavar="FILE", help="Inputs to trace and check with: .npz or .npy.")
@click.option(
    "--dynamic",
    multiple=True,
    metavar="INPUT:AXIS=NAME",
    help="A free dimension, x:0=N; repeat for more. Default: the batch, as N.",
)
@click.option("--fixed", is_flag=True, help="No free dimension at all.")
@click.option("--outputs", metavar="NAMES", help="Names for the outputs, with commas between.")
@click.option("--opset", type=click.IntRange(1))
@click.option("--verify/--no-verify", default=True, show_default=True)
@click.option(
    "--tolerance",
    type=click.FloatRange(0),
    default=1e-4,
    show_default=True,
    help="The error allowed against the framework, relative to the largest value of an output.",
)
def convert(
    source: str,
    output: str,
    sample: str | None,
    dynamic: tuple[str, ...],
    fixed: bool,
    outputs: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write SOURCE as an ONNX model, and hold its numbers against the framework's.

    SOURCE is a .pt2, .keras, .h5 or .tflite file, the folder of a SavedModel, or MODULE:FUNCTION: a
    function without arguments that returns the model, or the model and a sample.
    """
    from zerolane.converters.convert import convert as write

    if fixed and dynamic:
        raise click.UsageError("--fixed and --dynamic exclude each other: give one of them")
    model: Any = source
    inputs: Any = _sample(sample)
    if not os.path.exists(source) and _FUNCTION.fullmatch(source):
        model = _call(source)
        if isinstance(model, tuple):
            model, own = model
            inputs = own if inputs is None else inputs
    report = write(
        model,
        output,
        sample=inputs,
        dynamic={} if fixed else _axes(dynamic),
        outputs=outputs.split(",") if outputs else (),
        **options,
    )
    if as_json:
        print_json(report.as_dict())
    else:
        console().print(str(report), markup=False, soft_wrap=True)


def _call(source: str) -> Any:
    module, _, name = source.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise NotFound(
            f"converting {source}: there is neither such a file nor such a function ({error}), "
            "expected a model's file, or MODULE:FUNCTION that can be imported from here; check the "
            "name",
            source,
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    return function()


def _sample(path: str | None) -> Any:
    if path is None:
        return None
    import numpy as np

    try:
        with open(path, "rb") as opened:
            file = np.load(opened, allow_pickle=False)
            return file if isinstance(file, np.ndarray) else dict(file)
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            f"reading sample {path!r}: it cannot be read ({error}), expected what np.save or "
            "np.savez writes; write it again",
            path,
        ) from error


def _axes(given: tuple[str, ...]) -> dict[str, dict[int, str]] | None:
    if not given:
        return None
    axes: dict[str, dict[int, str]] = {}
    for text in given:
        match = _FREE.fullmatch(text)
        if match is None:
            raise click.UsageError(
                f"--dynamic {text!r} is no INPUT:AXIS=NAME, such as x:0=N; correct it"
            )
        axes.setdefault(match[1], {})[int(match[2])] = match[3]
    return axes
