"""`zerolane run`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from zerolane.cli.options import (
    giving_inputs,
    loading,
    open_session,
    running_shapes,
    tracing,
    trtexec_shapes,
)
from zerolane.cli.verb import Verb, console, print_json

_SHOWN = 6


@click.command(cls=Verb)
@click.argument("model")
@giving_inputs
@trtexec_shapes
@click.option("--random", is_flag=True, help="Random values for the inputs not given.")
@click.option("--output", "wanted", multiple=True, metavar="NAME", help="Compute only these.")
@click.option("--save", type=click.Path(path_type=Path), help="Write outputs: .npz, .json, .npy.")
@click.option("--deadline-ms", type=float, help="End the run when it takes longer.")
@loading
@tracing
def run(
    model: str,
    given: tuple[str, ...],
    shapes: str | None,
    seed: int,
    min_shapes: str | None,
    opt_shapes: str | None,
    max_shapes: str | None,
    random: bool,
    wanted: tuple[str, ...],
    save: Path | None,
    deadline_ms: float | None,
    threads: int,
    backend: str,
    device: str,
    providers: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run a model once, on files or random inputs, and show or save its outputs."""
    from zerolane.cli.arrays import read_inputs, save_outputs
    from zerolane.measure.random_inputs import complete_inputs

    sizes = running_shapes(shapes, min_shapes, opt_shapes, max_shapes)
    session = open_session(model, threads, backend, device, providers)
    values = read_inputs(given, session.inputs)
    missing = [spec.name for spec in session.inputs if spec.name not in values]
    known = {spec.name for spec in (*session.inputs, *session.optional_inputs)}
    if missing and not random and values.keys() <= known:
        raise click.UsageError(
            f"the inputs {missing} have no value: give --input NAME=FILE for each, or --random"
        )
    inputs = complete_inputs(session, values, shapes=sizes, seed=seed)
    start = time.perf_counter()
    outputs = session.run(inputs, outputs=list(wanted) or None, deadline_ms=deadline_ms)
    milliseconds = (time.perf_counter() - start) * 1e3
    if save is not None:
        save_outputs(outputs, save)
    if as_json:
        print_json(
            {
                "model": session.name,
                "milliseconds": milliseconds,
                "inputs": {name: summary(value) for name, value in inputs.items()},
                "outputs": {name: summary(value) for name, value in outputs.items()},
                "saved": None if save is None else str(save),
            }
        )
        return
    _show(inputs, outputs)
    out = console()
    out.print(f"first run: {milliseconds:.3f} ms on {session.backend}, {session.device}")
    if save is not None:
        out.print(f"saved to {save}", markup=False)


def summary(value: Any) -> dict[str, Any]:
    """What there is to say of a value in one line of a table."""
    import numpy as np

    if not isinstance(value, np.ndarray):
        return {"dtype": type(value).__name__, "shape": None, "first": repr(value)[:60]}
    about: dict[str, Any] = {
        "dtype": "string" if value.dtype.kind in "OUT" else value.dtype.name,
        "shape": list(value.shape),
        "first": value.reshape(-1)[:_SHOWN].tolist(),
    }
    if value.size and value.dtype.kind in "iufV":
        wide = value.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            about |= {"min": wide.min(), "max": wide.max(), "mean": wide.mean()}
            about["nans"] = int(np.isnan(wide).sum())
    return about


def _show(inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "name", "dtype", "shape", "min", "max", "mean", "first values")
    for kind, values in (("input", inputs), ("output", outputs)):
        for name, value in values.items():
            about = summary(value)
            first = about["first"]
            if isinstance(first, list):
                first = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in first)
            cells = [
                kind,
                name,
                about["dtype"],
                "" if about["shape"] is None else str(about["shape"]),
            ]
            cells += [f"{about[key]:.4g}" if key in about else "" for key in ("min", "max", "mean")]
            if about.get("nans"):
                first = f"{about['nans']} NaN; {first}"
            table.add_row(*(Text(cell) for cell in (*cells, first)))
    console().print(table)
