"""How the server listens: uvicorn with one worker and bounds on what a connection may take."""

import resource
from dataclasses import replace
from typing import TYPE_CHECKING

import uvicorn

from stock_assets.private.uvicorn import BoundedConnection, Bounds
from stock_assets.serving.problems import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp

#: Seconds that a connection without a request stays open.
KEEP_ALIVE = 5
#: Seconds in which the last answers are sent when the server ends.
FAREWELL = 5

_PROBLEMS = {
    400: Problem("unreadable-request", "the request is no HTTP/1.1"),
    414: Problem("address-too-long", f"path and query are longer than {Bounds().target_bytes:,} bytes"),
    431: Problem(
        "headers-too-large", f"expected at most {Bounds().headers} headers of {Bounds().header_bytes:,} bytes together"
    ),
}


class Connection(BoundedConnection):
    """A connection of the API: what exceeds the bounds is answered with a problem."""

    bounds = Bounds()

    @staticmethod
    def refusal(status: int) -> tuple[bytes, bytes]:
        body = bytes(_PROBLEMS[status].response().body)
        head = f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\ncache-control: no-store\r\n"
        return head.encode(), body


def server_config(app: "ASGIApp", host: str, port: int, bounds: Bounds | None = None) -> uvicorn.Config:
    """The configuration of `uvicorn.Server` for the application that `make_app` made.

    There is no access log, which would hold the query of every request, and no header of a proxy is believed.
    """
    # each connection takes a file descriptor; some are left for files and for the process of predictions on demand
    descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    bounds = bounds or Bounds()
    if descriptors != resource.RLIM_INFINITY:
        bounds = replace(bounds, connections=max(1, min(bounds.connections, descriptors - 100)))
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=type("Connection", (Connection,), {"bounds": bounds}),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=FAREWELL,
    )
