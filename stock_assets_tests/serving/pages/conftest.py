"""One server of the dashboard and one browser, which every test of the screens uses; the publication is swapped."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Browser, sync_playwright

from stock_assets.publication.read import Publication, open_publication
from stock_assets.serving.pages.api import ApiFigures, RouteFigures
from stock_assets.serving.pages.router import make_pages
from stock_assets_tests.serving.pages.markets import Market, alert, market, publish_market
from stock_assets_tests.system.conftest import chromium, free_port  # noqa: F401  (a fixture)
from stock_assets_tests.system.test_browser import ARGUMENTS
from stock_assets_tests.waiting import until

#: A ticker, a name and a sector that would do something if they were not escaped.
HOSTILE = "<img src=x onerror=alert(1)>"


@dataclass
class Stage:
    """What the server shows."""

    url: str = ""
    publication: Publication | None = None
    now: datetime = datetime.min
    figures: ApiFigures = field(default_factory=lambda: ApiFigures(datetime.min, ()))

    def show(self, publication: Publication | None, *, hours: float = 1) -> None:
        """Shows `publication` so many hours after it was published."""
        self.publication = publication
        if publication is not None:
            self.now = publication.pointer.published_at + timedelta(hours=hours)
            rows = [RouteFigures("/v1/predictions/{ticker}", "GET", 12_044, 31, 1, 0.00042, 0.0031)]
            self.figures = ApiFigures(self.now - timedelta(hours=30), rows, 12, 0, 92 * 2**20)


def app_of(stage: Stage) -> FastAPI:
    """The dashboard alone."""
    app = FastAPI(docs_url=None, openapi_url=None)
    app.include_router(make_pages(lambda: stage.publication, lambda: stage.now, figures=lambda: stage.figures))
    return app


def published(folder: Path, of: Market, **more: object) -> Publication:
    """The publication of a market."""
    publish_market(folder, of, **more)  # pyright: ignore[reportArgumentType]
    publication = open_publication(folder)
    assert publication is not None
    return publication


@pytest.fixture(scope="session")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """60 tickers over 45 sessions, with an alert that is open."""
    of = market(60, 45)
    return published(tmp_path_factory.mktemp("rich") / "published", of, alerts=(alert(of.sessions[-1]),))


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """One ticker over two sessions, one model, no label, no sector, no name and nothing of the monitoring."""
    of = market(1, 2, models=("rnn",), labels=False, sectors=(), names=False, monitoring=False)
    return published(tmp_path_factory.mktemp("alone"), of)


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Publication:
    """Names that are HTML, of a market that never closes."""
    of = Market(
        (HOSTILE, "A/B", "BRK.B", "^GSPC"), market(1, 12).sessions, source="snapshot", zone="UTC", sectors=(HOSTILE,)
    )
    words = {**alert(of.sessions[-1]), "title": HOSTILE, "text": HOSTILE, "run_id": None}
    return published(tmp_path_factory.mktemp("hostile"), of, alerts=(words,))


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    """The server on a port of its own."""
    stage = Stage()
    server = uvicorn.Server(uvicorn.Config(app_of(stage), port=free_port(), log_level="error", lifespan="off"))
    stage.url = f"http://127.0.0.1:{server.config.port}"
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield stage
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:  # noqa: F811
    """A headless Chromium; closed with its module, as its event loop would be in the way of others'."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()
