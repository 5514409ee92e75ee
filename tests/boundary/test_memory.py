"""Memory stays flat over many calls."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

SLACK = 3 << 20  # bytes; a leak of 200 bytes a call would show


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def growth(call: Callable[[int], Any], calls: int, warm_up: int) -> int:
    for index in range(warm_up):
        call(index)
    gc.collect()
    before = resident()
    for index in range(calls):
        call(index)
    gc.collect()
    return resident() - before


def load(model: Any) -> zl.Session:
    return zl.load(model.SerializeToString(), threads=1)


def forms() -> dict[str, Callable[[int], Any]]:
    relu, dims, words = (
        load(small.relu()),
        load(small.dynamic_dims()),
        load(small.identity("string")),
    )
    found, rows, maps = (
        load(small.nonzero()),
        load(small.sequence_output()),
        load(small.map_output()),
    )
    x = np.ones((1, 4), np.float32)
    binding = relu.bind()
    out = np.zeros((1, 4), np.float32)
    rng = np.random.default_rng(0)
    shapes = rng.integers(1, 60, (512, 2)).tolist()
    many = [np.ones((n, m, 3), np.float32) for n, m in shapes]
    vectors = [np.ones(n * 10, np.float32) for n, _ in shapes]
    texts = [["word"] * n for n, _ in shapes]
    pairs, triples = np.ones((5, 2), np.float32), np.ones((5, 3), np.float32)
    bad = np.zeros((1, 4))

    def failing(index: int) -> None:
        try:
            relu(bad)
        except zl.InvalidArgument:
            return
        raise AssertionError

    return {
        "binding": lambda i: binding(),
        "call": lambda i: relu(x),
        "dict": lambda i: relu.run({"x": x}),
        "out": lambda i: relu.run({"x": x}, out={"y": out}),
        "deadline": lambda i: relu.run({"x": x}, deadline_ms=10000),
        "future": lambda i: relu.submit(x).result(),
        "many shapes": lambda i: dims(many[i % 512]),
        "many sizes of data": lambda i: found(vectors[i % 512]),
        "strings": lambda i: words(texts[i % 512]),
        "sequences": lambda i: rows(pairs),
        "maps": lambda i: maps(triples),
        "list": lambda i: relu([[1.0, 2, 3, 4]]),
        "failure": failing,
        "new binding": lambda i: relu.bind()(),
    }


CALLS = {"new binding": 4000, "strings": 4000}


@pytest.mark.parametrize("form", list(forms()))
def test_resident_memory_is_flat(form: str) -> None:
    call = forms()[form]
    assert growth(call, CALLS.get(form, 20_000), 2000) < SLACK


def test_loading_and_dropping_is_flat() -> None:
    model = small.control_policy().SerializeToString()
    x = np.zeros((1, 64), np.float32)
    assert growth(lambda i: zl.load(model, threads=1)(x), 300, 100) < 2 * SLACK


def test_failed_loads_are_flat() -> None:
    model = small.unknown_operator().SerializeToString()

    def call(index: int) -> None:
        try:
            zl.load(model)
        except zl.Error:
            return
        raise AssertionError

    assert growth(call, 1000, 200) < 2 * SLACK


def test_the_pool_gives_back() -> None:
    from zerolane import _native

    kept = [_native.empty([1 << 20], "uint8") for _ in range(16)]
    in_use = _native.pool_stats()["bytes_in_use"]
    assert in_use >= 16 << 20
    del kept
    stats = _native.pool_stats()
    assert stats["bytes_in_use"] <= in_use - (16 << 20)
    assert stats["peak_bytes"] >= in_use
    _native.trim_pool()
    assert _native.pool_stats()["bytes_cached"] == 0
    again = _native.empty([1 << 20], "uint8")
    reuses = _native.pool_stats()["reuses"]
    del again
    again = _native.empty([1 << 20], "uint8")
    assert _native.pool_stats()["reuses"] == reuses + 1
    del again
