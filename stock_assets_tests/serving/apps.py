"""An application over a small publication, asked without a port."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx
from fastapi import FastAPI

from stock_assets.serving.app import make_app
from stock_assets.settings import read_settings

#: A quarter of an hour after the small publication was made.
NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)


def app_of(data_dir: Path, *, now: datetime = NOW, **settings: object) -> FastAPI:
    """The application over `data_dir`/published at the time `now`; no watcher runs: `app.state.current.look()`."""
    return make_app(read_settings(data_dir=data_dir, **settings), clock=lambda: now)


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of `app`. A fault of the server is an answer here, as over a port."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
        yield client


@dataclass(frozen=True)
class Asker:
    """Asks an application, one request at a time."""

    app: FastAPI

    def __call__(
        self, path: str, method: str = "GET", *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> httpx.Response:
        async def ask() -> httpx.Response:
            async with client_of(self.app) as client:
                return await client.request(method, path, headers=headers, **more)

        return anyio.run(ask)


def asker(data_dir: Path, **more: Any) -> Callable[..., httpx.Response]:
    """Asks the application over `data_dir`."""
    return Asker(app_of(data_dir, **more))
