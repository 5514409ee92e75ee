"""Failures are typed, name what to do, and leave the session usable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.models import small
from tests.trt.engines import Fake, rows

X = rows(2)
WANT = np.concatenate([X, X])


@pytest.fixture
def session(fake: Fake) -> zl.Session:
    return fake.load(small.doubled_rows())


def check_usable(session: zl.Session) -> None:
    for _ in range(4):
        np.testing.assert_array_equal(session(X), WANT)


@pytest.mark.parametrize("warm", [0, 1, 5])
def test_enqueue_fails(fake: Fake, session: zl.Session, warm: int) -> None:
    for _ in range(warm):
        session(X)
    fake.control["fail.enqueue"] = 1
    x = rows(3 + warm)
    with pytest.raises(zl.DeviceError, match="enqueue failed") as caught:
        session(x)
    assert "running" in str(caught.value)
    check_usable(session)
    np.testing.assert_array_equal(session(x), np.concatenate([x, x]))


def test_the_library_runs_out_of_memory(fake: Fake, session: zl.Session) -> None:
    fake.control["fail.memory"] = 1
    with pytest.raises(zl.OutOfMemory, match="out of memory") as caught:
        session(X)
    assert isinstance(caught.value, MemoryError)
    check_usable(session)


def test_no_memory_for_a_context(fake: Fake, session: zl.Session) -> None:
    fake.control["fail.execution"] = 1
    with pytest.raises(zl.OutOfMemory):
        session(X)
    check_usable(session)


@pytest.mark.parametrize("skip", range(4))
def test_the_device_runs_out_of_memory(fake: Fake, session: zl.Session, skip: int) -> None:
    """Wherever the allocation fails that a larger call needs."""
    check_usable(session)
    large = rows(20_000)
    fake.cuda.fail("pool_allocate", fake.cuda.OUT_OF_MEMORY, skip=skip, times=100)
    try:
        y = session(large)
    except zl.OutOfMemory:
        fake.cuda.heal()
        check_usable(session)
    else:
        np.testing.assert_array_equal(y, np.concatenate([large, large]))
    fake.cuda.heal()
    np.testing.assert_array_equal(session(large), np.concatenate([large, large]))


def test_a_data_dependent_output_finds_no_memory(fake: Fake) -> None:
    session = fake.load(small.nonzero())
    np.testing.assert_array_equal(session(np.ones(2, np.float32)), [[0, 1]])
    fake.cuda.set_memory(1 << 16)
    with pytest.raises(zl.OutOfMemory):
        session(np.ones(100_000, np.float32))
    fake.cuda.heal()
    np.testing.assert_array_equal(session(np.ones(2, np.float32)), [[0, 1]])
    assert session(np.ones(100_000, np.float32)).shape == (1, 100_000)


def test_no_memory_for_the_engine(fake: Fake) -> None:
    fake.control["fail.deserialize"] = 1
    with pytest.raises(zl.OutOfMemory):
        fake.load(small.relu((1, 9)))
    assert fake.load(small.relu((1, 9)))(np.ones((1, 9), np.float32)).sum() == 9


def other_release(version: str) -> str:
    major, minor, patch = map(int, version.split("."))
    return f"{major}.{minor}.{patch + 1}"


def test_a_plan_of_another_release_is_refused_by_its_manifest(fake: Fake) -> None:
    other = other_release(fake.family.version)
    engine = fake.engine(small.relu(), version=other)
    before = fake.control["deserialized"]
    with pytest.raises(zl.InvalidModel, match="built by") as caught:
        zl.load(engine)
    assert fake.control["deserialized"] == before
    assert other in str(caught.value)
    assert fake.family.version in str(caught.value)
    assert caught.value.subject == "library_version"


def test_a_plan_whose_manifest_lies(fake: Fake) -> None:
    """The library's own check stands behind ours."""
    wrong = fake.engine(small.relu(), version=other_release(fake.family.version))
    manifest = replace(wrong.manifest, library_version=fake.family.version)
    with pytest.raises(zl.InvalidModel, match="Version tag"):
        zl.load(zl.Engine(manifest, wrong.plan))


def test_a_version_compatible_plan(fake: Fake) -> None:
    engine = fake.engine(small.relu())
    older = replace(engine.manifest, library_version="10.0.0", flags={"version_compatible": True})
    if fake.family.major == 10:
        assert zl.load(zl.Engine(older, engine.plan)).backend == "tensorrt"
    else:
        with pytest.raises(zl.InvalidModel):
            zl.load(zl.Engine(older, engine.plan))


def test_an_engine_of_the_other_backend(fake: Fake) -> None:
    other = {"tensorrt": "tensorrt-rtx", "tensorrt-rtx": "tensorrt"}[fake.family.backend]
    with pytest.raises(zl.InvalidArgument, match=f"built for {fake.family.backend}"):
        zl.load(fake.engine(small.relu()), backend=other)
    with pytest.raises(zl.InvalidArgument, match="backend"):
        zl.load(fake.engine(small.relu()), backend="onnxruntime")


@pytest.mark.parametrize(
    "manifest", [{"compute_capabilities": ("1.0",)}, {"gpu": "Another GPU"}], ids=str
)
def test_an_engine_for_other_gpus(fake: Fake, manifest: dict[str, Any]) -> None:
    with pytest.raises(zl.InvalidModel, match="the GPU here is"):
        fake.load(small.relu(), **manifest)


def test_host_code_is_refused_unless_allowed(fake: Fake) -> None:
    engine = fake.engine(small.relu(), host_code=True)
    before = fake.control["deserialized"]
    with pytest.raises(zl.Unsupported, match="host_code=True"):
        zl.load(engine)
    assert fake.control["deserialized"] == before
    session = zl.load(engine, host_code=True)
    assert session(np.ones((1, 4), np.float32)).sum() == 4
    hidden = zl.Engine(replace(engine.manifest, host_code=False), engine.plan)
    with pytest.raises(zl.InvalidModel, match="host code"):
        zl.load(hidden)


def test_bytes_that_are_no_plan(fake: Fake) -> None:
    manifest = replace(fake.engine(small.relu()).manifest, plan_digest="", plan_size=0)
    for plan in (b"junk", bytes(fake.engine(small.relu()).plan)[:-10]):
        with pytest.raises(zl.InvalidModel, match="loading"):
            zl.load(zl.Engine(manifest, plan))


def test_memory_limit(fake: Fake) -> None:
    model = small.matmul_chain(1, 64)  # 16 KiB of weights
    build = {"activation_bytes": 4096, "streamable_bytes": 8192}
    assert fake.load(model, **build, options={"memory_limit": 1 << 20})(rows(2, 64)).shape == (
        2,
        64,
    )
    with pytest.raises(zl.OutOfMemory, match="memory_limit"):
        fake.load(model, **build, options={"memory_limit": 8192})
    if fake.family.version == "10.0.1":  # tells neither weights nor budgets
        return
    session = fake.load(model, **build, options={"memory_limit": 16384})
    facts = session.engine_facts()
    assert 0 <= facts["streaming_budget_bytes"] <= 16384 - 8192 - 4096
    np.testing.assert_array_equal(session(rows(2, 64)), np.roll(rows(2, 64), 1, -1))


def test_devices_that_are_not_there(fake: Fake) -> None:
    engine = fake.engine(small.relu())
    with pytest.raises(zl.Unavailable, match="cuda:9"):
        zl.load(engine, device="cuda:9")
    with pytest.raises(zl.InvalidArgument, match="GPUs alone"):
        zl.load(engine, device="cpu")
    with pytest.raises(zl.InvalidArgument, match="is not known"):
        zl.load(engine, device="gpu")


def test_an_output_of_another_shape(fake: Fake, session: zl.Session) -> None:
    with pytest.raises(zl.ShapeMismatch, match=r"\[4, 4\]"):
        session.run({"x": X}, out={"y": np.zeros((5, 4), np.float32)})
    check_usable(session)


def test_an_engine_file(fake: Fake, tmp_path: Path) -> None:
    path = tmp_path / "rows.engine"
    fake.engine(small.doubled_rows()).save(path)
    session = zl.load(path)
    assert (session.name, session.backend) == ("rows.engine", fake.family.backend)
    assert session.inputs[0].shape == ("N", 4)
    check_usable(session)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(zl.InvalidModel):
        zl.load(path)
    with pytest.raises(zl.InvalidArgument, match="require_signature"):
        zl.load(small.relu().SerializeToString(), require_signature=b"x")
