"""Requests where a description is blind: texts that other servers take for dates, any tickers, odd headers."""

import json
from datetime import date
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stock_assets.tickers import is_ticker
from stock_assets_tests.publication.folders import SESSIONS, published_folder
from stock_assets_tests.serving.apps import app_of
from stock_assets_tests.serving.wire import JSON, Wire

TICKERS = ("AAPL", "BF-B", "BRK.B", "BTC/USD", "^GSPC", "7203.T", "EURUSD=X")
generated = settings(
    max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory) -> Wire:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published", tickers=TICKERS)
    return Wire(app_of(folder))


@generated
@given(text=st.text(max_size=12) | st.dates().map(str) | st.integers().map(str) | st.floats().map(str))
@example("1704153600")
@example("0")
@example("-")
@example("+0")
@example("0000-00-00")
@example("9999-12-31")
@example("2026-11-20T00:00:00Z")
@example("2026-11-20 ")
@example("２０２６-11-20")
@example("20261120")
@example("2026-W47-5")
def test_a_text_is_a_session_only_as_it_is_written(wire: Wire, text: str):
    reply = wire.get(f"/v1/predictions/AAPL?session={quote(text, safe='')}")
    published = text in (*map(str, SESSIONS), "latest")
    assert (reply.status == 200) == published
    assert reply.status in (200, 404, 409, 422)
    if reply.status != 422 and text != "latest":
        assert str(date.fromisoformat(text)) == text


@generated
@given(ticker=st.text(max_size=40) | st.sampled_from(TICKERS))
@example("<img src=x onerror=alert(1)>")
@example("AAPL\r\nX-Evil: 1")
@example("\x00")
@example("../../etc/passwd")
@example("AAPL/")
def test_a_ticker_is_found_as_it_is_spelled_and_echoed_as_no_header(wire: Wire, ticker: str):
    for encoded in {quote(ticker, safe=""), "".join(f"%{byte:02X}" for byte in ticker.encode())}:
        reply = wire.get(f"/v1/predictions/{encoded}")
        if ticker in TICKERS:
            assert (reply.status, reply.json()["ticker"]) == (200, ticker)
        else:
            assert reply.status in ((404,) if is_ticker(ticker) else (404, 422))
        assert "x-evil" not in {name for name, _ in reply.headers}
        assert b"<img" not in reply.body or reply.header("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000, "-0", "true", "null"])
def test_no_number_is_a_ticker_or_a_session(wire: Wire, number: str):
    bodies = ('{"items":[{"ticker":?}]}', '{"items":[{"ticker":"AAPL","session":?}]}', '{"items":?}', "?")
    for body in (form.replace("?", number) for form in bodies):
        reply = wire.post("/v1/predictions:batch", JSON, body=body.encode())
        assert reply.status in (400, 422)
        assert reply.header("content-type") == "application/problem+json"
        assert len(reply.body) < 2000


@pytest.mark.parametrize("body", [b"[" * 400_000, b'{"items":' * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000])
def test_a_deep_body_is_refused(wire: Wire, body: bytes):
    assert wire.post("/v1/predictions:batch", JSON, body=body).status in (400, 422)


def test_a_parameter_is_given_once(wire: Wire):
    for query in ("session=latest&session=latest", "model=rnn&model=ensemble", "sessi%6Fn=latest&session=latest"):
        assert wire.get(f"/v1/predictions/AAPL?{query}").status == 422


@pytest.mark.parametrize(
    "accept",
    ["", "*/*", "text/html", "application/json;q=0", "image/*", ",,,", ";q=", "a" * 5000, "text/csv, */*;q=0.1"],
)
def test_an_odd_accept_is_answered_or_not_acceptable(wire: Wire, accept: str):
    for path in ("/v1/predictions/AAPL", "/v1/predictions", "/metrics", "/v2"):
        assert wire.get(path, ("accept", accept)).status in (200, 406)


def test_head_answers_as_get_without_a_body(wire: Wire):
    for path in ("/v1/predictions/AAPL", "/readyz", "/metrics", "/v2/models/rnn", "/v1/predictions/NOPE"):
        head, get = wire.ask("HEAD", path), wire.get(path)
        assert (head.status, head.body) == (get.status, b"")
        assert head.header("content-type") == get.header("content-type")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "TRACE", "CONNECT", "BREW", "get"])
def test_another_method_is_refused_with_those_that_are_answered(wire: Wire, method: str):
    for path in ("/v1/predictions/AAPL", "/livez", "/v2", "/metrics"):
        reply = wire.ask(method, path)
        assert reply.status == 405
        assert "GET" in (reply.header("allow") or "")


def test_the_same_days_hold_for_every_calendar(tmp_path: Path):
    """A session is a day of the exchange: on one that never closes, Saturdays are published."""
    days = tuple(date(2026, 11, day) for day in (13, 14, 15, 16))
    published_folder(tmp_path / "published", sessions=days)
    wire = Wire(app_of(tmp_path))
    for day in days:
        assert wire.get(f"/v1/predictions/AAPL?session={day}").json()["session"] == str(day)
    asked = {"items": [{"ticker": "AAPL", "session": str(day)} for day in days]}
    rows = wire.post("/v1/predictions:batch", JSON, body=json.dumps(asked).encode()).json()["results"]
    assert [row["status"] for row in rows] == ["predicted"] * 4
