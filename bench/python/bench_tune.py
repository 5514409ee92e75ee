# SPDX-License-Identifier: Apache-2.0
"""What `zl.tune` finds in its budget, beside a full grid of the same settings, on squeezenet.

The grid measures every setting of the space equally often, in turn, with blocks of equal length;
then the search runs, without knowing of it. How good its choice is, is a third measurement: the
choice and the grid's best, once more in turn.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np

import zerolane as zl
from bench import light_models, settings
from bench.results import Check, Report, Series, ratio_check
from bench.settings import Settings, progress
from bench.stats import curve, paired_ratio, summarize
from zerolane.measure.accuracy import scorer
from zerolane.tuning.artefact import make, original
from zerolane.tuning.halving import Block, Budget
from zerolane.tuning.measuring import Measurer
from zerolane.tuning.setting import Setting, Space

NAME = "tune"
TITLE = "zl.tune beside a full grid, squeezenet, goal latency"
INPUT = "data_0"
ARTEFACTS = ("original", "int8", "graph", "fp16")
BLOCK_S = 0.15


def blocks(
    measure: Measurer, chosen: list[Setting], sweeps: int, seed: int
) -> dict[Setting, list[Block]]:
    """Each setting once a sweep, in an order that changes."""
    found: dict[Setting, list[Block]] = {setting: [] for setting in chosen}
    for sweep in range(sweeps):
        order = list(chosen)
        random.Random(f"{seed}/{sweep}").shuffle(order)
        for setting in order:
            found[setting].append(measure(setting, BLOCK_S))
    return found


def medians(found: list[Block]) -> list[float]:
    return [float(np.median(block.us)) / 1e3 for block in found]


def run(options: Settings) -> Report:
    report = Report(NAME, TITLE, options.as_dict())
    sweeps, budget_s = (3, 20.0) if options.quick else (15, 120.0)
    report.settings |= {"sweeps": sweeps, "budget_s": budget_s, "block_s": BLOCK_S}
    path = light_models.make(
        "squeezenet", settings.BUILD_FOLDER / "models" / "tune_squeezenet.onnx"
    )
    samples = [{INPUT: image} for image in light_models.images(16)]
    reference = zl.load(path)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "grid"
        home.mkdir()
        score = scorer("cosine", reference.run, samples)
        made = {"original": original(path)}
        for name in ARTEFACTS[1:]:
            progress(f"{NAME}: making {name}")
            made[name] = make(
                *(name, path, home, "m", samples, score, "cosine", 0.99, Budget.begin(600)),
                target="cpu",
                seed=0,
                threads=1,
            )
        names = [name for name in ARTEFACTS if not made[name].reason]
        files = {name: home / made[name].file if made[name].file else path for name in names}
        space = Space(artefacts=ARTEFACTS, backends=("onnxruntime",), threads=(1, 2))
        grid = space.settings(names)
        measure = Measurer(files, samples)
        progress(f"{NAME}: the grid, {len(grid)} settings")
        found = blocks(measure, grid, sweeps, 0)
        measure.close()
        cost = {setting: medians(list_of) for setting, list_of in found.items()}
        best = min(grid, key=lambda s: float(np.median(cost[s])))
        progress(f"{NAME}: the search, {budget_s:.0f} s; the grid's best: {best}")
        result = zl.tune(
            path,
            samples,
            budget_s=budget_s,
            space={"artefacts": ARTEFACTS, "backends": ("onnxruntime",), "threads": (1, 2)},
            folder=Path(folder) / "search",
            progress=False,
        )
        print(result)
        choice = result.best.setting
        progress(f"{NAME}: {choice} beside {best}")
        last = blocks(measure, list(dict.fromkeys([choice, best])), 3 * sweeps, 1)
        measure.close()
    for name, setting in (("grid's best", best), ("search", choice)):
        values = medians(last[setting])
        summary = summarize(values).as_dict()
        detail: dict[str, object] = {"setting": str(setting)}
        report.series.append(Series("squeezenet", name, "ms", summary, curve(values), detail))
    for setting, values in cost.items():
        summary = summarize(values).as_dict()
        report.series.append(Series("grid", str(setting), "ms", summary, curve(values)))
    ratio = paired_ratio(medians(last[choice]), medians(last[best]))
    note = f"search: {choice}; grid: {best}"
    report.checks += [
        ratio_check("search / grid's best, p50", "squeezenet", ratio, 1.05, "<=", note),
        Check("seconds used", "squeezenet", result.seconds, "s", target=budget_s * 1.02),
        Check("settings measured", "squeezenet", len(result.rows), "", note=f"grid: {len(grid)}"),
        Check("speed beside the original", "squeezenet", result.best.speedup, "x"),
    ]
    return report


if __name__ == "__main__":
    settings.main(run, TITLE)
