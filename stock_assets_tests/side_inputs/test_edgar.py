"""EDGAR's client against a small EDGAR on this machine; no test leaves it."""

import gzip
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from stock_assets.errors import SettingsError, SourceError, UnknownTickerError
from stock_assets.market.sources.budget import Budget
from stock_assets.settings import read_settings
from stock_assets.side_inputs.sources import edgar
from stock_assets.side_inputs.sources.edgar import POLITENESS, STAGED_FOR, Edgar
from stock_assets_tests.market.vendor import patient_but_with
from stock_assets_tests.side_inputs import sec
from stock_assets_tests.side_inputs.sec import CONTACT, FETCHED, Content, Sec, client, submissions_path

APPLE = 320193
DOCUMENT = sec.submissions(APPLE, [])


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Sec]]:
    """Starts an EDGAR with the documents given by path."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ExitStack() as servers:
        yield lambda documents: servers.enter_context(sec.serving(Sec(documents)))


def of_apple(*contents: Content) -> dict[str, Any]:
    return {submissions_path(APPLE): [*contents, DOCUMENT]}


def test_every_request_says_whose_it_is_and_packed_answers_are_read(serve: Callable[..., Sec]) -> None:
    server = serve({sec.TICKERS: sec.tickers(AAPL=APPLE, BRK_B=1067983), **of_apple()})
    asking = client(server)
    assert asking.tickers(FETCHED) == {"AAPL": APPLE, "BRK-B": 1067983}
    assert asking.submissions(APPLE, FETCHED).content == DOCUMENT
    server.packed = False
    assert asking.submissions(APPLE, FETCHED).content == DOCUMENT
    assert server.agents == {CONTACT}


def test_at_most_ten_requests_a_second_leave_whichever_thread_makes_them() -> None:
    assert POLITENESS.per_second < 10
    moments: list[float] = []
    budget = Budget(replace(POLITENESS, per_second=50.0))

    def ask() -> None:
        for _ in range(4):
            budget.take()
            moments.append(time.monotonic())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(moments) - min(moments) >= 15 / 50.0


PASSING = [
    sec.THRESHOLD,
    sec.TOO_MANY,
    sec.BROKEN,
    sec.UNAVAILABLE,
    sec.HTML,
    sec.TRUNCATED_JSON,
    sec.CUT,
    sec.EMPTY,
    sec.LIST,
    sec.MOVED,
]


@pytest.mark.parametrize("reply", PASSING, ids=lambda reply: f"{reply.status} {str(reply.body)[:20]}")
def test_what_passes_is_not_seen(serve: Callable[..., Sec], reply: sec.Reply) -> None:
    server = serve(of_apple(reply))
    assert client(server).submissions(APPLE, FETCHED).content == DOCUMENT
    assert server.asked[submissions_path(APPLE)] == 2


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (sec.THRESHOLD, "HTTP 403: 'SEC.gov | Request Rate Threshold Exceeded SEC.gov"),
        (sec.TOO_MANY, "HTTP 429: 'Too Many Requests'"),
        (sec.BROKEN, "HTTP 500: 'Internal Server Error'"),
        (sec.HTML, "no JSON but 'SEC.gov is down for maintenance'"),
        (sec.TRUNCATED_JSON, 'no JSON but \'{"cik":"1","filings":'),
        (sec.CUT, "no answer ("),
        (sec.EMPTY, "an empty answer"),
        (sec.LIST, "no JSON of an object but '[]'"),
    ],
)
def test_what_stays_is_said_in_the_words_of_the_sec(serve: Callable[..., Sec], reply: sec.Reply, reason: str) -> None:
    server = serve({submissions_path(APPLE): reply})
    with pytest.raises(SourceError, match=f"EDGAR, filings of CIK {APPLE}: {re.escape(reason)}.*3 tries") as error:
        client(server, failures=100).submissions(APPLE, FETCHED)
    assert not isinstance(error.value, UnknownTickerError)
    assert "<" not in str(error.value)


def test_a_company_that_edgar_does_not_have_is_asked_for_once(serve: Callable[..., Sec]) -> None:
    server = serve({})
    with pytest.raises(UnknownTickerError, match="EDGAR has no filings of CIK 7: HTTP 404, 'NoSuchKey"):
        client(server).submissions(7, FETCHED)
    assert server.asked.total() == 1


def test_an_undeclared_program_stops_at_once_and_says_which_setting(serve: Callable[..., Sec]) -> None:
    server = serve(of_apple())
    asking = client(server, contact="python-requests")
    with pytest.raises(SourceError, match=r"Undeclared Automated Tool.*STOCK_ASSETS_SEC_CONTACT"):
        asking.submissions(APPLE, FETCHED)
    with pytest.raises(SourceError, match="STOCK_ASSETS_SEC_CONTACT"):
        asking.tickers(FETCHED)
    assert server.asked.total() == 1


def test_one_that_was_answered_before_is_only_asked_for_patience(serve: Callable[..., Sec]) -> None:
    server = serve({sec.TICKERS: sec.tickers(AAPL=APPLE), **of_apple(sec.UNDECLARED)})
    asking = client(server)
    asking.tickers(FETCHED)
    assert asking.submissions(APPLE, FETCHED).content == DOCUMENT


@pytest.mark.parametrize("reply", [sec.HANGS, sec.DRIPS], ids=["hangs", "drips"])
def test_nobody_is_waited_for_for_ever(serve: Callable[..., Sec], reply: sec.Reply) -> None:
    server = serve(of_apple(reply))
    with patient_but_with(server.is_slow):
        assert client(server, timeout=0.1).submissions(APPLE, FETCHED).content == DOCUMENT
    assert server.asked[submissions_path(APPLE)] == 2


def test_an_answer_without_end_is_refused_packed_or_not(
    serve: Callable[..., Sec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(edgar, "MOST_BYTES", 100_000)
    server = serve({submissions_path(APPLE): sec.Reply(200, b" " * 5_000_000)})
    for packed in (True, False):
        server.packed = packed
        with pytest.raises(SourceError, match=r"an answer of more than 0\.1 MB"):
            client(server, tries=1).submissions(APPLE, FETCHED)


def test_a_server_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(SourceError, match=r"filings of CIK 320193: no answer \(ConnectionError, curl 7\)"):
            Edgar(CONTACT, base_url=url, budget=sec.polite()).submissions(APPLE, FETCHED)


def test_a_killed_fetch_goes_on_where_it_was(serve: Callable[..., Sec], tmp_path: Path) -> None:
    server = serve(of_apple())
    noon = FETCHED.replace(hour=12)
    client(server, staged=tmp_path).submissions(APPLE, noon)
    again = client(server, staged=tmp_path).submissions(APPLE, noon + timedelta(minutes=5))
    assert (again.content, again.fetched_at) == (DOCUMENT, noon), "it keeps the moment at which it was asked for"
    assert server.asked.total() == 1
    client(server, staged=tmp_path).submissions(APPLE, noon + STAGED_FOR)
    client(server, staged=tmp_path).submissions(APPLE, noon - timedelta(days=1))
    assert server.asked.total() == 3, "another evening asks again"


@pytest.mark.parametrize(
    "damage",
    [b"", b"no gzip", gzip.compress(b"not a time\n{}"), gzip.compress(b"{}")[:-4]],
    ids=["empty", "no gzip", "no time", "cut"],
)
def test_a_damaged_file_costs_one_request(serve: Callable[..., Sec], tmp_path: Path, damage: bytes) -> None:
    server = serve(of_apple())
    client(server, staged=tmp_path).submissions(APPLE, FETCHED)
    (file,) = tmp_path.rglob("*.gz")
    file.write_bytes(damage)
    assert client(server, staged=tmp_path).submissions(APPLE, FETCHED).content == DOCUMENT
    assert server.asked.total() == 2


def test_what_waits_since_another_day_goes(serve: Callable[..., Sec], tmp_path: Path) -> None:
    server = serve(of_apple())
    asking = client(server, staged=tmp_path)
    asking.submissions(APPLE, FETCHED)
    asking.forget(FETCHED)
    assert [*tmp_path.rglob("*.gz")]
    asking.forget(FETCHED + timedelta(days=1))
    assert not [*tmp_path.rglob("*.gz")]


@pytest.mark.parametrize("name", ["../../secret.json", "CIK0000000007-submissions-001.json", ""])
def test_the_name_of_a_page_is_no_address(serve: Callable[..., Sec], name: str) -> None:
    server = serve({})
    with pytest.raises(SourceError, match="a page of older filings called"):
        client(server).older_filings(APPLE, name, FETCHED)
    assert server.asked.total() == 0


@pytest.mark.parametrize("content", [{"0": {"ticker": "A"}}, {"0": {"ticker": "A", "cik_str": "x"}}, {"0": 3}])
def test_a_list_of_tickers_that_is_none_is_one_error(serve: Callable[..., Sec], content: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"company_tickers\.json: found .*, expected rows of cik_str and ticker"):
        client(serve({sec.TICKERS: content})).tickers(FETCHED)


@pytest.mark.parametrize("contact", ["jane", "Jane Doe", "j@x", "a@b.c\r\nX: y", "Jörg j@example.com", ""])
def test_a_contact_that_no_header_can_hold_is_refused_by_the_settings(contact: str) -> None:
    with pytest.raises(SettingsError, match="STOCK_ASSETS_SEC_CONTACT"):
        read_settings(source="yahoo", sec_contact=contact)


@pytest.mark.parametrize("contact", [CONTACT, "jane@example.com", "Doe & Sons (data) <jane.doe+sec@mail.example.org>"])
def test_contacts(serve: Callable[..., Sec], contact: str) -> None:
    assert read_settings(source="yahoo", sec_contact=contact).sec_contact == contact
    server = serve(of_apple())
    client(server, contact=contact).submissions(APPLE, FETCHED)
    assert server.agents == {contact}
