"""The API on a real port, over a small publication."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from threading import Event, Thread

import uvicorn

from stock_assets.serving.app import make_app
from stock_assets.serving.server import configured
from stock_assets.settings import Settings
from stock_assets_tests.waiting import HANG_SECONDS

#: After the newest session of `published_folder` was published.
NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def running_api(settings: Settings) -> Iterator[str]:
    """The address of an API that answers at NOW."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = _Server(configured(make_app(settings, clock=lambda: NOW)))
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert server.up.wait(HANG_SECONDS)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
