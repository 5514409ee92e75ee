"""`zl.metrics` and its way to Prometheus."""

from __future__ import annotations

import gc
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="models are built with onnx")

import zerolane as zl  # noqa: E402
from tests import child  # noqa: E402
from tests.models import small  # noqa: E402
from tests.python.messages import assert_three_parts  # noqa: E402
from zerolane import _native  # noqa: E402

ROOT = Path(__file__).parents[2]
X = np.ones((1, 4), np.float32)


def load(folder: Path, name: str) -> zl.Session:
    path = folder / name
    onnx.save(small.relu(), path)
    return zl.load(path)


def one(metric: str, snapshot: dict[str, Any] | None = None, **labels: str) -> dict[str, Any]:
    found = [
        series
        for series in (snapshot or zl.metrics())[metric]["series"]
        if series["labels"] == labels
    ]
    assert len(found) == 1, found
    return found[0]


def test_calls_of_every_kind_are_counted_once(tmp_path: Path) -> None:
    name = "every kind.onnx"
    session = load(tmp_path, name)
    binding = session.bind()
    assert one("zerolane_runs_total", model=name)["value"] == 0  # sizing outputs is no call
    session(X)
    session({"x": X})
    session.run({"x": X})
    session.submit(X).result()
    binding()
    binding.run(deadline_ms=1000)
    assert one("zerolane_runs_total", model=name)["value"] == 6


def test_failures_are_counted_by_code(tmp_path: Path) -> None:
    name = "failures.onnx"
    binding = load(tmp_path, name).bind(gil="release")
    with pytest.raises(zl.DeadlineExceeded):
        binding.run(deadline_ms=1e-6)
    failed = one("zerolane_run_failures_total", model=name, code="deadline_exceeded")
    assert failed["value"] == 1
    assert one("zerolane_runs_total", model=name)["value"] == 1


def test_a_refused_call_is_no_run(tmp_path: Path) -> None:
    name = "refused.onnx"
    session = load(tmp_path, name)
    with pytest.raises(zl.InvalidArgument):
        session(np.ones((1, 4), np.float64))
    assert one("zerolane_runs_total", model=name)["value"] == 0


def test_sessions_of_one_name_are_one_series_that_never_falls(tmp_path: Path) -> None:
    name = "same.onnx"
    first, second = load(tmp_path, name), load(tmp_path, name)
    for _ in range(5):
        first(X)
    second(X)
    assert one("zerolane_runs_total", model=name)["value"] == 6
    before = one("zerolane_run_seconds", model=name)
    assert before["count"] == 6  # the first runs are all timed
    del first
    gc.collect()
    assert one("zerolane_runs_total", model=name)["value"] == 6
    assert one("zerolane_run_seconds", model=name) == before
    del second
    gc.collect()
    assert one("zerolane_runs_total", model=name)["value"] == 6
    third = load(tmp_path, name)
    third(X)
    assert one("zerolane_runs_total", model=name)["value"] == 7


def test_histograms_are_read_in_windows(tmp_path: Path) -> None:
    name = "window.onnx"
    session = load(tmp_path, name)
    for _ in range(3):
        session(X)
    before = zl.metrics()
    held = one("zerolane_run_seconds", before, model=name)
    assert held["count"] == 3
    assert sum(n for _, n in held["buckets"]) == 3
    assert 0 < held["p50"] <= held["p99"] <= held["max"]
    assert held["p50"] <= held["sum"] <= 3 * held["max"]
    empty = one("zerolane_run_seconds", zl.metrics(since=before), model=name)
    assert (empty["count"], empty["buckets"], empty["p99"]) == (0, [], None)
    for _ in range(4):
        session(X)
    between = zl.metrics(since=before)
    assert one("zerolane_run_seconds", between, model=name)["count"] == 4
    assert one("zerolane_runs_total", between, model=name)["value"] == 4
    live = one("zerolane_live_objects", between, kind="session")
    assert live["value"] >= 1  # gauges are what they are


def test_a_series_that_began_anew_is_not_negative(tmp_path: Path) -> None:
    name = "anew.onnx"
    session = load(tmp_path, name)
    session(X)
    earlier = zl.metrics()
    one("zerolane_runs_total", earlier, model=name)["value"] = 100
    one("zerolane_run_seconds", earlier, model=name).update(count=9, buckets=[(1e-9, 9)])
    now = zl.metrics(since=earlier)
    assert one("zerolane_runs_total", now, model=name)["value"] == 1
    assert one("zerolane_run_seconds", now, model=name)["count"] == 1


def test_since_is_an_earlier_reading() -> None:
    with pytest.raises(zl.InvalidArgument) as caught:
        zl.metrics(since={"zerolane_runs_total": {}})
    assert_three_parts(str(caught.value))


def test_it_is_plain_data(tmp_path: Path) -> None:
    session = load(tmp_path, "plain.onnx")
    session(X)
    snapshot = zl.metrics()
    again = json.loads(json.dumps(snapshot))
    assert again.keys() == snapshot.keys()
    # What has been through JSON can be compared with too.
    assert one("zerolane_runs_total", zl.metrics(since=again), model="plain.onnx")["value"] == 0
    held = one("zerolane_run_seconds", zl.metrics(since=again), model="plain.onnx")
    assert held["count"] == 0


def test_pools_and_objects() -> None:
    stats = _native.pool_stats()
    snapshot = zl.metrics()
    pool = {"device": "cpu", "pool": "host"}
    peak = one("zerolane_memory_peak_bytes", snapshot, **pool)["value"]
    assert peak == stats["peak_bytes"]
    assert one("zerolane_memory_used_bytes", snapshot, **pool)["value"] <= peak
    kinds = {s["labels"]["kind"] for s in snapshot["zerolane_live_objects"]["series"]}
    assert kinds == {"session", "context", "binding", "future"}


def test_odd_names_of_models(tmp_path: Path) -> None:
    name = 'counted "quote" and\nline \\ ü.onnx'
    load(tmp_path, name)(X)
    assert one("zerolane_runs_total", model=name)["value"] == 1


def test_threads_lose_nothing(tmp_path: Path) -> None:
    session = load(tmp_path, "threads.onnx")

    def work() -> None:
        for _ in range(301):
            session(X)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        zl.metrics()
    for thread in threads:
        thread.join()
    assert one("zerolane_runs_total", model="threads.onnx")["value"] == 4 * 301


def test_a_forked_child_can_read(tmp_path: Path) -> None:
    load(tmp_path, "fork.onnx")(X)
    code = """
    import os, sys
    import numpy as np
    import zerolane as zl
    session = zl.load(sys.argv[1])
    session(np.ones((1, 4), np.float32))
    child = os.fork()
    if child == 0:
        fresh = zl.load(sys.argv[1])
        fresh(np.ones((1, 4), np.float32))
        (series,) = zl.metrics()["zerolane_runs_total"]["series"]
        os._exit(0 if series["value"] == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    """
    child.run(code, tmp_path / "fork.onnx")


def test_the_page_lists_what_there_is() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (\w+) \| ([\w, ]+) \| (.+) \|$", page, re.MULTILINE)
    listed = [(n, t, u, tuple(labels.split(", ")), m) for n, t, u, labels, m in rows]
    assert listed == _native.metric_families()


def test_names_are_as_prometheus_wants_them() -> None:
    for name, kind, unit, labels, _ in _native.metric_families():
        assert re.fullmatch(r"zerolane_[a-z0-9_]+", name)
        assert name.endswith("_total") == (kind == "counter"), name
        if unit in ("seconds", "bytes"):
            assert name.endswith(unit), name
        assert "le" not in labels


def test_lookups_in_the_cache_of_engines_are_counted(tmp_path: Path) -> None:
    from tests.engine.engines import engine
    from zerolane.engine.cache import Cache

    before = zl.metrics()
    made = engine()
    cache = Cache(tmp_path)
    for _ in range(3):
        cache.get_or_build(made.manifest, lambda: made)
    now = zl.metrics(since=before)
    assert one("zerolane_engine_cache_lookups_total", now, result="hit")["value"] == 2
    assert one("zerolane_engine_cache_lookups_total", now, result="miss")["value"] == 1


def test_without_the_client_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('not here')")
    code = """
    import zerolane as zl
    for call in (zl.metrics_text, zl.prometheus_collector):
        try:
            call()
        except zl.Unavailable as error:
            print(error)
    zl.metrics()
    """
    said = child.run(code, env={"PYTHONPATH": str(tmp_path)}).splitlines()
    assert len(said) == 2
    for line in said:
        assert_three_parts(line)
        assert "zerolane[metrics]" in line


class TestPrometheus:
    @pytest.fixture(autouse=True)
    def client(self) -> None:
        pytest.importorskip("prometheus_client")

    def samples(self, text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        from prometheus_client.parser import text_string_to_metric_families

        return {
            (s.name, tuple(sorted(s.labels.items()))): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
        }

    def test_the_text_is_read_by_the_clients_own_parser(self, tmp_path: Path) -> None:
        name = 'text "quoted"\n\\.onnx'
        session = load(tmp_path, name)
        for _ in range(5):
            session(X)
        samples = self.samples(zl.metrics_text())
        labels = (("model", name),)
        assert samples["zerolane_runs_total", labels] == 5
        assert samples["zerolane_run_seconds_count", labels] == 5
        held = one("zerolane_run_seconds", model=name)
        assert samples["zerolane_run_seconds_sum", labels] == pytest.approx(held["sum"])
        buckets = [
            (float(dict(key[1])["le"]), value)
            for key, value in samples.items()
            if key[0] == "zerolane_run_seconds_bucket" and dict(key[1])["model"] == name
        ]
        buckets.sort()
        assert len(buckets) == 23
        assert buckets[-1] == (float("inf"), 5)
        counts = [count for _, count in buckets]
        assert counts == sorted(counts)
        for edge, count in buckets:
            assert count == sum(n for most, n in held["buckets"] if most <= edge), edge

    def test_it_is_in_a_services_registry(self, tmp_path: Path) -> None:
        import prometheus_client

        session = load(tmp_path, "registry.onnx")
        registry = prometheus_client.CollectorRegistry(auto_describe=True)
        collector = zl.prometheus_collector()
        registry.register(collector)
        own = prometheus_client.Counter("own", "of the service", registry=registry)
        own.inc()
        session(X)
        value = registry.get_sample_value("zerolane_runs_total", {"model": "registry.onnx"})
        assert value == 1
        assert registry.get_sample_value("own_total") == 1
        session(X)
        value = registry.get_sample_value("zerolane_runs_total", {"model": "registry.onnx"})
        assert value == 2
        registry.unregister(collector)

    def test_the_page_shows_code_that_runs(self, tmp_path: Path) -> None:
        page = (ROOT / "docs" / "metrics.md").read_text()
        (code,) = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        child.run(code, env={"HOME": os.fspath(tmp_path)})
