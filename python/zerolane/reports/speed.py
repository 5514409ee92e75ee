"""How fast several model files are, measured in turn on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zerolane.errors import Error
from zerolane.measure.bench import call_of
from zerolane.measure.progress import Report
from zerolane.measure.timing import interleave
from zerolane.model.load import load
from zerolane.tuning.rank import median_interval


@dataclass(frozen=True, slots=True)
class Speed:
    """Of a call, in ms. ratio: the reference's time over this one's, block by block."""

    p50_ms: float
    p99_ms: float
    interval: tuple[float, float]
    ratio: float
    ratio_interval: tuple[float, float]


def measure(
    files: Mapping[str, Path],
    samples: Sequence[Mapping[str, Any]],
    *,
    threads: int,
    seconds: float,
    report: Report,
) -> tuple[dict[str, Speed], dict[str, str]]:
    """Speeds by label, the first one being the reference, and why others have none."""
    calls, failed = {}, {}
    for label, path in files.items():
        try:
            session = load(path, threads=threads)
            calls[label] = [call_of(session, dict(sample), "bound") for sample in samples[:4]]
        except Error as error:
            failed[label] = str(error).splitlines()[0]
    if not calls:
        return {}, failed
    times = interleave(calls, calls=None, seconds=seconds, warmup=None, report=report)
    base = times[next(iter(calls))].blocks_us
    found = {}
    for label, timing in times.items():
        blocks, us = timing.blocks_us / 1e3, timing.samples_us
        ratios = (base / timing.blocks_us).tolist()
        found[label] = Speed(
            float(np.median(us)) / 1e3,
            float(np.percentile(us, 99)) / 1e3,
            median_interval(blocks.tolist()),
            float(np.median(ratios)),
            median_interval(ratios),
        )
    return found, failed
