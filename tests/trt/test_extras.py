"""Refit, the layers' times and names, the cache of compiled kernels, cancelling."""

from __future__ import annotations

import json
import logging
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest

import zerolane as zl
from tests.fakes.tensorrt import plan
from tests.models import small
from tests.python.messages import assert_three_parts
from tests.trt.engines import Fake, rows


def test_refit(fake: Fake) -> None:
    model = small.matmul_chain(1, 8)
    session = fake.load(model, refit=True)
    twin = fake.load(model, refit=True)
    binding = session.bind(x=rows(2, 8))
    for _ in range(5):
        np.testing.assert_array_equal(binding()["y"], np.roll(rows(2, 8), 1, -1))
    assert session.engine_facts()["refittable"]
    weights = plan.weights_of(model)
    session.refit({name: np.roll(w, 1, axis=1) for name, w in weights.items()})
    for _ in range(5):
        np.testing.assert_array_equal(binding()["y"], np.roll(rows(2, 8), 2, -1))
        np.testing.assert_array_equal(twin(rows(2, 8)), np.roll(rows(2, 8), 2, -1))


def test_refit_that_does_not_fit(fake: Fake) -> None:
    model = small.matmul_chain(1, 8)
    session = fake.load(model, refit=True)
    weights = plan.weights_of(model)
    with pytest.raises(zl.InvalidArgument, match="expected float32, 64 elements"):
        session.refit({"shift": weights["shift"][:4]})
    with pytest.raises(zl.InvalidArgument, match="refused 'other'"):
        session.refit({"other": weights["shift"]})
    with pytest.raises(zl.Unsupported, match="float64"):
        session.refit({"shift": weights["shift"].astype(np.float64)})
    with pytest.raises(zl.InvalidArgument, match="'shift'"):
        session.refit({})
    fake.control["fail.refit"] = 1
    with pytest.raises(zl.Error, match="refit failed"):
        session.refit(weights)
    np.testing.assert_array_equal(session(rows(2, 8)), np.roll(rows(2, 8), 1, -1))
    with pytest.raises(zl.Unsupported, match="refit=True"):
        fake.load(model).refit(weights)


@pytest.mark.parametrize("how", ["path", "bytes"])
def test_refit_from_a_model(fake: Fake, tmp_path: Path, how: str) -> None:
    model, turned = small.matmul_chain(1, 8), small.matmul_chain(1, 8)
    session = fake.load(model, refit=True)
    assert session.engine_weights() == ["shift"]
    (weight,) = turned.graph.initializer
    weight.raw_data = np.roll(plan.weights_of(model)["shift"], 1, axis=1).tobytes()
    path = tmp_path / "turned.onnx"
    path.write_bytes(turned.SerializeToString())
    with fake.control.counting("live.ParserRefitter", "live.Refitter") as grown:
        session.refit(path if how == "path" else path.read_bytes())
    assert grown == {"live.ParserRefitter": 0, "live.Refitter": 0}
    np.testing.assert_array_equal(session(rows(2, 8)), np.roll(rows(2, 8), 2, -1))


def test_refit_from_a_model_that_does_not_fit(fake: Fake, tmp_path: Path) -> None:
    session = fake.load(small.matmul_chain(1, 8), refit=True)
    for wrong, error in (
        (small.relu().SerializeToString(), zl.InvalidModel),
        (b"no model at all", zl.InvalidModel),
        (tmp_path / "nowhere.onnx", zl.NotFound),
    ):
        with pytest.raises(error) as caught:
            session.refit(wrong)  # type: ignore[arg-type]
        assert_three_parts(str(caught.value))
    with pytest.raises(zl.InvalidModel, match="no initializer named shift"):
        session.refit(small.relu().SerializeToString())
    np.testing.assert_array_equal(session(rows(2, 8)), np.roll(rows(2, 8), 1, -1))
    with pytest.raises(zl.Unsupported, match="refit=True"):
        fake.load(small.relu()).refit(small.relu().SerializeToString())


def test_an_engine_without_weights_runs_after_a_refit(fake: Fake) -> None:
    model = small.matmul_chain(1, 8)
    session = fake.load(model, refit=True, stripped=True)
    for run in (lambda: session(rows(2, 8)), lambda: session.bind(x=(2, 8))()):
        with pytest.raises(zl.Unsupported, match="without its weights") as caught:
            run()
        assert_three_parts(str(caught.value))
    fake.control["fail.refit"] = 1
    with pytest.raises(zl.Error, match="refit failed"):
        session.refit(model.SerializeToString())
    with pytest.raises(zl.Unsupported, match="without its weights"):
        session(rows(2, 8))
    session.refit(model.SerializeToString())
    np.testing.assert_array_equal(session(rows(2, 8)), np.roll(rows(2, 8), 1, -1))


def test_refit_between_runs_of_other_threads(fake: Fake) -> None:
    model = small.matmul_chain(1, 64)
    session = fake.load(model, refit=True)
    shifts = [np.roll(plan.weights_of(model)["shift"], k, axis=1) for k in range(3)]
    stop = threading.Event()
    wrong: list[object] = []

    def run() -> None:
        x = rows(2, 64)
        binding = session.bind(x=x, gil="release")
        allowed = [np.roll(x, 1 + k, -1) for k in range(3)]
        while not stop.is_set():
            y = binding()["y"]
            if not any(np.array_equal(y, want) for want in allowed):
                wrong.append(y)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for i in range(20):
        session.refit({"shift": shifts[i % 3]})
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_layers(fake: Fake) -> None:
    session = fake.load(small.control_policy())
    layers = json.loads(session.engine_layers())["Layers"]
    assert len(layers) == session.engine_facts()["layers"] == 6
    assert "Gemm 0" in session.engine_layers(json=False)
    with pytest.raises(zl.Unsupported, match="another backend"):
        zl.load(small.relu().SerializeToString()).engine_layers()


def test_times_of_the_layers(fake: Fake, tmp_path: Path) -> None:
    options = {"profile": str(tmp_path / "run")}
    session = fake.load(small.control_policy(), options=options)
    binding = session.bind()
    with fake.control.counting("captured") as grown:
        for _ in range(6):
            binding()
    assert grown["captured"] == 0
    path = Path(session.end_profiling())
    assert path.parent == tmp_path
    times = json.loads(path.read_text())
    assert [row["name"] for row in times][:2] == ["Gemm 0", "Relu 1"]
    for row in times:
        assert row["runs"] >= 6
        assert row["mean_ms"] == pytest.approx(0.25)
    assert fake.load(small.control_policy()).end_profiling() == ""


def test_kernels_are_kept_for_the_next_process(fake: Fake, tmp_path: Path) -> None:
    if fake.family.name != "rtx":
        pytest.skip("only TensorRT-RTX compiles kernels when it runs")
    model = small.relu((1, 11))
    session = fake.load(model, options={"kernel_cache": tmp_path})
    session(np.ones((1, 11), np.float32))
    (file,) = tmp_path.iterdir()
    assert b"x 1 11" in file.read_bytes()
    del session
    with fake.control.counting("kernels.read", "kernels.compiled") as grown:
        session = fake.load(model, options={"kernel_cache": tmp_path})
        session(np.ones((1, 11), np.float32))
    assert grown["kernels.read"] >= 1
    assert grown["kernels.compiled"] == 0


def test_a_damaged_kernel_cache_costs_a_warning(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if fake.family.name != "rtx":
        pytest.skip("only TensorRT-RTX compiles kernels when it runs")
    options = {"kernel_cache": tmp_path}
    fake.load(small.relu((1, 12)), options=options)(np.ones((1, 12), np.float32))
    (file,) = tmp_path.iterdir()
    file.write_bytes(b"junk")
    with caplog.at_level(logging.WARNING):
        session = fake.load(small.relu((1, 12)), options=options)
    assert any("kernel cache" in record.getMessage() for record in caplog.records)
    session(np.ones((1, 12), np.float32))
    assert file.read_bytes() != b"junk"


def test_a_cancel_discards_the_result(fake: Fake) -> None:
    """What runs on the device cannot be interrupted; what has not begun is never enqueued."""
    session = fake.load(small.long_loop(64))
    x = rows(64, 64)
    long, short = np.array(20_000), np.array(1)
    workers = len(os.sched_getaffinity(0))
    with fake.control.counting("enqueued") as grown:
        running = [session.submit(long, x) for _ in range(workers)]
        waiting = [session.submit(short, x) for _ in range(40)]
        for future in (*reversed(waiting), *running):
            assert future.cancel()
        for future in (*running, *waiting):
            with pytest.raises(zl.Cancelled):
                future.result(timeout=60)
    assert grown["enqueued"] <= workers
    np.testing.assert_array_equal(session(short, x), np.roll(x, 1, -1))


def test_a_session_of_a_file_pickles(fake: Fake, tmp_path: Path) -> None:
    engine = fake.engine(small.relu())
    engine.save(tmp_path / "relu.engine")
    session = zl.load(tmp_path / "relu.engine", graphs=2)
    again = pickle.loads(pickle.dumps(session))
    assert (again.name, again.options.graphs) == ("relu.engine", 2)
    with pytest.raises(TypeError, match="save"):
        pickle.dumps(zl.load(engine))
