"""How far runs of one model differ that should be equal: what an error is held against."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zerolane.errors import Error
from zerolane.measure.difference import compare_values
from zerolane.model.load import load

Run = Any  # from a dict of arrays to one, as in compare

VARIANTS: tuple[dict[str, Any], ...] = (
    {"graph_level": "basic"},
    {"graph_level": "extended"},
    {"graph_level": "all"},
    {"graph_level": "all", "threads": 2},
)
"""Ways to load a model that may sum in another order: fused, blocked, split over threads."""


def noise(
    model: str | os.PathLike[str] | bytes,
    reference: Sequence[Mapping[str, Any]],
    samples: Sequence[dict[str, Any]],
    seed: int,
) -> dict[str, float]:
    """By output, the largest difference of such runs from the reference's outputs.

    model: the reference, which is loaded anew in each way of VARIANTS, and run as it is and on
    inputs whose floats are the next ones above or below, at random: what rounding before them is.
    reference: the outputs for each of the samples. A way in which it does not load is passed over.
    """
    most: dict[str, float] = {}
    rng = np.random.default_rng(seed)
    for options in VARIANTS:
        try:
            session = load(model, **options)
        except Error:
            continue
        for wanted, sample in zip(reference, samples, strict=True):
            for feeds in (sample, _moved(sample, rng)):
                got = session.run(feeds)
                for name, distance in _distances(got, wanted):
                    most[name] = max(most.get(name, 0.0), distance)
    return most


def _distances(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in wanted:
        if name in got:
            for row in compare_values(name, got[name], wanted[name], atol=0, rtol=0):
                if np.isfinite(row.max_abs):
                    yield row.name, row.max_abs


def _moved(sample: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """The sample with each float the next one, up or down."""
    return {
        name: _shaken(value, rng)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f"
        else value
        for name, value in sample.items()
    }


def _shaken(value: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    up = rng.random(value.shape) < 0.5
    towards = np.where(up, np.inf, -np.inf).astype(value.dtype)
    return np.asarray(np.nextafter(value, towards))
