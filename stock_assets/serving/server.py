"""The process that listens: uvicorn with its limits, one worker.

    serve(settings, "127.0.0.1", 8000)

One worker, since what is served is in its memory and a lookup takes a fraction of a millisecond. What is no request at
all is answered here, in the form in which every other error is: before a request is whole, no application sees it.
"""

import resource
import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import uvicorn

from stock_assets.errors import StockAssetsError
from stock_assets.private.uvicorn import BoundedConnection, Bounds
from stock_assets.serving.app import make_app
from stock_assets.serving.envelope import MOST_ADDRESS_BYTES, MOST_HEADER_BYTES, MOST_HEADERS
from stock_assets.serving.problems import Problem
from stock_assets.settings import Settings

#: Seconds that a connection stays open without a request, and that a shutdown waits for answers.
KEEP_ALIVE_SECONDS, GRACEFUL_SECONDS = 5, 5
#: Connections that wait to be accepted.
BACKLOG = 2048
#: File descriptors that are no connections: of files, of the log, of the process that predicts on demand.
OTHER_DESCRIPTORS = 100
BOUNDS = Bounds(target_bytes=MOST_ADDRESS_BYTES, header_bytes=MOST_HEADER_BYTES, headers=MOST_HEADERS)

_PROBLEMS = {
    400: Problem("unreadable-request", "this is no request of HTTP/1.1"),
    414: Problem("address-too-long", f"path and query are longer than {MOST_ADDRESS_BYTES:,} bytes"),
    431: Problem(
        "headers-too-large", f"expected at most {MOST_HEADERS} headers of {MOST_HEADER_BYTES:,} bytes together"
    ),
    503: Problem("not-ready", "there are too many connections at the same time", headers={"Retry-After": "1"}),
}


class Connection(BoundedConnection):
    """A connection of the API: what exceeds the bounds is answered with a problem."""

    @staticmethod
    def refusal(status: int) -> tuple[bytes, bytes]:
        answer = _PROBLEMS[status].response()
        head = b"".join(b"%s: %s\r\n" % pair for pair in answer.raw_headers)
        return head, bytes(answer.body)


def configured(app: Any, bounds: Bounds = BOUNDS) -> uvicorn.Config:
    """How uvicorn runs `app`.

    There is no access log, which would hold the query of every request, and no header of a proxy is believed.
    """
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if descriptors != resource.RLIM_INFINITY:
        connection_limit = max(1, min(bounds.connections, descriptors - OTHER_DESCRIPTORS))
        bounds = replace(bounds, connections=connection_limit)
    return uvicorn.Config(
        app,
        http=type("Connection", (Connection,), {"bounds": bounds}),
        ws="none",
        lifespan="on",
        workers=1,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises StockAssetsError where nothing can listen on that address."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, OverflowError) as error:
        raise StockAssetsError(
            f"nothing can listen on {host}:{port} ({error}); free the port, or set STOCK_ASSETS_API_PORT to another"
        ) from error


def serve(
    settings: Settings, host: str, port: int, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> None:
    """Answers on `host` and `port` until the process is told to end.

    Raises StockAssetsError where nothing can listen there.
    """
    with listener(host, port) as listening:
        uvicorn.Server(configured(make_app(settings, clock=clock))).run(sockets=[listening])
