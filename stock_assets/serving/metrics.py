"""What Prometheus reads at `/metrics`: requests by route, the publication that is served, and this process.

The labels are bounded: a route is named by its template, every path that is none by `NO_ROUTE`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds: from half of what a lookup may take to what no answer should.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
NO_ROUTE = "(no route)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: `served`: the new publication is served. `refused`: it is damaged or of another form, and the old one stays.
SwapResult = Literal["served", "refused"]


@dataclass(frozen=True)
class Served:
    """The publication that is served, as far as the metrics name it."""

    id: str
    session: str
    """the newest session with predictions, YYYY-MM-DD; empty before there is one"""
    published_at: datetime
    sessions_behind: int
    """sessions that should be published by now and are not"""
    champions: Mapping[str, str]
    """the version that serves, by model"""


@dataclass
class Metrics:
    """The metrics of one server, in a registry of their own."""

    served: Callable[[], Served | None]
    """None before anything is served"""
    clock: Callable[[], datetime]
    queue_depth: Callable[[], int] = lambda: 0
    """predictions on demand that wait or run"""
    registry: CollectorRegistry = field(default_factory=lambda: CollectorRegistry(auto_describe=False))

    def __post_init__(self) -> None:
        self._requests = Counter(
            "http_requests_total", "Requests answered.", ("route", "method", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "http_request_duration_seconds",
            "From the first byte of a request's head to the last of its answer.",
            ("route", "method"),
            buckets=BUCKETS,
            registry=self.registry,
        )
        self._swaps = Counter(
            "publication_swaps_total", "New publications that were seen.", ("result",), registry=self.registry
        )
        for result in ("served", "refused"):
            self._swaps.labels(result)
        ProcessCollector(registry=self.registry)
        self.registry.register(_OfPublication(self))
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        key = (route, method if method in METHODS else "other", status)
        children = self._children.get(key)
        if children is None:  # looked up by the library under a lock otherwise, with every request
            children = self._requests.labels(*map(str, key)), self._seconds.labels(*key[:2])
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def swapped(self, result: SwapResult) -> None:
        """A new publication was seen."""
        self._swaps.labels(result).inc()

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics where `accept` asks for it."""
        encoder, kind = choose_encoder(accept)
        return encoder(self.registry), kind


@dataclass(frozen=True)
class _OfPublication(Collector):
    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("predict_queue_depth", "Predictions on demand that wait or run.")
        depth.add_metric((), self.metrics.queue_depth())
        yield depth
        served = self.metrics.served()
        info = GaugeMetricFamily("publication_info", "The publication that is served.", labels=("id", "session"))
        age = GaugeMetricFamily("publication_age_seconds", "Seconds since it was published.")
        behind = GaugeMetricFamily("sessions_behind", "Sessions that are due and not published.")
        models = GaugeMetricFamily(
            "served_model_info", "The version of each model that serves.", labels=("model", "version")
        )
        if served is not None:
            info.add_metric((served.id, served.session), 1)
            age.add_metric((), (self.metrics.clock() - served.published_at).total_seconds())
            behind.add_metric((), served.sessions_behind)
            for model, version in sorted(served.champions.items()):
                models.add_metric((model, version), 1)
        yield from (info, age, behind, models)


@dataclass(frozen=True)
class Measured:
    """The ASGI application `app`, with each request counted and timed."""

    app: "ASGIApp"
    metrics: Metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        began, status = time.perf_counter(), 500

        async def with_status(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self.app(scope, receive, with_status)
        finally:
            self.metrics.observe(route_of(scope), scope["method"], status, time.perf_counter() - began)


def route_of(scope: "Scope") -> str:
    """The template of the route that answered, such as /v1/predictions/{ticker}; NO_ROUTE where none did."""
    return getattr(scope.get("route"), "path", None) or NO_ROUTE
