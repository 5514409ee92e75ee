"""torch tensors in, torch tensors out."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small

torch = pytest.importorskip("torch", reason="torch is not installed")

SIZES = [6, 50_000]


@pytest.fixture(scope="module")
def session() -> zl.Session:
    """x f32 [N, ?, 3] -> 2 x."""
    return zl.load(small.dynamic_dims().SerializeToString())


def tensor(*shape: int, dtype: Any = None) -> Any:
    return torch.arange(int(np.prod(shape))).reshape(shape).to(dtype or torch.float32)


@pytest.mark.parametrize("rows", [0, 2, 5000])
def test_same_kind_out(session: zl.Session, rows: int) -> None:
    x = tensor(rows, 4, 3)
    for y in (
        session(x),
        session.run({"x": x})["y"],
        session({"x": x})["y"],
        session.submit(x).result(timeout=30),
    ):
        assert type(y) is torch.Tensor
        assert y.dtype == torch.float32
        assert torch.equal(y, 2 * x)


@pytest.mark.parametrize(
    "name",
    [
        *("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"),
        *("int8", "int16", "int32", "int64", "uint8", "bool"),
    ],
)
@pytest.mark.parametrize("size", SIZES)
def test_dtypes(name: str, size: int) -> None:
    element = name.replace("_", "")
    session = zl.load(small.identity(element).SerializeToString())
    dtype = getattr(torch, name)
    x = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(0)).to(dtype)
    try:
        torch.from_dlpack(x)
    except (BufferError, RuntimeError) as error:
        pytest.skip(f"this torch does not give {name} through DLPack: {error}")
    y = session(x)
    assert y.dtype == dtype
    assert torch.equal(y.view(torch.uint8), x.view(torch.uint8))


def test_results_of_any_size_and_number() -> None:
    session = zl.load(small.nonzero().SerializeToString())
    y = session(torch.tensor([1.0, 0, 1]))
    assert torch.equal(y, torch.tensor([[0, 2]]))
    assert session(torch.zeros(3)).shape == (1, 0)
    both = zl.load(small.sum_and_size().SerializeToString())(torch.ones(3))
    assert (both.total.item(), both.size.item()) == (3, 3)
    assert all(type(y) is torch.Tensor for y in both)
    rows = zl.load(small.sequence_output().SerializeToString())(torch.ones(2, 2))
    assert all(type(row) is torch.Tensor for row in rows)


def test_results_own_their_memory(session: zl.Session) -> None:
    ys = [session(torch.full((2, 4, 3), float(i))) for i in range(10)]
    gc.collect()
    for i, y in enumerate(ys):
        assert (y == 2 * i).all()
        y += 1


def test_bind_in_place(session: zl.Session) -> None:
    x, y = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3)
    binding = session.bind(x=x, out={"y": y})
    assert binding.inputs["x"] is x
    assert binding.outputs["y"] is y
    for value in (1, 2):
        x.fill_(value)
        binding()
        assert (y == 2 * value).all()


def test_out_in_place(session: zl.Session) -> None:
    x, y = tensor(2, 4, 3), torch.zeros(2, 4, 3)
    assert session.run({"x": x}, out={"y": y})["y"] is y
    assert torch.equal(y, 2 * x)
    session.run({"x": x.numpy()}, out={"y": y})
    assert torch.equal(y, 2 * x)


@pytest.mark.parametrize("rows", [2, 5000])
def test_layouts_that_are_not_dense(session: zl.Session, rows: int) -> None:
    x = tensor(rows, 4, 3)
    for given in (
        x.transpose(0, 1).contiguous().transpose(0, 1),
        torch.cat([x, x], 1)[:, ::2],
        x[:1].expand(rows, 4, 3),
    ):
        assert not given.is_contiguous()
        assert torch.equal(session(given), 2 * given)
        with pytest.raises(zl.InvalidArgument, match="input 'x'"):
            session.bind(x=given)
        with pytest.raises(zl.InvalidArgument, match="output 'y'"):
            session.run({"x": x}, out={"y": given})


def test_a_part_of_a_tensor(session: zl.Session) -> None:
    x = tensor(10, 4, 3)
    assert torch.equal(session(x[3:5]), 2 * x[3:5])
    offset = torch.arange(25, dtype=torch.float32)[1:].view(2, 4, 3)
    assert torch.equal(session(offset), 2 * offset)


def test_requires_grad(session: zl.Session) -> None:
    x = torch.ones(1, 1, 3, requires_grad=True)
    with pytest.raises(zl.InvalidArgument, match="detach"):
        session(x)
    assert torch.equal(session(x.detach()), 2 * x.detach())


def test_odd_tensors(session: zl.Session) -> None:
    sparse = torch.ones(1, 1, 3).to_sparse()
    conjugate = torch.ones(3, dtype=torch.complex64).conj()
    meta = torch.ones(1, 1, 3, device="meta")
    for given in (sparse, conjugate, meta):
        with pytest.raises(zl.Error):
            session(given)
    assert torch.equal(session(torch.ones(1, 1, 3)), torch.full((1, 1, 3), 2.0))


def test_wrong_dtype_and_shape(session: zl.Session) -> None:
    with pytest.raises(zl.InvalidArgument, match="float64"):
        session(tensor(1, 1, 3, dtype=torch.float64))
    with pytest.raises(zl.ShapeMismatch):
        session(tensor(1, 3))


def test_parameters_and_subclasses(session: zl.Session) -> None:
    x = torch.nn.Parameter(torch.ones(1, 1, 3), requires_grad=False)
    y = session(x)
    assert isinstance(y, torch.Tensor)
    assert (y == 2).all()


def test_numpy_and_torch_mixed() -> None:
    session = zl.load(small.add(("N",)).SerializeToString())
    a, b = torch.ones(3), np.ones(3, np.float32)
    assert type(session(a, b)) is torch.Tensor
    assert type(session(b, a)) is np.ndarray


@pytest.mark.parametrize("rows", [1, 5000])
def test_tensors_are_let_go(session: zl.Session, rows: int) -> None:
    x, y = torch.ones(rows, 1, 3), torch.ones(rows, 1, 3)
    session(x)
    session.run({"x": x}, out={"y": y})
    session.submit(x).result(timeout=30)
    binding = session.bind(x=x, out={"y": y})
    binding()
    result = session(x)
    gone = [weakref.ref(thing) for thing in (x, y, result)]
    del x, y, result, binding
    gc.collect()
    assert [ref() for ref in gone] == [None, None, None]


def test_a_lazily_negated_view_is_refused() -> None:
    """Its bits are not its values, and torch exports the bits."""
    session = zl.load(small.relu().SerializeToString())
    view = torch.ones(1, 4, dtype=torch.complex64).conj().imag
    with pytest.raises(zl.InvalidArgument, match="resolve_neg"):
        session(view)
    assert session(view.resolve_neg()).shape == (1, 4)
