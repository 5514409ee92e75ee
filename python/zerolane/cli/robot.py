"""`zerolane demo robot`: a rod balanced at 1 kHz beside a busy Python thread."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import click

from zerolane.cli.verb import FAILED, Verb, console, print_json, progress
from zerolane.errors import InternalError, Unavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from zerolane.loop.mailbox import Mailbox
    from zerolane.measure.peer import Peer
    from zerolane.model.session import Session

    Samples = NDArray[np.float64]

_RATE_HZ = 1000
_PERIOD_NS = 1_000_000_000 // _RATE_HZ
_OURS = "zerolane Loop"
_WAKING = "Waking after the tick's time"
_POINTS = 2000  # of a distribution, for drawing


@dataclass
class _Control:
    """How a loop ran: microseconds of each call, and of each wake-up behind its time."""

    ticks: int
    missed: int
    call_us: Samples
    late_us: Samples


@dataclass
class _Told:
    """A contestant's loop, and what became of its cart (see cartpole_world.Journey)."""

    name: str
    control: _Control
    journey: dict[str, Any]

    @property
    def standing(self) -> bool:
        return self.journey["fell_s"] is None

    def summary(self) -> dict[str, Any]:
        from zerolane.measure.timing import Latency

        control = self.control
        return {
            "name": self.name,
            "standing": self.standing,
            "ticks": control.ticks,
            "missed": control.missed,
            "call_us": asdict(Latency.of(control.call_us)),
            "late_us": asdict(Latency.of(control.late_us)),
            **self.journey,
        }


@click.command(cls=Verb)
@click.option("--no-peer", is_flag=True, help="Do not run the onnxruntime package's loop.")
@click.option(
    "--seconds",
    type=click.FloatRange(0.1),
    default=10.0,
    show_default=True,
    help="How long each loop balances.",
)
@click.option(
    "--priority",
    type=click.IntRange(1, 99),
    help="Run both loops under SCHED_FIFO, where the process may.",
)
@click.option(
    "--plot", type=click.Path(path_type=Path), help="Draw the distributions into this .png."
)
@click.pass_context
def robot(
    ctx: click.Context,
    no_peer: bool,
    seconds: float,
    priority: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Balance a 10 cm rod on a cart at 1 kHz, while a Python thread computes.

    The cart moves in real time in a process of its own and is pushed every half second; a trained
    policy sees its state and sets the motor's force through mailboxes in shared memory. First with
    zl.Loop, then with the onnxruntime package called from Python. Exit code 1 where zl.Loop's rod
    falls.
    """
    from zerolane.measure.peer import open_peer
    from zerolane.model.load import load

    model = importlib.resources.files("zerolane.cli") / "demo_data" / "cartpole.onnx"
    session = load(model.read_bytes(), threads=1)
    notes: list[str] = []
    told = []
    with progress() as report:
        if callable(report):
            report(0.0, _OURS)
        told.append(_with_zerolane(session, seconds, priority))
        if not no_peer:
            try:
                peer = open_peer(session, threads=1)
            except Unavailable as error:
                notes.append(str(error))
            else:
                if callable(report):
                    report(0.5, peer.name)
                told.append(_with_peer(peer, seconds, priority))
    if plot is not None:
        _draw(told, plot)
    if as_json:
        loops = [t.summary() for t in told]
        print_json({"loops": loops, "plot": None if plot is None else str(plot), "notes": notes})
    else:
        _show(told, plot, notes)
    if not told[0].standing:
        ctx.exit(FAILED)


@contextmanager
def _busy_thread() -> Iterator[None]:
    """A thread that computes in Python for as long as the block lasts."""
    stop = threading.Event()

    def work() -> None:
        n = 0
        while not stop.is_set():
            n = (n * 31 + 7) % 1_000_003

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _world(name: str, seconds: float) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "zerolane.cli.cartpole_world", name, str(seconds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _journey(process: subprocess.Popen[str], seconds: float) -> dict[str, Any]:
    try:
        out, err = process.communicate(timeout=seconds + 60)
    except subprocess.TimeoutExpired:
        out, err = "", "it did not end in time"
    if process.returncode != 0:
        raise InternalError(
            f"balancing a rod: the process of the cart ended with {process.returncode} "
            f"({err[-500:]}), expected 0; run the demo again",
            "cartpole_world",
        )
    journey: dict[str, Any] = json.loads(out)
    return journey


def _boxes() -> tuple[str, Mailbox]:
    """A name that is free, and the mailbox of the state under it."""
    from zerolane.loop.mailbox import Mailbox

    name = f"robot-{os.getpid()}-{perf_counter_ns()}"
    return name, Mailbox.create(f"{name}/state", (1, 4))


def _with_zerolane(session: Session, seconds: float, priority: int | None) -> _Told:
    import numpy as np

    from zerolane.loop.loop import Loop

    name, states = _boxes()
    loop = Loop(
        session.bind(state=(1, 4)),
        rate_hz=_RATE_HZ,
        name=name,
        inputs={"state": states},
        priority=priority,
    )
    with loop, _world(name, seconds) as process, _busy_thread():
        journey = _journey(process, seconds)
    stats = loop.stats()
    points = ((np.arange(_POINTS) + 0.5) / _POINTS).tolist()
    call, late = (
        np.array(loop.quantiles_us("call", points)),
        np.array(loop.quantiles_us("late", points)),
    )
    control = _Control(stats.ticks - stats.waiting, stats.missed.total, call, late)
    return _Told(_OURS, control, journey)


def _with_peer(peer: Peer, seconds: float, priority: int | None) -> _Told:
    from zerolane.loop.mailbox import Mailbox

    name, states = _boxes()
    forces = Mailbox.create(f"{name}/force", (1, 1))
    ended = threading.Event()
    found: list[_Control] = []

    def control() -> None:
        if priority is not None:
            from zerolane.loop.realtime import realtime

            realtime(priority=priority)
        found.append(_python_loop(peer, states, forces, ended))

    thread = threading.Thread(target=control)  # its priority ends with it
    with _world(name, seconds) as process, _busy_thread():
        thread.start()
        try:
            journey = _journey(process, seconds)
        finally:
            ended.set()
            thread.join()
    return _Told(f"{peer.name} run", found[0], journey)


def _python_loop(peer: Peer, states: Mailbox, forces: Mailbox, ended: threading.Event) -> _Control:
    """The loop as one writes it in Python; misses are counted as zl.Loop counts them."""
    import numpy as np

    states = states.another()
    first = states.read(timeout_s=30).value
    call_us, late_us = [], []
    ticks = missed = 0
    last = perf_counter_ns()
    due = last + _PERIOD_NS
    while not ended.is_set():
        wait = due - perf_counter_ns()
        if wait > 0:
            time.sleep(wait / 1e9)
        woke = perf_counter_ns()
        passed = (woke - due) // _PERIOD_NS  # the newest tick that is due runs
        due += passed * _PERIOD_NS
        states.read(first)
        begin = perf_counter_ns()
        force = peer({"state": first})["force"]
        end = perf_counter_ns()
        forces.write(force)
        late_us.append((woke - due) / 1000)
        call_us.append((end - begin) / 1000)
        done = perf_counter_ns()
        missed += passed + (done - due > _PERIOD_NS)
        skipped = max(0, (done - due) // _PERIOD_NS)
        missed += skipped
        ticks += 1 + passed + skipped
        due += (1 + skipped) * _PERIOD_NS
    return _Control(ticks, missed, np.array(call_us), np.array(late_us))


def _draw(told: list[_Told], path: Path) -> None:
    from zerolane.measure.plot import Panel, plot_latency

    fate = "; ".join(f"{t.name}: {_fate(t)}" for t in told)
    panels = [
        Panel("The call", {t.name: t.control.call_us for t in told}),
        Panel(_WAKING, {t.name: t.control.late_us for t in told}, each="late"),
    ]
    plot_latency(
        panels, path, title="A rod balanced at 1 kHz beside a busy Python thread", subtitle=fate
    )


def _fate(told: _Told) -> str:
    seconds = told.journey["seconds"]
    return (
        f"balanced for {seconds:.1f} s"
        if told.standing
        else f"fell after {told.journey['fell_s']:.2f} s"
    )


def _show(told: list[_Told], plot: Path | None, notes: list[str]) -> None:
    from rich.table import Table
    from rich.text import Text

    from zerolane.measure.plot import terminal_histogram, time_text

    out = console()
    out.print("A 10 cm rod on a cart, at 1 kHz, beside a Python thread that computes\n")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "rod", "ticks missed", "state's age", "cart strays", "rod leans"):
        table.add_column(column, justify="left" if column in ("", "rod") else "right")
    for t in told:
        j, c = t.journey, t.control
        table.add_row(
            t.name,
            Text(_fate(t), "green" if t.standing else "bold red"),
            f"{c.missed:,} of {c.ticks:,} ({100 * c.missed / max(1, c.ticks):.2f} %)",
            f"{j['age_ms']['p50']:.2f} ms, p99 {j['age_ms']['p99']:.2f} ms",
            f"{j['cart_rms_mm']:.0f} mm, at most {j['cart_most_mm']:.0f}",
            f"{j['lean_most_deg']:.0f}° at most",
        )
    out.print(table)
    out.print(Text("\nThe call", "bold"))
    out.print(terminal_histogram({t.name: t.control.call_us for t in told}))
    out.print(Text(f"\n{_WAKING}", "bold"))
    out.print(terminal_histogram({t.name: t.control.late_us for t in told}, each="late"))
    steps = told[0].journey["step_ms"]
    out.print(
        f"\nThe world itself took steps of {time_text(1e3 * steps['p50'])}, "
        f"p99 {time_text(1e3 * steps['p99'])}."
    )
    for note in notes:
        out.print(Text(note, "yellow"))
    if plot is not None:
        out.print(Text(f"picture: {plot}"))
