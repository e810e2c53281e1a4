"""What the server counts. Few series, bound before the first request; rendered off the loop.

Every name that /metrics may show is in METRICS, from which the page for operators is written.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import Metric as PromMetric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# The time at which each series was born doubles their number and tells nobody anything. (Its own
# name here gives it the type that prometheus_client leaves out.)
_disable_created_series: Callable[[], None] = disable_created_metrics
_disable_created_series()

OTHER = "other"


class Metric(NamedTuple):
    """One metric as an operator sees it."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()


METRICS: tuple[Metric, ...] = (
    Metric(
        "tindra_http_requests_total", "counter", "Requests answered, by route and status.",
        ("route", "status"),
    ),
    Metric(
        "tindra_http_request_seconds", "histogram",
        "Time from a request's headers to the end of its answer; streams are left out.",
        ("route",),
    ),
    Metric(
        "tindra_jmap_calls_total", "counter",
        "JMAP method calls taken in; calls of methods that do not exist are under \"other\".",
        ("method",),
    ),
    Metric("tindra_event_streams_open", "gauge", "Event streams open now."),
    Metric("tindra_websockets_open", "gauge", "WebSockets open now."),
    Metric(
        "tindra_state_events_total", "counter",
        "StateChange events sent down event streams and WebSockets.",
    ),
    Metric("tindra_commits_total", "counter", "Commits this process heard of."),
    Metric("tindra_upload_bytes_total", "counter", "Octets of uploads that were stored."),
    Metric(
        "tindra_sign_ins_total", "counter", "Sign-ins by password: ok, wrong, throttled.",
        ("result",),
    ),
    Metric(
        "tindra_unexpected_errors_total", "counter",
        "Errors nobody foresaw; each was reported with an id. Any growth is a bug.",
    ),
    Metric(
        "tindra_store_up", "gauge",
        "1 while the store answers; at 0 the readings from here to the transactions are missing.",
    ),
    Metric(
        "tindra_pushes_total", "counter",
        "Messages to push services, by what became of them.",
        ("outcome",),
    ),
    Metric("tindra_mirrors", "gauge", "Connections in each phase of mirroring.", ("phase",)),
    Metric(
        "tindra_outbox_intents", "gauge",
        "Intents that wait to be carried out at a provider, by topic.",
        ("topic",),
    ),
    Metric(
        "tindra_outbox_late_seconds", "gauge",
        "How long ago the first waiting intent of the topic was due.",
        ("topic",),
    ),
    Metric(
        "tindra_timers_late_seconds", "gauge",
        "How long ago the first timer that has not run was due.",
    ),
    Metric(
        "tindra_index_waiting_emails", "gauge", "Emails that the search index does not have yet."
    ),
    Metric("tindra_disk_free_bytes", "gauge", "Free space where it is written.", ("folder",)),
    Metric(
        "tindra_transactions_total", "counter", "Committed transactions, by name.", ("name",)
    ),
    Metric(
        "tindra_transaction_seconds_total", "counter",
        "Time of these transactions, from asking to being durable.",
        ("name",),
    ),
    Metric("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Metric("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Metric("process_start_time_seconds", "gauge", "Start time of the process, UNIX seconds."),
    Metric("process_cpu_seconds_total", "counter", "CPU time used, user and system."),
    Metric("process_open_fds", "gauge", "Open file descriptors."),
    Metric("process_max_fds", "gauge", "The most file descriptors that may be open."),
)  # fmt: skip
_BY_NAME = {metric.name: metric for metric in METRICS}
SECONDS_BUCKETS = (0.002, 0.01, 0.05, 0.2, 1.0, 5.0, 30.0)
"""Seven: where a list feels instant, where it feels slow, where something is wrong."""
SIGN_IN_RESULTS = ("ok", "wrong", "throttled")


class Reading(NamedTuple):
    """One gauge or counter that is read when somebody looks."""

    name: str
    labels: tuple[str, ...]
    value: float


LoadReadings = Callable[[], Awaitable[list[Reading]]]


class _Shown(Collector):
    """Readings as the library wants them, family by family."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = readings

    def collect(self) -> Iterable[PromMetric]:
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
        for name, labels, value in self._readings:
            if name not in families:
                metric = _BY_NAME[name]
                kind = CounterMetricFamily if metric.type == "counter" else GaugeMetricFamily
                families[name] = kind(name, metric.help, labels=metric.labels)
            families[name].add_metric(labels, value)
        return families.values()


class Metrics:
    """The counters of one server, in a registry of its own."""

    def __init__(self, routes: Iterable[str], methods: Iterable[str]) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = self._counter("tindra_http_requests_total")
        self._request_children: dict[tuple[str, int], Counter] = {}
        seconds = _BY_NAME["tindra_http_request_seconds"]
        histogram = Histogram(
            seconds.name, seconds.help, seconds.labels,
            buckets=SECONDS_BUCKETS, registry=self._registry,
        )  # fmt: skip
        self._seconds = {route: histogram.labels(route) for route in routes}
        calls = self._counter("tindra_jmap_calls_total")
        self._calls = {name: calls.labels(name) for name in (*methods, OTHER)}
        self.streams = self._gauge("tindra_event_streams_open")
        self.sockets = self._gauge("tindra_websockets_open")
        self.state_events = self._counter("tindra_state_events_total")
        self.commits = self._counter("tindra_commits_total")
        self.upload_bytes = self._counter("tindra_upload_bytes_total")
        self.unexpected_errors = self._counter("tindra_unexpected_errors_total")
        sign_ins = self._counter("tindra_sign_ins_total")
        self._sign_ins = {result: sign_ins.labels(result) for result in SIGN_IN_RESULTS}

    def _counter(self, name: str) -> Counter:
        metric = _BY_NAME[name]
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        metric = _BY_NAME[name]
        return Gauge(metric.name, metric.help, registry=self._registry)

    def count_request(self, route: str, status: int, seconds: float | None) -> None:
        """One request was answered.

        Args:
            seconds: None for a stream, whose length says nothing.
        """
        child = self._request_children.get((route, status))
        if child is None:
            child = self._requests.labels(route, str(status))
            self._request_children[route, status] = child
        child.inc()
        if seconds is not None:
            self._seconds[route].observe(seconds)

    def count_call(self, method: str) -> None:
        """One JMAP method call came in."""
        self._calls.get(method, self._calls[OTHER]).inc()

    def count_sign_in(self, result: str) -> None:
        """One password was looked at."""
        self._sign_ins[result].inc()

    def render(self, readings: Iterable[Reading] = ()) -> bytes:
        """The exposition text, with `readings`. Cost: milliseconds; run it off the loop."""
        shown = CollectorRegistry()
        shown.register(_Shown(readings))
        return generate_latest(self._registry) + generate_latest(shown)
