"""The client against servers of ours and of others: frames in the declared types, and one clear line otherwise."""

import json
import socket
from datetime import UTC, date, datetime

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import stock_assets
from stock_assets.client import PREDICTIONS, PUBLICATIONS, Client
from stock_assets.errors import ApiError
from stock_assets.publication.tables import MONITORING
from stock_assets_tests.publication.folders import MODELS, SESSIONS, predictions_of
from stock_assets_tests.servers import listening, silence, talking

JSON = {"Content-Type": "application/json"}
PROBLEM = {"Content-Type": "application/problem+json"}


def answered(body: object) -> bytes:
    return json.dumps(body).encode()


def test_a_session_is_the_published_frame_with_the_session(api: str):
    expected = predictions_of(SESSIONS[-1]).filter((pl.col("model") == "rnn") | pl.col("model").is_null())
    rows = Client(api).predictions()
    assert dict(rows.schema) == dict(PREDICTIONS)
    assert rows["session"].unique().to_list() == [SESSIONS[-1]]
    predicted = rows.filter(pl.col("status") == "predicted").drop("session")
    assert_frame_equal(predicted, expected.filter(pl.col("status") == "predicted").sort("ticker"))
    assert rows.filter(pl.col("status") == "left_out")["ticker"].to_list() == ["XYZ"]


def test_each_question_is_asked_as_it_was_put(api: str):
    client = Client(api)
    assert client.predictions("2026-11-17", model="prior", tickers="^GSPC")["model"].to_list() == ["prior"]
    one = client.prediction("BRK.B", date(2026, 11, 16))
    assert (one.session, one.model, one.label, one.simulated) == (date(2026, 11, 16), "rnn", 0, True)
    assert one.published_at == datetime(2026, 11, 20, 21, 45, tzinfo=UTC)
    assert client.prediction("BRK.B", as_of=one.published_at).publication == one.publication
    assert client.rankings("2026-11-20", top=2)["rank"].to_list() == [1, 2, 3, 4]
    assert (client.sessions("2026-11-23").status, client.sessions("2026-11-23").previous) == ("not_yet", SESSIONS[-1])
    assert client.models()["model"].to_list() == list(MODELS)
    assert dict(client.publications("2026-11-20").schema) == dict(PUBLICATIONS)
    for name, table in MONITORING.items():
        assert dict(client.monitoring(name).schema) == dict(table.schema)
    with pytest.raises(ApiError, match="no card of rnn-2025-12-31-0a0a0a0a of the model rnn"):
        client.card(MODELS["rnn"])
    with pytest.raises(ApiError, match="expected") as caught:
        client.predictions(as_of="2026-11-20T22:00")  # without a zone
    assert caught.value.status == 422


def test_a_history_is_read_page_by_page(api: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("stock_assets.client.PAGE", 2)
    rows = Client(api).history("AAPL")
    assert rows["session"].to_list() == list(SESSIONS)
    assert dict(rows.schema) == dict(PREDICTIONS)
    assert Client(api).history("AAPL", "2026-11-17", date(2026, 11, 18))["session"].to_list() == list(SESSIONS[1:3])


def test_a_problem_is_one_error_with_its_title_status_and_detail():
    problem = {"title": "unknown ticker", "status": 404, "detail": "NOPE is no ticker", "ticker": "NOPE"}
    with listening(404, answered(problem), PROBLEM) as server, pytest.raises(stock_assets.ApiError) as caught:
        Client(server.url).prediction("NOPE")
    error = caught.value
    assert (error.title, error.status, error.detail) == ("unknown ticker", 404, "NOPE is no ticker")
    assert error.problem["ticker"] == "NOPE"
    assert str(error) == f"{server.url}: unknown ticker: NOPE is no ticker"


def test_a_wrong_token_says_where_it_goes_and_is_not_shown():
    with listening(401, answered({"title": "unauthorized", "status": 401}), PROBLEM) as server:
        client = Client(server.url, token="s3cret")
        with pytest.raises(
            ApiError, match=r"the token is absent or wrong; give it as Client\(url, token=…\)"
        ) as caught:
            client.models()
    assert "s3cret" not in str(caught.value) + repr(client) + repr(vars(client))


def test_the_page_of_another_server_is_said_to_be_one():
    with (
        listening(200, b"<html>Grafana</html>", {"Content-Type": "text/html; charset=utf-8"}) as server,
        pytest.raises(ApiError, match="HTTP 200 with text/html in the place of JSON: another server listens there"),
    ):
        Client(server.url).models()


@pytest.mark.parametrize("body", [b"[1]", b"{", b"[" * 100_000], ids=["array", "cut", "deep"])
def test_json_that_is_none_of_ours_is_refused(body: bytes):
    with listening(200, body, JSON) as server, pytest.raises(ApiError, match="another server listens there"):
        Client(server.url).models()


def test_the_token_does_not_follow_a_redirect():
    with listening(200, b"{}", JSON) as other, listening(307, b"", {"Location": other.url}) as server:
        with pytest.raises(ApiError, match="HTTP 307"):
            Client(server.url, token="s3cret").models()
        assert not other.asked


def test_a_silent_server_is_left_after_the_seconds():
    with talking(silence) as port, pytest.raises(ApiError, match=r"did not answer within 0\.1 s"):
        Client(f"http://127.0.0.1:{port}", seconds=0.1).models()


def test_an_address_where_nothing_listens_says_what_to_start():
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with pytest.raises(ApiError, match=f"nothing answers at http://127.0.0.1:{port} .*stock-assets serve"):
        Client(f"http://127.0.0.1:{port}").models()


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://host:99999", ""]
)
def test_what_is_no_address_is_refused_before_any_call(url: str):
    with pytest.raises(ApiError, match=r"is no address; expected one such as http://127\.0\.0\.1:8000"):
        Client(url)


def test_a_table_that_is_none_is_refused_with_their_names():
    with pytest.raises(ApiError, match="skil is no monitoring table; expected one of sessions, rolling_skill"):
        Client().monitoring("skil")
