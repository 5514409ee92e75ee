"""Every option reaches the backend; what it logs reaches `logging`."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zerolane as zl
from tests.backends.backends import Backend
from tests.models import small, task_checks

Load = Callable[..., zl.Session]
LOGGER = "zerolane.onnxruntime"


@pytest.fixture
def onnxruntime(backend: Backend) -> Backend:
    if backend.name != "onnxruntime":
        pytest.skip("these are options of ONNX Runtime")
    return backend


def session_options(backend: Backend, caplog: pytest.LogCaptureFixture, **fields: Any) -> str:
    """What ONNX Runtime says of its own session options when a model is loaded with `fields`."""
    caplog.clear()
    with caplog.at_level(logging.DEBUG, LOGGER):
        backend.load(small.control_policy("N"), **{"threads": None, **fields}, log_level="info")
    told = [r.getMessage() for r in caplog.records if "Session Options {" in r.getMessage()]
    assert len(told) == 1
    return told[0]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "use_per_session_threads:0 "),
        ({}, "execution_mode:0 "),
        ({}, "enable_cpu_mem_arena:1 "),
        ({}, "enable_mem_pattern:1 "),
        ({}, "enable_profiling:0 "),
        ({"threads": 3}, "use_per_session_threads:1 "),
        ({"threads": 3}, "intra_op_param:OrtThreadPoolParams { thread_pool_size: 3 "),
        ({"threads": 3}, "session.intra_op.allow_spinning: 0"),
        ({"threads": 3, "spin": True}, "session.intra_op.allow_spinning: 1"),
        ({"threads": 3, "spin": True}, "session.inter_op.allow_spinning: 1"),
        (
            {"threads": 1, "inter_threads": 2, "execution_mode": "parallel"},
            "inter_op_param:OrtThreadPoolParams { thread_pool_size: 2 ",
        ),
        ({"inter_threads": 2, "execution_mode": "parallel"}, "{ thread_pool_size: 2 "),
        ({"execution_mode": "parallel", "threads": 2}, "execution_mode:1 "),
        ({"execution_mode": "parallel", "threads": 2}, "enable_mem_pattern:0 "),
        ({"graph_level": "none"}, "graph_optimization_level:0 "),
        ({"graph_level": "basic"}, "graph_optimization_level:1 "),
        ({"graph_level": "extended"}, "graph_optimization_level:2 "),
        ({"arena": False}, "enable_cpu_mem_arena:0 "),
        ({"memory_pattern": False}, "enable_mem_pattern:0 "),
        ({"config": {"session.set_denormal_as_zero": "1"}}, "session.set_denormal_as_zero: 1"),
    ],
    ids=str,
)
def test_options_reach_onnx_runtime(
    onnxruntime: Backend, caplog: pytest.LogCaptureFixture, fields: dict[str, Any], told: str
) -> None:
    assert told in session_options(onnxruntime, caplog, **fields)


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def test_threads_are_made_or_shared(onnxruntime: Backend) -> None:
    if onnxruntime.device != "cpu":
        pytest.skip("each stream of the stand-in for CUDA is a thread")
    kept = [onnxruntime.load(small.relu(), threads=None)]
    before = native_threads()
    kept += [onnxruntime.load(small.relu(), threads=None) for _ in range(5)]
    assert native_threads() == before
    kept.append(onnxruntime.load(small.relu(), threads=4))
    assert native_threads() == before + 3  # the caller is the fourth
    kept.pop()
    assert native_threads() == before


@pytest.mark.parametrize("mode", ["sequential", "parallel"])
@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
@pytest.mark.parametrize("memory", [True, False])
def test_results_do_not_depend_on_options(load: Load, level: str, mode: str, memory: bool) -> None:
    session = load(
        task_checks.FOLDER / "digits_cnn.onnx",
        graph_level=level,
        execution_mode=mode,
        arena=memory,
        memory_pattern=memory,
        threads=2,
    )
    case = task_checks.load_case("digits_cnn")
    for _ in range(3):
        np.testing.assert_allclose(session(case["image"]), case["logits"], rtol=1e-4, atol=1e-5)


def test_graph_level_rewrites(onnxruntime: Backend, tmp_path: Path) -> None:
    import onnx

    def nodes(level: str) -> list[str]:
        path = str(tmp_path / f"{level}.onnx")
        config = {"session.optimized_model_filepath": path}
        onnxruntime.load(small.control_policy(), graph_level=level, config=config)
        return [node.op_type for node in onnx.load(path).graph.node]

    assert nodes("none").count("Relu") == 2
    assert nodes("all").count("Relu") == 0


def test_free_dimensions(backend: Backend, load: Load) -> None:
    if backend.name != "onnxruntime":
        with pytest.raises(zl.Unsupported, match="shapes="):
            load(small.control_policy("N"), free_dimensions={"N": 3})
        return
    session = load(small.control_policy("N"), free_dimensions={"N": 3})
    assert session.inputs[0].shape == (3, 64)
    assert session.bind()()["action"].shape == (3, 12)
    with pytest.raises(zl.ShapeMismatch):
        session(np.zeros((1, 64), np.float32))


def test_a_free_dimension_that_the_model_does_not_have(onnxruntime: Backend) -> None:
    with pytest.raises(zl.InvalidArgument, match=r"'M'.*\['N'\]"):
        onnxruntime.load(small.control_policy("N"), free_dimensions={"N": 3, "M": 1})


def test_a_profile_that_could_not_be_written(onnxruntime: Backend, tmp_path: Path) -> None:
    with pytest.raises(zl.NotFound, match="nowhere"):
        onnxruntime.load(small.relu(), profile=str(tmp_path / "nowhere" / "trace"))


def test_profile(onnxruntime: Backend, tmp_path: Path) -> None:
    session = onnxruntime.load(small.relu(), profile=str(tmp_path / "trace"))
    session(np.zeros((1, 4), np.float32))
    path = Path(session.end_profiling())
    assert path.parent == tmp_path
    assert path.name.startswith("trace")
    assert any("Relu" in event["name"] for event in json.loads(path.read_text()))


def test_profile_that_was_not_asked_for(onnxruntime: Backend) -> None:
    session = onnxruntime.load(small.relu())
    try:
        path = session.end_profiling()
    except zl.Error:
        return
    assert path == ""


@pytest.mark.parametrize(
    ("level", "least"),
    [("verbose", 10), ("info", 20), ("warning", 30), ("error", 40), ("fatal", 50)],
)
def test_log_level(
    onnxruntime: Backend, caplog: pytest.LogCaptureFixture, level: str, least: int
) -> None:
    with caplog.at_level(1, LOGGER):
        session = onnxruntime.load(small.relu(), log_level=level)
        session(np.zeros((1, 4), np.float32))
    levels = [record.levelno for record in caplog.records if record.name == LOGGER]
    assert all(found >= least for found in levels)
    if least <= 20:
        assert least in levels
    else:
        assert levels == []


def test_warnings_of_the_library_reach_logging(
    onnxruntime: Backend, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """An unused initializer is what ONNX Runtime warns of when it loads."""
    model = small.overridable_initializer()
    unused = model.graph.initializer.add()
    unused.CopyFrom(model.graph.initializer[0])
    unused.name = "unused"
    with caplog.at_level(1, LOGGER):
        onnxruntime.load(model)
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert any("unused" in record.getMessage() for record in warned)
    caplog.clear()
    with caplog.at_level(1, LOGGER):
        onnxruntime.load(model, log_level="error")
    assert caplog.records == []
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_a_log_handler_that_fails_does_not_fail_the_load(
    onnxruntime: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("handler")

    import sys

    seen: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    handler = Failing()
    logger = logging.getLogger(LOGGER)
    monkeypatch.setattr(logger, "level", 1)
    logger.addHandler(handler)
    try:
        session = onnxruntime.load(small.relu(), log_level="verbose")
    finally:
        logger.removeHandler(handler)
    assert len(seen) >= 1
    assert session(np.zeros((1, 4), np.float32)).shape == (1, 4)


def test_an_error_names_the_model(onnxruntime: Backend, tmp_path: Path) -> None:
    (tmp_path / "odd.onnx").write_bytes(small.unknown_operator().SerializeToString())
    with pytest.raises(zl.Error, match=r"odd\.onnx.*Absent"):
        onnxruntime.load(tmp_path / "odd.onnx")


def test_options_object(load: Load) -> None:
    options = zl.Options(threads=2, graph_level="basic", copy="never")
    session = load(small.relu(), options=options, threads=3)
    assert session.options == zl.Options(threads=3, graph_level="basic", copy="never")
    assert load(small.relu()).options.graph_level == "all"


@pytest.mark.parametrize("gil", ["auto", "hold", "release"])
def test_gil(load: Load, gil: str) -> None:
    session = load(small.relu(), gil=gil)
    binding = session.bind()
    assert binding.gil == ("release" if gil == "auto" else gil)
    assert session.bind(gil="hold").gil == "hold"
    with pytest.raises(zl.InvalidArgument, match="gil"):
        session.bind(gil="sometimes")


def test_copy_never_refuses_what_cannot_be_used_in_place(load: Load) -> None:
    session = load(small.dynamic_dims(), copy="never")
    x = np.random.default_rng(0).standard_normal((4, 5, 3), np.float32)
    np.testing.assert_array_equal(session(x), 2 * x)
    for bad in (np.asfortranarray(x), x[::2], x.astype(">f4")):
        with pytest.raises(zl.InvalidArgument, match=re.escape("input 'x'")):
            session(bad)


def test_bad_config_entries(onnxruntime: Backend) -> None:
    with pytest.raises(zl.Error):
        onnxruntime.load(small.relu(), config={"": "x"})
    with pytest.raises(zl.Error):
        onnxruntime.load(small.relu(), config={"k": "x" * 100_000})
