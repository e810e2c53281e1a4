"""What the server counts. Few series, bound before the first request; rendered off the loop.

Every name that /metrics may show is in METRICS, from which the page for operators is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
        "Time from a request's headers to the end of its answer; event streams are left out.",
        ("route",),
    ),
    Metric(
        "tindra_jmap_calls_total", "counter",
        "JMAP method calls taken in; calls of methods that do not exist are under \"other\".",
        ("method",),
    ),
    Metric("tindra_event_streams_open", "gauge", "Event streams open now."),
    Metric("tindra_state_events_total", "counter", "StateChange events sent down event streams."),
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
        streams = _BY_NAME["tindra_event_streams_open"]
        self.streams = Gauge(streams.name, streams.help, registry=self._registry)
        self.state_events = self._counter("tindra_state_events_total")
        self.commits = self._counter("tindra_commits_total")
        self.upload_bytes = self._counter("tindra_upload_bytes_total")
        self.unexpected_errors = self._counter("tindra_unexpected_errors_total")
        sign_ins = self._counter("tindra_sign_ins_total")
        self._sign_ins = {result: sign_ins.labels(result) for result in SIGN_IN_RESULTS}

    def _counter(self, name: str) -> Counter:
        metric = _BY_NAME[name]
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def count_request(self, route: str, status: int, seconds: float | None) -> None:
        """One request was answered.

        Args:
            seconds: None for an event stream, whose length says nothing.
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

    def render(self) -> bytes:
        """The exposition text. Cost: milliseconds; run it off the loop."""
        return generate_latest(self._registry)
