"""What is parsed has bounds, and a table that is not what it was is one clear error."""

import gzip
import json
import re
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests

from stock_assets.errors import SettingsError, SourceError, StockAssetsError
from stock_assets.market import membership
from stock_assets.market.download import body_within, json_within
from stock_assets.market.membership import FEWEST, changes_table, current_table, fetch_page, read_intervals
from stock_assets.market.sources.budget import Transient
from stock_assets.market.sources.yahoo import judge
from stock_assets.settings import read_settings
from stock_assets_tests.market.test_membership import HTML, page
from stock_assets_tests.waiting import HANG_SECONDS

NOW = datetime(2025, 6, 30, 22, tzinfo=UTC)
FIRST_TICKER, FIRST_DAY = "<tr><td><a rel=", "<tr><td>September 23, 2024"


def spanning(span: str, cell: str = FIRST_TICKER) -> str:
    """The page of the other tests, one cell of which spans more."""
    assert cell in HTML
    return HTML.replace(cell, cell.replace("<td>", f"<td {span}>"), 1)


@pytest.mark.parametrize(
    ("span", "cell"),
    [(f'rowspan="{n}"', FIRST_TICKER) for n in (2, 5, 20, 400, 500, 4000, 65534, 10**9)]
    + [(f'colspan="{n}"', FIRST_TICKER) for n in (2, 3, 40, 1000, 30_000_000, 10**25)]
    + [(f'colspan="{n}" rowspan="{n}"', FIRST_TICKER) for n in (50, 3000)]
    + [('rowspan="-1"', FIRST_TICKER), ('rowspan="many"', FIRST_TICKER), ('rowspan="60000"', FIRST_DAY)],
)
def test_a_cell_over_other_cells_is_an_error_and_takes_no_memory(span: str, cell: str):
    html = spanning(span, cell)
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=r"expected") as raised:
            both_tables(html)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(str(raised.value)) < 300
    assert peak < 200_000_000


def both_tables(html: str) -> None:
    current_table(html)
    changes_table(html)


def test_a_day_of_two_changes_in_one_cell_is_read():
    two = [(date(2024, 9, 23), "NEW", "OLD"), (date(2024, 9, 23), "", "GONE")]
    members = [*((f"OTH{i}", "2001-01-01") for i in range(FEWEST)), ("NEW", "2024-09-23")]
    cell = "<tr><td>September 23, 2024</td>"
    html = page(members, two).replace(cell, cell.replace("<td>", '<td rowspan="2">'), 1)
    head, _, rest = html.rpartition(cell)
    assert changes_table(head + "<tr>" + rest)["day"].to_list() == [date(2024, 9, 23)] * 2


@pytest.mark.parametrize(
    "html",
    [
        HTML.replace(">OTH7</a>", ">OTH8</a>", 1),
        HTML.replace(">OTH7</a>", ">Health Care</a>", 1),
        HTML.replace(">OTH7</a>", f">{'A' * 5000}</a>", 1),
        re.sub("<td>Health Care</td>", lambda place: f"<td>Town {place.start()}</td>", HTML),
        "<table>" * 3000,
        "",
    ],
    ids=["twice", "no ticker", "long", "another column", "deep", "empty"],
)
def test_a_table_that_is_not_what_it_was_is_an_error(html: str):
    with pytest.raises(SourceError) as raised:
        current_table(html)
    assert len(str(raised.value)) < 400
    assert "\n" not in str(raised.value)


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[BaseHTTPRequestHandler], None]], str]]:
    """Starts a server whose answers a function writes; its address."""
    servers: list[ThreadingHTTPServer] = []

    def start(write: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    write(self)
                except (BrokenPipeError, ConnectionResetError):
                    return

            do_POST = do_GET

            def log_message(self, *_: object) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield start
    for running in servers:
        running.shutdown()
        running.server_close()


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 100_000)


def dripping(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b"x" * 70_000)
        time.sleep(0.05)


def packed(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    handler.wfile.write(gzip.compress(b"x" * 50_000_000))


@pytest.mark.parametrize(
    ("write", "said"), [(endless, "more than 5 MB"), (packed, "more than 5 MB"), (dripping, "not whole after 0.5 s")]
)
def test_an_answer_without_end_is_an_error(server, write, said: str):
    answer = requests.get(server(write), stream=True, timeout=HANG_SECONDS)
    with pytest.raises(SourceError, match=said):  # nothing else ends these answers
        body_within(answer, most_bytes=5_000_000, seconds=0.5 if write is dripping else HANG_SECONDS)


def test_a_page_without_end_replaces_no_copy(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(membership, "PAGE_BYTES", 1_000_000)
    with pytest.raises(SourceError, match=r"cannot be used \(.* did not answer \(TooLong\)"):
        fetch_page(server(endless), tmp_path / "copy.html", NOW, check=current_table)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["[" * 200_000, '{"chart":' * 200_000, "[1" + "e9" * 9, "", "nul"])
def test_json_that_is_deep_or_none_is_a_value_error(text: str):
    with pytest.raises(ValueError, match=r".") as raised:
        json_within(text)
    assert not isinstance(raised.value, RecursionError)
    with pytest.raises(Transient):
        judge(200, text, since=NOW, retry_after=None, now=NOW)


def test_a_file_that_is_far_too_large_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(10_000_000_000)  # no disk holds it
    with pytest.raises(SourceError, match=r"large.csv has 10,000 MB; expected intervals, at most 100 MB"):
        read_intervals(large)
    monkeypatch.setenv("STOCK_ASSETS_TICKERS", str(large))
    with pytest.raises(SettingsError, match=r"a file of 10,000 MB; at most 5 MB of tickers"):
        read_settings()


def test_an_answer_of_dagster_that_is_none_is_one_line(server):
    from stock_assets.cli.graphql import DagsterClient

    def no_json(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        handler.wfile.write(json.dumps("x").encode()[:-1])

    address = server(no_json)
    with pytest.raises(StockAssetsError, match="no Dagster web server answers"):
        DagsterClient(address.rstrip("/")).ask("{ x }")
