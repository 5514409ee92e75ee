"""JAX arrays in, JAX arrays out."""

from __future__ import annotations

import pytest

import zerolane as zl
from tests.models import small

jax = pytest.importorskip("jax", reason="jax is not installed")


@pytest.mark.parametrize("rows", [0, 2, 5000])
def test_same_kind_out(rows: int) -> None:
    session = zl.load(small.dynamic_dims().SerializeToString())
    x = jax.numpy.arange(rows * 12, dtype="float32").reshape(rows, 4, 3)
    for y in (session(x), session.run({"x": x})["y"], session.submit(x).result(timeout=30)):
        assert isinstance(y, jax.Array)
        assert (y == 2 * x).all()


def test_bfloat16() -> None:
    session = zl.load(small.identity("bfloat16").SerializeToString())
    x = jax.numpy.arange(5, dtype="bfloat16")
    y = session(x)
    assert y.dtype == x.dtype
    assert (y == x).all()


def test_its_memory_is_not_written() -> None:
    session = zl.load(small.identity().SerializeToString())
    x = jax.numpy.ones(5)
    with pytest.raises(zl.InvalidArgument, match="read-only"):
        session.run({"x": x}, out={"y": x})
    with pytest.raises(zl.InvalidArgument, match="read-only"):
        session.bind(x=(5,), out={"y": x})
    assert (x == 1).all()
    assert (session.bind(x=x)()["y"] == 1).all()  # reading it in place is fine
