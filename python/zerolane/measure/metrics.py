"""`zl.metrics`: counters, gauges and histograms of the process, and their way to Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from zerolane import _native
from zerolane._lazy import require
from zerolane.errors import InvalidArgument

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

Metrics = dict[str, dict[str, Any]]

# Upper edges of what Prometheus is given, in nanoseconds: 1 us to 10 s.
_EDGES_NS = [step * 10**power for power in range(3, 10) for step in (1, 2.5, 5)] + [10**10]
_PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}


def metrics(since: Mapping[str, Mapping[str, Any]] | None = None) -> Metrics:
    """What zerolane has counted in this process, as plain data.

    A dict by name of dicts: "type" ("counter", "gauge", "histogram"), "unit", "meaning", and
    "series", a list of dicts with "labels" and a "value"; a histogram's have "count", "sum", "p50",
    "p90", "p99", "p999", "max" (seconds, within 3.2 %; None while empty) and "buckets": pairs of
    the largest duration and how many were in that bucket. docs/metrics.md lists the names.

    since: what an earlier call returned; counters and histograms then tell what came after it,
        gauges what they are now.

    Any thread. Series are sums over the process: a dropped session leaves its counts behind.
    """
    if since is not None and not all("series" in family for family in since.values()):
        raise InvalidArgument(
            "reading metrics: since= holds something else, expected what zl.metrics() returned; "
            "keep its result and give it here",
            "since",
        )
    out: Metrics = {}
    for name, kind, unit, _labels, meaning in _native.metric_families():
        out[name] = {"type": kind, "unit": unit, "meaning": meaning, "series": []}
    for row in _native.read_metrics():
        name, labels = row[0], row[1]
        earlier = _series(since, name, labels)
        if len(row) == 3:
            value = row[2]
            # A series that was forgotten since, and began anew, is below what it was.
            if earlier and out[name]["type"] == "counter" and earlier["value"] <= value:
                value -= earlier["value"]
            out[name]["series"].append({"labels": labels, "value": value})
        else:
            _, _, count, sum_ns, buckets = row
            held = _histogram(count, sum_ns, buckets, earlier)
            out[name]["series"].append({"labels": labels, **held})
    return out


def metrics_text() -> str:
    """The same as Prometheus reads it (text format). Needs prometheus_client (`[metrics]`)."""
    client = require("prometheus_client", "metrics", "writing metrics for Prometheus")
    registry = client.CollectorRegistry(auto_describe=False)
    registry.register(Collector())
    text: str = client.generate_latest(registry).decode()
    return text


def prometheus_collector() -> Collector:
    """A collector for prometheus_client: `prometheus_client.REGISTRY.register(...)` once.

    What is read at each scrape is what `zl.metrics()` reads; histograms come with 22 buckets from
    1 us to 10 s, each within 3.2 %. Raises Unavailable where prometheus_client (`[metrics]`) is
    missing.
    """
    require("prometheus_client", "metrics", "collecting metrics for Prometheus")
    return Collector()


class Collector:
    """Made by `prometheus_collector`."""

    def collect(self) -> Iterator[Metric]:
        """All families, also those that have no series yet."""
        from prometheus_client import metrics_core

        held = _by_name(_native.read_metrics())
        for name, kind, _unit, labels, meaning in _native.metric_families():
            family: Any
            if kind == "histogram":
                family = metrics_core.HistogramMetricFamily(name, meaning, labels=labels)
                for _, values, count, total_ns, buckets in held.get(name, []):
                    edges = [(f"{ns / 1e9:g}", n) for ns, n in _cumulative(buckets)]
                    family.add_metric(
                        list(values.values()), [*edges, ("+Inf", count)], total_ns / 1e9
                    )
            else:
                made = "CounterMetricFamily" if kind == "counter" else "GaugeMetricFamily"
                family = getattr(metrics_core, made)(name, meaning, labels=labels)
                for _, values, value in held.get(name, []):
                    family.add_metric(list(values.values()), value)
            yield family


def _by_name(rows: list[Any]) -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for row in rows:
        out.setdefault(row[0], []).append(row)
    return out


def _cumulative(buckets: list[tuple[int, int]]) -> Iterator[tuple[float, int]]:
    """How many durations are up to each edge: those whose bucket lies below it as a whole."""
    seen = 0
    rest = iter([*buckets, (2**63, 0)])
    most, count = next(rest)
    for edge in _EDGES_NS:
        while most <= edge:
            seen += count
            most, count = next(rest)
        yield edge, seen


def _series(
    snapshot: Mapping[str, Mapping[str, Any]] | None, name: str, labels: dict[str, str]
) -> dict[str, Any] | None:
    for series in snapshot[name]["series"] if snapshot is not None and name in snapshot else ():
        if series["labels"] == labels:
            found: dict[str, Any] = series
            return found
    return None


def _histogram(
    count: int, sum_ns: int, buckets: list[tuple[int, int]], earlier: dict[str, Any] | None
) -> dict[str, Any]:
    total = sum_ns / 1e9
    counts = {ns / 1e9: n for ns, n in buckets}
    if earlier and all(counts.get(most, 0) >= n for most, n in earlier["buckets"]):
        count -= earlier["count"]
        total -= earlier["sum"]
        for most, n in earlier["buckets"]:
            counts[most] -= n
    held = [(most, n) for most, n in counts.items() if n > 0]
    return {
        "count": count,
        "sum": total,
        **{name: _percentile(held, fraction) for name, fraction in _PERCENTILES.items()},
        "buckets": held,
    }


def _percentile(buckets: list[tuple[float, int]], fraction: float) -> float | None:
    """The edge of the first bucket by which `fraction` of all are seen."""
    wanted = fraction * sum(n for _, n in buckets)
    seen = 0
    for most, n in buckets:
        seen += n
        if seen >= wanted:
            return most
    return None
