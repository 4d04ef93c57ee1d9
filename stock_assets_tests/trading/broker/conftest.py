"""The account of a test, and the same behind Alpaca's JSON with the real client in front of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter

from stock_assets.trading.broker import simulated_file
from stock_assets.trading.broker.alpaca import Access, AlpacaBroker
from stock_assets.trading.broker.http_face import serving
from stock_assets_tests.trading.broker.http_faults import HttpFault, HttpFaults
from stock_assets_tests.trading.broker.world import World
from stock_assets_tests.waiting import HANG_SECONDS

#: Seconds after which the client leaves a broker that says nothing.
PATIENCE = 0.3
KEY, SECRET = "PKTESTKEY0123456789", "a/secret+of/forty=characters"


@pytest.fixture(autouse=True)
def _quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for the disk: what a process wrote outlives it without."""
    monkeypatch.setattr(simulated_file, "SYNCHRONOUS", "OFF")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@dataclass
class Line:
    """The real client, the faults on its way and the account at the other end."""

    world: World
    url: str
    middle: HttpFaults
    broker: AlpacaBroker

    def fail(self, *faults: HttpFault) -> None:
        self.middle.faults.extend(faults)

    def connected(self, **access: str) -> AlpacaBroker:
        """Another process's client."""
        return AlpacaBroker(
            Access(**{"key": KEY, "secret": SECRET, "url": self.url, **access}),  # type: ignore[arg-type]
            timeout=(HANG_SECONDS, PATIENCE),
            pause=self.world.pause,
            monotonic=lambda: self.world.now.timestamp(),
        )


@pytest.fixture
def line(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    middles: list[HttpFaults] = []
    send = HTTPAdapter.send

    def patient(adapter: HTTPAdapter, request: requests.PreparedRequest, *args: Any, timeout: Any, **more: Any):
        """On a busy machine a good answer is waited for as long as it takes: only what hangs is left after a while."""
        hangs = middles[0].hangs(request.method or "", urlsplit(request.url or "").path)
        return send(adapter, request, *args, timeout=timeout if hangs else HANG_SECONDS, **more)

    monkeypatch.setattr(HTTPAdapter, "send", patient)

    def around(app):
        middles.append(HttpFaults(app))
        return middles[0]

    with serving(world.broker, key=KEY, secret=SECRET, around=around) as url:
        line = Line(world, url, middles[0], broker=None)  # type: ignore[arg-type]
        line.broker = line.connected()
        yield line
