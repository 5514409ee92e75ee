"""Sessions over engines: shapes, profiles, graphs, outputs that the data sizes, limits, threads."""

from __future__ import annotations

import json
import logging
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import zerolane as zl
from tests.gpu import cuda_table, engines, needs
from tests.gpu.conftest import Resources
from tests.gpu.cuda_table import Failed
from tests.models import small
from tests.models.large import text_embed

WIDTH = 512
SMALL, LARGE = (1, WIDTH), (64, WIDTH)


def chain() -> onnx.ModelProto:
    """x f32 [N,512] -> y: np.roll(x, 4, -1), exact."""
    return small.matmul_chain(length=4, size=WIDTH)


def rows(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Small whole numbers: exact in any precision that an engine may choose."""
    rng = np.random.default_rng(seed)
    return rng.integers(-100, 101, (count, WIDTH)).astype(np.float32)


def rolled(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.roll(x, 4, axis=-1)


@pytest.fixture
def engine(backend: str) -> zl.Engine:
    return engines.build(chain(), backend, shapes={"x": (SMALL, (8, WIDTH), LARGE)})


@pytest.fixture
def session(engine: zl.Engine) -> zl.Session:
    return engines.load(engine)


# Shapes and profiles


def test_what_it_tells(session: zl.Session, backend: str) -> None:
    assert session.backend == backend
    assert session.device == "cuda:0"
    assert [(s.name, s.dtype) for s in session.inputs] == [("x", "float32")]
    assert session.outputs[0].shape is not None
    assert session.outputs[0].shape[1] == WIDTH
    facts = session.engine_facts()
    assert facts["profiles"] == [{"x": (SMALL, (8, WIDTH), LARGE)}]
    assert facts["layers"] >= 1
    assert session.engine_layers(json=False)
    json.loads(session.engine_layers())


@pytest.mark.parametrize("count", [1, 2, 8, 33, 64])
def test_every_shape_of_the_profile(session: zl.Session, count: int) -> None:
    for seed in range(3):
        x = rows(count, seed)
        np.testing.assert_array_equal(session(x), rolled(x))


def test_shapes_taken_in_turn(session: zl.Session) -> None:
    """Each change of shape, back and forth, often enough for graphs to be captured and replayed."""
    for i in range(60):
        x = rows(1 + (i * 7) % 64, i)
        np.testing.assert_array_equal(session(x), rolled(x))


@pytest.mark.parametrize("shape", [(65, WIDTH), (0, WIDTH), (4, WIDTH + 1), (4,), (1, 1, WIDTH)])
def test_shapes_that_no_profile_takes(session: zl.Session, shape: tuple[int, ...]) -> None:
    with pytest.raises(zl.ShapeMismatch):
        session(np.zeros(shape, np.float32))
    x = rows(5)
    np.testing.assert_array_equal(session(x), rolled(x))


def test_wrong_dtype_is_refused(session: zl.Session) -> None:
    with pytest.raises(zl.InvalidArgument):
        session(rows(3).astype(np.int64))


def test_nan_and_infinity_go_through(backend: str) -> None:
    session = engines.load(engines.build(small.add((2,)), backend))
    a, b = np.array([np.nan, np.inf], np.float32), np.array([1, 1], np.float32)
    np.testing.assert_array_equal(session(a, b), [np.nan, np.inf])


def test_the_profile_that_fits_is_chosen(backend: str) -> None:
    ranges = [
        {"x": ((1, WIDTH), (1, WIDTH), (2, WIDTH))},
        {"x": ((4, WIDTH), (8, WIDTH), (16, WIDTH))},
    ]
    session = engines.load(engines.build(chain(), backend, profiles=ranges))
    assert len(session.engine_facts()["profiles"]) == 2
    for count in (1, 16, 2, 4, 9, 1):
        x = rows(count)
        np.testing.assert_array_equal(session(x), rolled(x))
    for count in (3, 17):
        with pytest.raises(zl.ShapeMismatch, match="profile"):
            session(rows(count))


# Graphs


def test_bound_calls_read_what_is_there(session: zl.Session) -> None:
    binding = session.bind(x=(8, WIDTH))
    for seed in range(20):
        x = rows(8, seed)
        binding.inputs["x"][...] = x
        np.testing.assert_array_equal(binding()["y"], rolled(x))


@pytest.mark.parametrize("graphs", [0, 1, 4])
def test_results_do_not_depend_on_graphs(engine: zl.Engine, graphs: int) -> None:
    session = engines.load(engine, graphs=graphs)
    counts = (1, 2, 8, 64, 3, 5)  # more shapes than graphs
    for turn in range(6):
        for count in counts:
            x = rows(count, turn)
            np.testing.assert_array_equal(session(x), rolled(x))


def test_several_bindings_of_one_session(session: zl.Session) -> None:
    """Each with its own shape, memory and graph, called in turn."""
    counts = (1, 4, 4, 64)
    bindings = [session.bind(x=(n, WIDTH)) for n in counts]
    for turn in range(8):
        given = [rows(n, 100 * turn + i) for i, n in enumerate(counts)]
        for binding, x in zip(bindings, given, strict=True):
            binding.inputs["x"][...] = x
        for binding in bindings:
            binding()
        for binding, x in zip(bindings, given, strict=True):
            np.testing.assert_array_equal(binding.outputs["y"], rolled(x))


# Outputs whose size the data decides


def test_outputs_of_a_size_that_the_data_decides(backend: str) -> None:
    engine = engines.unsupported_is_a_skip(
        lambda: engines.build(small.nonzero(), backend, shapes={"x": ((1,), (64,), (4096,))})
    )
    session = engines.load(engine)
    rng = np.random.default_rng(0)
    for count in (1, 64, 4096, 7):
        for share in (0.0, 1.0, 0.3):
            x = (rng.random(count) < share).astype(np.float32)
            np.testing.assert_array_equal(session(x), np.nonzero(x)[0][None])
    binding = session.bind(x=(64,))
    for share in (1.0, 0.0, 0.5):
        x = (rng.random(64) < share).astype(np.float32)
        binding.inputs["x"][...] = x
        np.testing.assert_array_equal(binding()["y"], np.nonzero(x)[0][None])


# Weights


def test_refit(backend: str) -> None:
    """New weights for all sessions and bindings that share the engine, graphs included."""
    engine = engines.build(chain(), backend, shapes={"x": (SMALL, SMALL, LARGE)}, refit=True)
    first, second = engines.load(engine), engines.load(engine)
    binding = first.bind(x=(4, WIDTH))
    x = rows(4)
    binding.inputs["x"][...] = x
    for _ in range(4):
        np.testing.assert_array_equal(binding()["y"], rolled(x))
    first.refit({"shift": np.eye(WIDTH, dtype=np.float32)})
    for _ in range(4):
        np.testing.assert_array_equal(binding()["y"], x)
    np.testing.assert_array_equal(second(x), x)
    first.refit({"shift": small.shift_matrix(WIDTH)})
    np.testing.assert_array_equal(second(x), rolled(x))
    np.testing.assert_array_equal(binding()["y"], rolled(x))


def test_an_engine_without_weights(backend: str, tmp_path: Path) -> None:
    """It runs nothing before a refit; the model that it was built from has all it needs."""
    engine = engines.build(
        chain(), backend, shapes={"x": (SMALL, SMALL, LARGE)}, refit=True, strip_weights=True
    )
    if not needs.STAND_IN:
        assert engine.plan.nbytes < WIDTH * WIDTH * 4, "the weights are in it"
    session = engines.load(engine)
    x = rows(3)
    with pytest.raises(zl.Unsupported, match="without its weights"):
        session(x)
    onnx.save(chain(), tmp_path / "chain.onnx")
    session.refit(tmp_path / "chain.onnx")
    np.testing.assert_array_equal(session(x), rolled(x))
    session.refit(chain().SerializeToString())
    np.testing.assert_array_equal(session(x), rolled(x))


def test_weights_that_do_not_fit(backend: str) -> None:
    engine = engines.build(chain(), backend, shapes={"x": (SMALL, SMALL, LARGE)}, refit=True)
    session = engines.load(engine)
    for weights in (
        {"nothing": np.zeros(3, np.float32)},
        {"shift": np.zeros((2, 2), np.float32)},
        {"shift": np.zeros((WIDTH, WIDTH), np.int32)},
    ):
        with pytest.raises(zl.InvalidArgument):
            session.refit(weights)
    x = rows(2)
    np.testing.assert_array_equal(session(x), rolled(x))


def test_an_engine_that_was_not_built_for_refit(session: zl.Session) -> None:
    with pytest.raises(zl.Unsupported):
        session.refit({"shift": np.eye(WIDTH, dtype=np.float32)})


# Memory


def test_contexts_share_scratch_memory(engine: zl.Engine) -> None:
    """Many contexts that run one after the other need the memory of one."""
    session = engines.load(engine)
    bindings = [session.bind(x=LARGE) for _ in range(8)]
    x = rows(LARGE[0])
    for binding in bindings:
        binding.inputs["x"][...] = x
        np.testing.assert_array_equal(binding()["y"], rolled(x))
    assert session.engine_facts()["shared_activation_blocks"] <= 1 + 8 // 4


def test_a_cap_on_memory_that_is_too_low(engine: zl.Engine) -> None:
    with pytest.raises(zl.OutOfMemory):
        engines.load(engine, memory_limit=1)
    x = rows(3)
    np.testing.assert_array_equal(engines.load(engine)(x), rolled(x))


def test_a_cap_on_memory_that_is_enough(engine: zl.Engine) -> None:
    x = rows(3)
    np.testing.assert_array_equal(engines.load(engine, memory_limit=2**33)(x), rolled(x))


def test_out_of_device_memory_and_usable_after(backend: str, made: Resources) -> None:
    """Others hold nearly all memory: OutOfMemory, and once they give it back all is well."""
    big = (16384, WIDTH)  # 32 MiB each way: a hundred bindings are more than any pool has cached
    engine = engines.build(chain(), backend, shapes={"x": (SMALL, SMALL, big)})
    session = engines.load(engine)
    x = rows(LARGE[0])
    np.testing.assert_array_equal(session(x), rolled(x))
    taken: list[int] = []
    part = 1 << 36
    while part >= 1 << 12:
        try:
            taken.append(made.table.made("device_allocate", 0, part))
        except Failed as failure:
            assert failure.kind == cuda_table.OUT_OF_MEMORY  # noqa: PT017
            part //= 2
    bindings: list[Any] = []
    refused = False
    try:
        while not refused and len(bindings) < 100:
            try:
                bindings.append(session.bind(x=big))
                bindings[-1]()
            except zl.OutOfMemory:
                refused = True
    finally:
        for block in taken:
            made.table.device_free(0, block)
        bindings.clear()
    np.testing.assert_array_equal(session(x), rolled(x))
    binding = engines.load(engine).bind(x=LARGE)
    binding.inputs["x"][...] = x
    np.testing.assert_array_equal(binding()["y"], rolled(x))
    assert refused, "100 bindings were made where there was no memory for them"


# Files, limits, profiles of layers


def test_through_a_file_and_a_pickle(engine: zl.Engine, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    engine.save(path)
    session = zl.load(path)
    x = rows(3)
    np.testing.assert_array_equal(session(x), rolled(x))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(session))(x), rolled(x))


def test_an_altered_file_is_refused(engine: zl.Engine, tmp_path: Path) -> None:
    path = tmp_path / "model.engine"
    engine.save(path)
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(zl.InvalidModel):
        zl.load(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(zl.InvalidModel):
        zl.load(path)


def test_the_kernel_cache_of_a_second_session(engine: zl.Engine, tmp_path: Path) -> None:
    """Kernels compiled at run time are written down (RTX), and a damaged file costs a warning."""
    folder = tmp_path / "kernels"
    x = rows(3)
    for _ in range(2):
        session = engines.load(engine, kernel_cache=folder)
        np.testing.assert_array_equal(session(x), rolled(x))
        del session
    files = list(folder.glob("*")) if folder.exists() else []
    for path in files:
        path.write_bytes(b"no cache at all")
    np.testing.assert_array_equal(engines.load(engine, kernel_cache=folder)(x), rolled(x))


def test_times_of_layers(engine: zl.Engine, tmp_path: Path) -> None:
    session = engines.load(engine, profile=str(tmp_path / "layers"))
    x = rows(8)
    for _ in range(3):
        np.testing.assert_array_equal(session(x), rolled(x))
    report = Path(session.end_profiling())
    assert tmp_path in report.parents
    assert json.loads(report.read_text())


def test_code_for_the_host_must_be_allowed(backend: str) -> None:
    """A version-compatible engine holds a runtime: a program."""

    def make() -> zl.Engine:
        return engines.build(chain(), backend, shapes={"x": SMALL}, version_compatible=True)

    try:
        engine = engines.unsupported_is_a_skip(make)
    except zl.InvalidArgument as error:
        pytest.skip(f"{backend} has no version-compatible engines: {error}")
    if not engine.manifest.host_code:
        pytest.skip("this library puts no code for the host into the engine")
    with pytest.raises(zl.Unsupported, match="host"):
        engines.load(engine)
    x = rows(1)
    np.testing.assert_array_equal(engines.load(engine, host_code=True)(x), rolled(x))


# Threads


def test_many_threads_on_one_session(session: zl.Session) -> None:
    def work(seed: int) -> bool:
        ok = True
        for i in range(40):
            x = rows(1 + (seed + i) % 64, seed * 1000 + i)
            ok = ok and np.array_equal(session(x), rolled(x))
        return ok

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(work, range(16)))


def test_bindings_of_many_threads(session: zl.Session) -> None:
    """Lanes without a lane class: a binding a thread, all at once, each on its own stream."""
    wrong: list[int] = []
    begin = threading.Barrier(8)

    def work(n: int) -> None:
        binding = session.bind(x=(8, WIDTH), gil="release")
        begin.wait()
        for i in range(100):
            x = rows(8, 1000 * n + i)
            binding.inputs["x"][...] = x
            if not np.array_equal(binding()["y"], rolled(x)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_refit_while_others_run(backend: str) -> None:
    """Every result is that of the old or of the new weights, never a mixture."""
    engine = engines.build(chain(), backend, shapes={"x": (SMALL, SMALL, LARGE)}, refit=True)
    session = engines.load(engine)
    x = rows(8)
    answers = (rolled(x), x)
    stop = threading.Event()
    wrong: list[Any] = []

    def work() -> None:
        while not stop.is_set():
            y = session(x)
            if not any(np.array_equal(y, a) for a in answers):
                wrong.append(y)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    try:
        for i in range(10):
            w = np.eye(WIDTH, dtype=np.float32) if i % 2 == 0 else small.shift_matrix(WIDTH)
            session.refit({"shift": w})
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert wrong == []


def test_futures_and_deadlines(session: zl.Session) -> None:
    given = [rows(1 + i, i) for i in range(32)]
    futures = [session.submit(x) for x in given]
    for x, future in zip(given, futures, strict=True):
        np.testing.assert_array_equal(future.result(120), rolled(x))
    with pytest.raises(zl.DeadlineExceeded):
        session.run({"x": rows(64)}, deadline_ms=1e-6)
    np.testing.assert_array_equal(session(given[0]), rolled(given[0]))


def test_the_librarys_messages_are_logged(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """At "verbose" the library talks, to `logging`; nothing of it may upset a run."""
    with caplog.at_level(logging.DEBUG):
        engine = engines.build(small.relu(), backend)
        session = engines.load(engine, log_level="verbose")
        y = session(np.array([[-1, 2, -3, 4]], np.float32))
    np.testing.assert_array_equal(y, [[0, 2, 0, 4]])


def test_loading_and_dropping_leaves_nothing(backend: str) -> None:
    from zerolane import _native

    ranges = dict.fromkeys(("input_ids", "attention_mask"), ((1, 4), (1, 16), (2, 64)))
    engine = engines.build(text_embed(), backend, shapes=ranges)
    inputs = {
        "input_ids": np.ones((1, 16), np.int64),
        "attention_mask": np.ones((1, 16), np.int64),
    }

    def once() -> int:
        session = engines.load(engine)
        session.run(inputs)
        del session
        return int(_native.cuda_memory(0)["device"]["bytes_in_use"])

    once()
    first = once()
    assert [once() for _ in range(5)][-1] <= first
