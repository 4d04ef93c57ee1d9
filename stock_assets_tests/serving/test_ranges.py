"""A session, the history of a ticker, a ranking and a batch, in every form and page by page."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.publication.tables import PREDICTIONS_FILE
from stock_assets.publication.write import NewFiles, publish
from stock_assets_tests.publication.folders import (
    MODELS,
    SESSIONS,
    TICKERS,
    facts_of,
    outcomes_of,
    predictions_of,
    published_folder,
)
from stock_assets_tests.serving.apps import Asker, app_of

EVERY = (*TICKERS, "XYZ", "BTC/USD", "EURUSD=X")
FORMS = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published", tickers=[*TICKERS, "BTC/USD"])
    return Asker(app_of(folder))


def frame(answer: httpx.Response) -> pl.DataFrame:
    """The rows of a range as a frame, whichever form they came in."""
    assert answer.status_code == 200, answer.text
    kind = answer.headers["content-type"].partition(";")[0]
    if kind == "application/json":
        common = {name: value for name, value in answer.json().items() if name != "predictions"}
        return pl.DataFrame([{**common, **row} for row in answer.json()["predictions"]], infer_schema_length=None)
    return pl.read_parquet(BytesIO(answer.content)) if kind == FORMS["parquet"] else pl.read_csv(answer.content)


def published(session: Any, model: str) -> pl.DataFrame:
    """What the file of a session says of a model, as an independent reader has it."""
    rows = predictions_of(session, [*TICKERS, "BTC/USD"])
    return rows.filter((pl.col("model") == model) | pl.col("model").is_null()).sort("ticker")


NUMBERS = ("p_sell", "p_hold", "p_buy", "score", "rank")


@pytest.mark.parametrize("form", ["json", *FORMS])
@pytest.mark.parametrize("model", MODELS)
def test_a_session_is_what_was_published_to_the_last_bit(ask: Asker, form: str, model: str):
    headers = {"Accept": FORMS.get(form, "application/json")}
    answer = ask(f"/v1/predictions?session={SESSIONS[2]}&model={model}", headers=headers)
    rows, expected = frame(answer), published(SESSIONS[2], model)
    columns = ["ticker", *NUMBERS, "status", "reason"]
    assert_frame_equal(rows.select(columns), expected.select(columns), check_dtypes=False, check_exact=True)
    if form == "parquet":
        assert rows.schema["session"] == pl.Date()
        assert rows.select(PREDICTIONS_FILE.names).schema == PREDICTIONS_FILE.schema


@settings(max_examples=60, deadline=None)
@given(ticker=st.sampled_from(EVERY), session=st.sampled_from(SESSIONS), model=st.sampled_from([*MODELS, "other"]))
def test_every_route_says_the_same_of_a_row(ask: Asker, ticker: str, session: Any, model: str):
    query = {"session": str(session), "model": model}
    one = ask(f"/v1/predictions/{ticker.replace('/', '%2F')}", params=query)
    item = {"items": [{"ticker": ticker, "session": str(session)}], "model": model}
    (batched,) = ask("/v1/predictions:batch", "POST", json=item).json()["results"]
    rows = published(session, model).filter(pl.col("ticker") == ticker)
    if model not in MODELS or rows.is_empty():
        assert one.status_code == 404
        assert batched["status"] == ("unknown_ticker" if ticker == "EURUSD=X" else "unknown_model")
        return
    assert one.json() == batched
    for name, value in rows.row(0, named=True).items():
        if name not in ("trained_through", "model"):
            assert batched[name] == value, name
    path = f"/v1/history/{ticker.replace('/', '%2F')}?from={session}&to={session}&model={model}"
    (through_time,) = ask(path).json()["predictions"]
    assert through_time.items() <= batched.items()


def walk(ask: Asker, path: str, between: Any = None) -> list[dict[str, Any]]:
    """Every page, with what happens between two of them."""
    pages = [ask(path).json()]
    while (cursor := pages[-1]["next"]) is not None:
        if between is not None:
            between(len(pages))
        answer = ask(f"{path}&cursor={cursor}")
        assert answer.status_code == 200, answer.text
        pages.append(answer.json())
    return pages


@pytest.mark.parametrize("path", ["/v1/predictions?limit=2", f"/v1/history/MSFT?limit=2&to={SESSIONS[-1]}"])
def test_a_walk_under_swaps_gives_each_row_once_and_of_one_publication(tmp_path: Path, path: str):
    published_folder(tmp_path / "published")
    ask = Asker(app_of(tmp_path))
    whole = ask(path.replace("limit=2", "limit=1000")).json()

    def swap(number: int) -> None:
        version = {**MODELS, "rnn": f"rnn-2026-06-30-0e0e0e{number:02d}"}
        new = NewFiles(tmp_path / "published")
        for session in SESSIONS:
            new.put("predictions", str(session), predictions_of(session, ["AAPL", f"NEW{number}"], models=version))
            new.put("outcomes", str(session), outcomes_of(session))
        moment = datetime(2026, 11, 20, 21, 50, tzinfo=UTC) + timedelta(minutes=number)
        publish(new.folder, new, facts_of(), champions=version, reason="swap", code_version="1", now=moment)
        assert ask.app.state.current.look()

    pages = walk(ask, path, swap)
    assert len(pages) == 3
    assert {page["publication"] for page in pages} == {whole["publication"]}
    assert [row for page in pages for row in page["predictions"]] == whole["predictions"]
    assert ask("/readyz").json()["publication"] != whole["publication"]


@pytest.mark.parametrize(
    ("path", "status", "kind"),
    [
        ("/v1/predictions?limit=2&session=2026-11-19", 404, "foreign-cursor"),
        ("/v1/predictions?limit=2&model=prior", 404, "foreign-cursor"),
        ("/v1/history/AAPL?limit=2", 404, "foreign-cursor"),
        ("/v1/publications?limit=2", 404, "foreign-cursor"),
    ],
)
def test_a_cursor_holds_for_its_own_question(ask: Asker, path: str, status: int, kind: str):
    cursor = ask("/v1/predictions?limit=2").json()["next"]
    answer = ask(f"{path}&cursor={cursor}")
    assert (answer.status_code, answer.json()["type"]) == (status, f"/docs/errors.md#{kind}")
    assert ask(f"{path}&cursor=AAAA").status_code == 404
    assert ask(f"{path}&cursor=%20").status_code == 422


def test_a_cursor_of_a_publication_that_is_gone_has_expired(tmp_path: Path):
    published_folder(tmp_path / "one" / "published")
    published_folder(tmp_path / "two" / "published", now=datetime(2026, 11, 20, 21, 46, tzinfo=UTC))
    cursor = Asker(app_of(tmp_path / "one"))("/v1/predictions?limit=2").json()["next"]
    answer = Asker(app_of(tmp_path / "two"))(f"/v1/predictions?limit=2&cursor={cursor}")
    assert (answer.status_code, answer.json()["type"]) == (410, "/docs/errors.md#expired-cursor")


def test_chosen_tickers_are_answered_each_with_a_status(ask: Asker):
    rows = ask("/v1/predictions?tickers=MSFT,NOPE,XYZ,%5EGSPC,MSFT").json()["predictions"]
    assert [(row["ticker"], row["status"]) for row in rows] == [
        ("MSFT", "predicted"),
        ("NOPE", "unknown_ticker"),
        ("XYZ", "left_out"),
        ("^GSPC", "predicted"),
    ]


def test_a_history_has_a_row_per_session_with_what_came_true(ask: Asker):
    page = ask("/v1/history/AAPL").json()
    assert [row["session"] for row in page["predictions"]] == [str(session) for session in SESSIONS]
    labels = outcomes_of(SESSIONS[0]).filter(pl.col("ticker") == "AAPL")
    assert (page["predictions"][0]["label"], page["predictions"][-1]["label"]) == (labels["label"][0], None)
    assert page["predictions"][0]["horizon_end"] == str(labels["horizon_end"][0])
    assert [row["session"] for row in ask("/v1/history/AAPL?from=2026-11-18&to=2026-11-19").json()["predictions"]] == [
        "2026-11-18",
        "2026-11-19",
    ]
    for query in ("from=2026-12-01", "from=2026-11-19&to=2026-11-18", "to=2026-11-15"):
        answer = ask(f"/v1/history/AAPL?{query}")
        assert (answer.status_code, answer.json()["type"]) == (404, "/docs/errors.md#empty-range")
        assert "2026-11-16 to 2026-11-20" in answer.json()["detail"]


def test_a_ranking_is_the_order_of_the_scores(ask: Asker):
    page = ask(f"/v1/rankings/{SESSIONS[-1]}?top=2").json()
    order = published(SESSIONS[-1], "rnn").drop_nulls("score").sort("score", descending=True)["ticker"].to_list()
    assert [row["ticker"] for row in page["top"]] == order[:2]
    assert [row["ticker"] for row in page["bottom"]] == order[::-1][:2]
    csv = ask(f"/v1/rankings/{SESSIONS[-1]}?top=2", headers={"Accept": "text/csv"})
    assert pl.read_csv(csv.content)["ticker"].to_list() == [*order[:2], *order[-2:]]


def test_a_batch_answers_each_item_for_itself(ask: Asker):
    sessions = ("latest", "2026-11-22", "2026-11-23", "2010-01-04")
    questions = [*(("AAPL", session) for session in sessions), ("NO", "latest")]
    items = [{"ticker": ticker, "session": session} for ticker, session in questions]
    results = ask("/v1/predictions:batch", "POST", json={"items": items}).json()["results"]
    assert [row["status"] for row in results] == ["predicted", "holiday", "not_yet", "not_published", "unknown_ticker"]
    assert [row["ticker"] for row in results] == [ticker for ticker, _ in questions]
    assert "Sunday" in results[1]["reason"]


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b"{", 400, "no JSON"),
        (b"[" * 100_000, 400, "no JSON"),
        (b"[]", 422, "object"),
        (b'{"items":[]}', 422, "items"),
        (b'{"items":[{"ticker":"AAPL","session":1704153600}]}', 422, "items.0.session"),
        (b'{"items":[{"ticker":"AAPL","session":"2024-01-02T00:00:00Z"}]}', 422, "YYYY-MM-DD"),
        (b'{"items":[{"ticker":"A B"}]}', 422, "1 to 32 letters"),
        (b'{"items":[{"ticker":"AAPL","sesion":"latest"}]}', 422, "sesion"),
        (b'{"items":[' + b'{"ticker":"AAPL"},' * 1000 + b'{"ticker":"AAPL"}]}', 422, "1000"),
        (b'{"items":[{"ticker":"' + b"A" * 1_100_000 + b'"}]}', 413, "larger than"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_batch_is_refused_as_a_whole(ask: Asker, content: bytes, status: int, words: str):
    answer = ask("/v1/predictions:batch", "POST", content=content, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert words in answer.json()["detail"]
    assert ask("/v1/predictions:batch", "POST", content=b"{}").status_code == 415


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/csv", "text/csv"),
        ("text/*;q=0.5, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/json"),
        ("application/json;q=0, text/csv;q=0.1", "text/csv"),
        ("image/png", "application/problem+json"),
    ],
)
def test_the_form_is_the_one_that_the_client_likes_best(ask: Asker, accept: str, kind: str):
    answer = ask("/v1/predictions", headers={"Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers.get("vary", "accept") == "accept"


def test_outside_text_is_no_formula_of_a_spreadsheet(tmp_path: Path):
    published_folder(tmp_path / "published")
    rows = predictions_of(SESSIONS[-1]).with_columns(
        reason=pl.when(pl.col("status") == "left_out").then(pl.lit("=HYPERLINK(1)")).otherwise("reason")
    )
    new = NewFiles(tmp_path / "published")
    new.put("predictions", str(SESSIONS[-1]), rows)
    now = datetime(2026, 11, 20, 21, 50, tzinfo=UTC)
    publish(new.folder, new, facts_of(), champions=MODELS, reason="test", code_version="0", now=now)
    assert "'=HYPERLINK(1)" in Asker(app_of(tmp_path))("/v1/predictions", headers={"Accept": "text/csv"}).text
