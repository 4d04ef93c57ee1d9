"""Screen 8: who uses the API, by the process's own figures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
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


class Figures(Protocol):
    """Where the screen has its figures from: `serving/metrics.py`."""

    def __call__(self) -> ApiFigures: ...


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
