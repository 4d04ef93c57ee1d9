"""Screen 8: who uses the API, by the process's own figures."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from typing import Protocol


@dataclass(frozen=True)
class RouteFigures:
    """One route and method since the process began."""

    route: str
    """its template, such as /v1/predictions/{ticker}"""
    method: str
    requests: int
    client_errors: int
    """answers with a status of 400 to 499"""
    server_errors: int
    p50: float | None
    """seconds; None without a request"""
    p99: float | None


@dataclass(frozen=True)
class ApiFigures:
    """What the process counted since it began."""

    started_at: datetime
    routes: Sequence[RouteFigures] = ()
    swaps: int = 0
    """publications that came into service"""
    failed_swaps: int = 0
    memory_bytes: int | None = None


class Sample(Protocol):
    """One figure of `prometheus_client`."""

    @property
    def name(self) -> str: ...
    @property
    def labels(self) -> Mapping[str, str]: ...
    @property
    def value(self) -> float: ...


class Family(Protocol):
    """The figures of one name, as `prometheus_client` collects them."""

    @property
    def samples(self) -> Sequence[Sample]: ...


def figures_of(families: Iterable[Family]) -> ApiFigures:
    """The figures of the process's own metrics (`serving/metrics.py`)."""
    samples = [sample for family in families for sample in family.samples]
    single = {sample.name: sample.value for sample in samples if not sample.labels}
    swaps = {s.labels["result"]: int(s.value) for s in samples if s.name == "publication_swaps_total"}
    requests: dict[tuple[str, str], dict[str, int]] = {}
    buckets: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for sample in samples:
        if sample.name == "http_requests_total":
            of_route = requests.setdefault((sample.labels["route"], sample.labels["method"]), {})
            kind = sample.labels["status"][:1]
            of_route[kind] = of_route.get(kind, 0) + int(sample.value)
        elif sample.name == "http_request_duration_seconds_bucket":
            key = (sample.labels["route"], sample.labels["method"])
            buckets.setdefault(key, []).append((float(sample.labels["le"]), sample.value))
    return ApiFigures(
        datetime.fromtimestamp(single.get("process_start_time_seconds", 0), UTC),
        [
            RouteFigures(
                *key,
                sum(counts.values()),
                counts.get("4", 0),
                counts.get("5", 0),
                quantile(buckets.get(key, []), 0.5),
                quantile(buckets.get(key, []), 0.99),
            )
            for key, counts in requests.items()
        ],
        swaps.get("served", 0),
        swaps.get("refused", 0),
        int(memory) if (memory := single.get("process_resident_memory_bytes")) else None,
    )


def quantile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """The quantile of cumulative `buckets` (upper end, count), linear within one, as Prometheus does it; the upper end
    of the last finite one beyond it.

    >>> quantile([(0.1, 2), (0.2, 4), (inf, 4)], 0.75)
    0.15
    """
    buckets_in_order = sorted(buckets)
    if not buckets_in_order or not buckets_in_order[-1][1]:
        return None
    rank, start, before = share * buckets_in_order[-1][1], 0.0, 0.0
    for end, count in buckets_in_order:
        if count >= rank and end < inf:
            return round(start + (end - start) * (rank - before) / (count - before), 9) if count > before else end
        if end < inf:
            start, before = end, count
    return start


@dataclass(frozen=True)
class ApiView:
    """What the screen shows."""

    started_at: datetime | None
    routes: tuple[RouteFigures, ...]
    """the busiest first"""
    requests: int
    client_errors: int
    server_errors: int
    swaps: int
    failed_swaps: int
    memory_mib: float | None
    uptime: str


def api_view(figures: Callable[[], ApiFigures] | None, now: datetime) -> ApiView:
    """The view at `now`; without `figures` one that says so."""
    if figures is None:
        return ApiView(None, (), 0, 0, 0, 0, 0, None, "")
    values = figures()
    routes = sorted(values.routes, key=lambda row: (-row.requests, row.route, row.method))
    return ApiView(
        values.started_at,
        tuple(routes),
        sum(row.requests for row in routes),
        sum(row.client_errors for row in routes),
        sum(row.server_errors for row in routes),
        values.swaps,
        values.failed_swaps,
        None if values.memory_bytes is None else values.memory_bytes / 2**20,
        _duration((now - values.started_at).total_seconds()),
    )


def _duration(seconds: float) -> str:
    """
    >>> _duration(59), _duration(3_700), _duration(200_000)
    ('0 min', '1 h 1 min', '2 d 7 h')
    """
    minutes = int(max(seconds, 0) // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"
