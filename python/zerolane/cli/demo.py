"""`zerolane demo`: trained networks on scanned digits, beside the onnxruntime package."""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.robot import robot
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
class _Network:
    """A model of the demo's data. compared: what to say of it behind "is 1.23 x as fast"."""

    name: str
    title: str
    compared: str


_MAIN = _Network(
    "digits_mlp",
    "Digits perceptron: 4,736 multiply-adds a digit",
    " as onnxruntime's run",
)
_COMPUTE_BOUND = _Network(
    "digits_cnn",
    "Digits convolution: 1.5 million multiply-adds a digit",
    "; the gain shrinks as the network grows",
)


@dataclass(frozen=True)
class _Measured:
    """What a network says of each digit, times of its calls by label, its outputs and the peer's.

    predicted: [N], which digit each image shows.
    """

    network: _Network
    predicted: Any
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


class _Demos(click.Group):
    """The demos by name; `demo` alone is `demo digits`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            args = ["digits", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Demos)
def demo() -> None:
    """See what it does: scanned digits, and with `demo robot` a rod balanced at 1 kHz."""


demo.add_command(robot)


@demo.command(cls=Verb)
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
def digits(ctx: click.Context, out: Path, no_peer: bool, seconds: float, as_json: bool) -> None:
    """Recognise 397 scanned digits, and time each call beside the onnxruntime package.

    A small perceptron, where the call itself counts, and a convolution network, where computing
    does. Offline, about 12 seconds. Draws the latencies here and into a picture.

    `zerolane demo robot` balances a rod at 1 kHz beside a busy Python thread.
    """
    import numpy as np

    from zerolane.model.load import load

    data = importlib.resources.files("zerolane.cli") / "demo_data"
    with importlib.resources.as_file(data / "digits_test.npz") as path, np.load(path) as file:
        images, labels = file["images"], file["labels"]
    inputs = [np.ascontiguousarray(d[None, None] / np.float32(16)) for d in images]
    notes: list[str] = []
    measured = []
    with progress() as report:
        for network in (_MAIN, _COMPUTE_BOUND):
            session = load((data / f"{network.name}.onnx").read_bytes(), threads=1)
            measured.append(
                _measure(
                    network,
                    session,
                    inputs,
                    peer=not no_peer,
                    seconds=seconds,
                    report=report,
                    notes=notes,
                )
            )
    picture = _draw(measured, out, notes)
    agrees = all(m.agreement is None or m.agreement.ok for m in measured)
    if as_json:
        print_json(_summary(measured, labels, picture, notes))
    else:
        _show(measured, images, labels, picture, notes)
    if not agrees:
        ctx.exit(FAILED)


def _measure(
    network: _Network,
    session: Session,
    inputs: list[Any],
    *,
    peer: bool,
    seconds: float,
    report: Callable[[float, str], object] | bool,
    notes: list[str],
) -> _Measured:
    """Read every digit once, then time the calls, over and over all `inputs`."""
    import numpy as np

    from zerolane.measure.compare import compare_outputs
    from zerolane.measure.peer import open_peer
    from zerolane.measure.progress import reporter
    from zerolane.measure.timing import interleave

    name = session.inputs[0].name
    predicted = np.array([int(session(x).argmax()) for x in inputs])
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
    return _Measured(network, predicted, times, version, agreement)


def _bound_calls(session: Session, inputs: list[Any]) -> list[Call]:
    """Calls of one binding; each copies its own input in first."""
    binding = session.bind(inputs[0].copy())
    memory = binding.inputs[session.inputs[0].name]

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
        note = "" if gain is None else f"b() is {gain:.2f} x as fast{m.network.compared}"
        panels.append(Panel(m.network.title, {n: t.samples_us for n, t in m.times.items()}, note))
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
    calls = " and ".join(f"{len(m.times[_BOUND].samples_us):,}" for m in measured)
    peer = measured[0].peer
    against = "" if peer is None else f", against onnxruntime {peer}"
    return (
        f"Large: the median. One digit a call, b() copies it in. One thread, CPU{against}, in "
        f"turn; {calls} calls."
    )


def _summary(
    measured: list[_Measured], labels: Any, picture: Path | None, notes: list[str]
) -> dict[str, Any]:
    from dataclasses import asdict

    from zerolane.measure.timing import Latency

    right = [int((m.predicted == labels).sum()) for m in measured]
    return {
        "digits": len(labels),
        "right": right[0],
        "accuracy": right[0] / len(labels),
        "latency": [
            {
                "network": m.network.name,
                "title": m.network.title,
                "right": count,
                "us": {n: asdict(Latency.of(t.samples_us)) for n, t in m.times.items()},
                "onnxruntime": m.peer,
                "speedup": m.speedups(),
                "agreement": None if m.agreement is None else m.agreement.as_dict(),
            }
            for m, count in zip(measured, right, strict=True)
        ],
        "picture": None if picture is None else str(picture),
        "notes": notes,
    }


def _show(
    measured: list[_Measured],
    images: Any,
    labels: Any,
    picture: Path | None,
    notes: list[str],
) -> None:
    from rich.text import Text

    from zerolane.cli.digits import draw_digits
    from zerolane.measure.plot import terminal_histogram

    out = console()
    out.print(f"{len(labels)} scanned digits, which the networks have not seen in training\n")
    out.print(draw_digits(images, labels, measured[0].predicted))
    for m in measured:
        right = int((m.predicted == labels).sum())
        out.print(Text(f"\n{m.network.title}", "bold"))
        out.print(f"[bold]{right} of {len(labels)}[/] recognised ({right / len(labels):.1%})")
        out.print(terminal_histogram({name: t.samples_us for name, t in m.times.items()}))
        for label, gain in m.speedups().items():
            out.print(f"{label} is [bold]{gain:.2f} x[/] as fast{m.network.compared}")
        if m.agreement is not None and not m.agreement.ok:
            out.print(Text(str(m.agreement), "red"))
    out.print()
    for note in notes:
        out.print(Text(note, "yellow"))
    if picture is not None:
        out.print(Text(f"picture: {picture}"))
