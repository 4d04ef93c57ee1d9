"""What Prometheus reads at `/metrics`: requests by route, the publication that is served, and this process.

The labels are bounded: a route is named by its template, every path that is none by `NO_ROUTE`.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.responses import Response

from stock_assets.serving.current import Current
from stock_assets.serving.health import NONE, sessions_behind
from stock_assets.serving.problems import documented

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Seconds: from half of what a lookup may take to what no answer should.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
NO_ROUTE = "(no route)"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(eq=False)
class Metrics:
    """The metrics of one server, in a registry of their own."""

    current: Current
    queue_depth: Callable[[], int] = lambda: 0
    """predictions on demand that wait or run"""
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

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
        ProcessCollector(registry=self.registry)
        self.registry.register(_OfPublication(self))
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def observe(self, route: str, method: str, *, status: int, seconds: float) -> None:
        """One request that was answered."""
        key = (route, method if method in METHODS else "other", status)
        children = self._children.get(key)
        if children is None:  # looked up by the library under a lock otherwise, with every request
            children = self._requests.labels(*map(str, key)), self._seconds.labels(*key[:2])
            self._children[key] = children
        children[0].inc()
        children[1].observe(seconds)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics where `accept` asks for it."""
        encoder, kind = choose_encoder(accept)
        return encoder(self.registry), kind


@dataclass(eq=False)
class _OfPublication(Collector):
    metrics: Metrics

    def collect(self) -> Iterator[Metric]:
        current, now = self.metrics.current, self.metrics.current.clock()
        depth = GaugeMetricFamily("predict_queue_depth", "Predictions on demand that wait or run.")
        depth.add_metric((), self.metrics.queue_depth())
        swaps = CounterMetricFamily(
            "publication_swaps", "New publications that were seen: served, or refused as damaged.", labels=("result",)
        )
        swaps.add_metric(("served",), current.taken)
        swaps.add_metric(("refused",), current.refused)
        info = GaugeMetricFamily("publication_info", "The publication that is served.", labels=("id", "session"))
        age = GaugeMetricFamily("publication_age_seconds", "Seconds since it was published.")
        behind = GaugeMetricFamily("sessions_behind", "Sessions that are late: due, and not published.")
        models = GaugeMetricFamily(
            "served_model_info", "The version of each model that serves.", labels=("model", "version")
        )
        if (served_state := current.served) is not None:
            info.add_metric((served_state.pointer.entry, str(served_state.newest or "")), 1)
            age.add_metric((), (now - served_state.pointer.published_at).total_seconds())
            behind.add_metric((), sessions_behind(served_state, now))
            for model, version in sorted(served_state.pointer.champions.items()):
                models.add_metric((model, version), 1)
        yield from (depth, swaps, info, age, behind, models)


@dataclass(frozen=True)
class Measured:
    """The ASGI application `app`, with each request counted and timed."""

    app: "ASGIApp"
    metrics: Metrics

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start, status = time.perf_counter(), 500

        async def with_status(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            return await self.app(scope, receive, with_status)
        finally:
            seconds = time.perf_counter() - start
            self.metrics.observe(route_of(scope), scope["method"], status=status, seconds=seconds)


def route_of(scope: "Scope") -> str:
    """The template of the route that answered, such as /v1/predictions/{ticker}; NO_ROUTE where none did."""
    if template := getattr(scope.get("route"), "path", None):
        return template
    if "endpoint" not in scope:
        return NO_ROUTE
    if folder := scope.get("root_path"):  # of an application that is mounted, such as a folder of files
        return f"{folder}/{{path}}"
    return NO_ROUTE if scope.get("path_params") else scope["path"]


router = APIRouter(tags=["health"])
_TYPES = {"text/plain": {"schema": {"type": "string"}}, "application/openmetrics-text": {"schema": {"type": "string"}}}


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": _TYPES, "description": "the metrics"}, **documented("wrong-parameter")},
)
async def metrics(request: Request) -> Response:
    """Requests by route, the publication that is served, and this process; as OpenMetrics where that is accepted."""
    NONE.of(request)
    registry: Metrics = request.app.state.metrics
    content, kind = registry.exposition(request.headers.get("accept", ""))
    return Response(content, 200, {"Cache-Control": "no-store", "Content-Type": kind})
