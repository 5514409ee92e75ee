"""`zerolane demo`: a trained network on scanned digits, beside the onnxruntime package."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.verb import FAILED, Verb, console, print_json, progress
from zerolane.errors import NotFound, Unavailable

if TYPE_CHECKING:
    from zerolane.measure.compare import CompareResult
    from zerolane.measure.peer import Peer
    from zerolane.measure.timing import Call, Timing
    from zerolane.model.session import Session

_PICTURE = "latency.png"
_BOUND, _CALL = "zerolane b()", "zerolane s(x)"


@dataclass(frozen=True)
class _Measured:
    """Times of one model's calls by label, and its outputs against the peer's."""

    title: str
    times: Mapping[str, Timing]
    peer: str | None  # its version
    agreement: CompareResult | None

    def speedups(self) -> dict[str, float]:
        """How many times as fast as the peer each of ours is; empty without a peer."""
        from zerolane.measure.timing import Ratio

        ours = {label: t for label, t in self.times.items() if label.startswith("zerolane")}
        return {
            label: Ratio.of(theirs, timing).median
            for peer, theirs in self.times.items()
            if peer not in ours
            for label, timing in ours.items()
        }


@click.command(cls=Verb)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("zerolane-demo"),
    show_default=True,
    help="Folder for the picture.",
)
@click.option("--no-peer", is_flag=True, help="Do not measure the onnxruntime package.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="About how long to time each way to call.",
)
@click.pass_context
def demo(ctx: click.Context, out: Path, no_peer: bool, seconds: float, as_json: bool) -> None:
    """Recognise 397 scanned digits, and time each call beside the onnxruntime package.

    Offline, about 10 seconds. Draws both latency distributions here and into a picture.
    """
    import numpy as np

    from zerolane.model.load import load

    data = importlib.resources.files("zerolane.cli") / "demo_data"
    with importlib.resources.as_file(data / "digits_test.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"]
    digits = load((data / "digits_cnn.onnx").read_bytes(), threads=1)
    one_operator = load((data / "one_operator.onnx").read_bytes(), threads=1)
    inputs = [np.ascontiguousarray(d[None, None] / np.float32(16)) for d in images]
    predicted = np.array([int(digits(x).argmax()) for x in inputs])
    right = int((predicted == labels).sum())

    notes: list[str] = []
    with progress() as report:
        measure = partial(_measure, peer=not no_peer, seconds=seconds, report=report, notes=notes)
        measured = [
            measure("digits network, one digit a call", digits, inputs),
            measure(
                "one operator: what a call itself costs",
                one_operator,
                [np.array([[-1, 0, 1, 2]], np.float32)],
            ),
        ]
    picture = _draw(measured, out, notes)
    agrees = all(m.agreement is None or m.agreement.ok for m in measured)
    if as_json:
        print_json(_summary(measured, right, len(labels), picture, notes))
    else:
        _show(measured, images, labels, predicted, picture, notes)
    if not agrees:
        ctx.exit(FAILED)


def _measure(
    title: str,
    session: Session,
    inputs: list[Any],
    *,
    peer: bool,
    seconds: float,
    report: Callable[[float, str], object] | bool,
    notes: list[str],
) -> _Measured:
    """Time the calls of a model with one input, over and over all `inputs`."""
    import numpy as np

    from zerolane.measure.compare import compare_outputs
    from zerolane.measure.peer import open_peer
    from zerolane.measure.progress import reporter
    from zerolane.measure.timing import interleave

    name = session.inputs[0].name
    contestants: dict[str, list[Call]] = {
        _BOUND: _bound_calls(session, inputs),
        _CALL: [partial(session, x) for x in inputs],
    }
    version = agreement = None
    if peer:
        try:
            other: Peer = open_peer(session, threads=1)
        except Unavailable as error:
            if str(error) not in notes:
                notes.append(str(error))
        else:
            contestants[f"{other.name} run"] = [other.call({name: x}) for x in inputs]
            version = other.version
            batch = {name: np.concatenate(inputs)}
            agreement = compare_outputs(
                session.run(batch),
                other(batch),
                atol=1e-4,
                rtol=1e-3,
                names=("zerolane", other.name),
            )
    times = interleave(
        contestants, calls=None, seconds=seconds, warmup=None, report=reporter(report)
    )
    return _Measured(title, times, version, agreement)


def _bound_calls(session: Session, inputs: list[Any]) -> list[Call]:
    """Calls of a binding; where there are several inputs, each copies its own in first."""
    binding = session.bind(inputs[0].copy())
    memory = binding.inputs[session.inputs[0].name]
    if len(inputs) == 1:
        return [binding]

    def call(x: Any) -> None:
        memory[...] = x
        binding()

    return [partial(call, x) for x in inputs]


def _draw(measured: list[_Measured], folder: Path, notes: list[str]) -> Path | None:
    from zerolane.measure.plot import Panel, plot_latency

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotFound(
            f"writing the picture: the folder {str(folder)!r} cannot be made ({error.strerror}); "
            "give another one with --out",
            str(folder),
        ) from error
    panels = []
    for m in measured:
        gain = m.speedups().get(_BOUND)
        title = m.title[0].upper() + m.title[1:]
        note = "" if gain is None else f"b() is {gain:.2f} x as fast as onnxruntime's run"
        panels.append(Panel(title, {n: t.samples_us for n, t in m.times.items()}, note))
    path = folder / _PICTURE
    try:
        plot_latency(
            panels,
            path,
            title="How long one call takes",
            subtitle=_conditions(measured),
        )
    except Unavailable as error:
        notes.append(str(error))
        return None
    return path


def _conditions(measured: list[_Measured]) -> str:
    digits = measured[0]
    calls = len(next(iter(digits.times.values())).samples_us)
    against = "" if digits.peer is None else f", against onnxruntime {digits.peer}"
    return (
        f"Large: the median. One thread, CPU{against}: same process, file and inputs, in turn; "
        f"each of {calls:,} digit calls timed."
    )


def _summary(
    measured: list[_Measured], right: int, total: int, picture: Path | None, notes: list[str]
) -> dict[str, Any]:
    from dataclasses import asdict

    from zerolane.measure.timing import Latency

    return {
        "digits": total,
        "right": right,
        "accuracy": right / total,
        "latency": [
            {
                "title": m.title,
                "us": {n: asdict(Latency.of(t.samples_us)) for n, t in m.times.items()},
                "onnxruntime": m.peer,
                "speedup": m.speedups(),
                "agreement": None if m.agreement is None else m.agreement.as_dict(),
            }
            for m in measured
        ],
        "picture": None if picture is None else str(picture),
        "notes": notes,
    }


def _show(
    measured: list[_Measured],
    images: Any,
    labels: Any,
    predicted: Any,
    picture: Path | None,
    notes: list[str],
) -> None:
    from rich.text import Text

    from zerolane.cli.digits import draw_digits
    from zerolane.measure.plot import terminal_histogram

    out = console()
    right = int((predicted == labels).sum())
    out.print(
        f"[bold]{right} of {len(labels)}[/] scanned digits recognised "
        f"({right / len(labels):.1%}); the network has not seen them in training\n"
    )
    out.print(draw_digits(images, labels, predicted))
    for m in measured:
        out.print(Text(f"\n{m.title}", "bold"))
        out.print(terminal_histogram({name: t.samples_us for name, t in m.times.items()}))
        for label, gain in m.speedups().items():
            out.print(f"{label} is [bold]{gain:.2f} x[/] as fast as onnxruntime run")
        if m.agreement is not None and not m.agreement.ok:
            out.print(Text(str(m.agreement), "red"))
    out.print()
    for note in notes:
        out.print(Text(note, "yellow"))
    if picture is not None:
        out.print(Text(f"picture: {picture}"))
