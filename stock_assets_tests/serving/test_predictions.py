"""One prediction: what is published, or why there is none."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from stock_assets_tests.publication.folders import MODELS, SESSIONS, predictions_of, published_folder
from stock_assets_tests.serving.apps import Asker, app_of


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Asker:
    folder = tmp_path_factory.mktemp("data")
    published_folder(folder / "published")
    return Asker(app_of(folder))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ticker", ["AAPL", "BRK.B", "%5EGSPC"])
def test_a_prediction_is_what_was_published(ask: Asker, ticker: str, model: str):
    answer = ask(f"/v1/predictions/{ticker}?session={SESSIONS[1]}&model={model}")
    assert answer.status_code == 200
    frame = predictions_of(SESSIONS[1])
    row = frame.filter(pl.col("ticker") == ticker.replace("%5E", "^"), pl.col("model") == model).row(0, named=True)
    answered = answer.json()
    for name in ("ticker", "p_sell", "p_hold", "p_buy", "score", "rank", "status", "reason", "model_version"):
        assert answered[name] == row[name], name
    assert answered["session"] == str(SESSIONS[1])
    assert answer.headers["x-model-version"] == MODELS[model]


def test_the_latest_session_is_resolved_and_said(ask: Asker):
    answer = ask("/v1/predictions/AAPL?session=latest")
    assert answer.json()["session"] == str(SESSIONS[-1])
    assert answer.content == ask("/v1/predictions/AAPL").content


def test_who_is_left_out_has_a_reason(ask: Asker):
    answer = ask("/v1/predictions/XYZ").json()
    assert (answer["status"], answer["reason"], answer["p_buy"]) == ("left_out", "no bar of the session", None)


@pytest.mark.parametrize(
    ("path", "status", "kind", "words"),
    [
        ("/v1/predictions/NOPE", 404, "unknown-ticker", "NOPE"),
        ("/v1/predictions/aapl", 404, "unknown-ticker", "it has AAPL"),
        ("/v1/predictions/A%20B", 422, "wrong-parameter", "1 to 32 letters"),
        ("/v1/predictions/AAPL?model=other", 404, "unknown-model", "ensemble, prior, rnn"),
        ("/v1/predictions/AAPL?session=2026-11-22", 404, "not-a-session", "Sunday"),
        ("/v1/predictions/AAPL?session=2026-11-23", 409, "not-published-yet", "2026-11-23T21:30:00Z"),
        ("/v1/predictions/AAPL?session=2017-11-23", 404, "not-published", "2018-01-02"),
        ("/v1/predictions/AAPL?sesion=2026-11-20", 422, "wrong-parameter", "session, model, as_of"),
        ("/v1/predictions/AAPL?session=2026-11-20&session=2026-11-19", 422, "wrong-parameter", "twice"),
        ("/v1/predictions/AAPL?as_of=2026-11-20T22:00:00", 422, "wrong-parameter", "zone"),
        ("/v1/predictions/AAPL?as_of=2026-11-20T23:00:00Z", 409, "moment-in-the-future", "22:00"),
        ("/v1/predictions/AAPL?as_of=2026-11-19T23:00:00Z", 404, "not-published", "2026-11-20T21:45:00Z"),
        ("/v3/nothing", 404, "unknown-route", "/v3/nothing"),
    ],
)
def test_what_cannot_be_answered_is_a_problem(ask: Asker, path: str, status: int, kind: str, words: str):
    answer = ask(path)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert problem["type"] == f"/docs/errors.md#{kind}"
    assert words in problem["detail"]


@pytest.mark.parametrize(
    "text", ["1704153600", "0", "-", "", "2024-01-02T00:00:00Z", "2024-1-2", "2024-02-30", "today", "٢٠٢٤-٠١-٠٢"]
)
def test_a_session_is_ten_characters_that_name_a_day(ask: Asker, text: str):
    answer = ask("/v1/predictions/AAPL", params={"session": text})
    assert answer.status_code == 422
    assert "YYYY-MM-DD" in answer.json()["expected"]


@pytest.mark.parametrize(
    ("now", "kind", "status"),
    [
        (datetime(2026, 11, 23, 20, 59, tzinfo=UTC), "not-published-yet", "not_yet"),
        (datetime(2026, 11, 23, 21, 1, tzinfo=UTC), "not-published-yet", "due"),
        (datetime(2026, 11, 23, 23, 30, tzinfo=UTC) + timedelta(seconds=1), "late", "late"),
    ],
)
def test_an_evening_is_due_and_then_late(tmp_path: Path, now: datetime, kind: str, status: str):
    published_folder(tmp_path / "published")
    problem = Asker(app_of(tmp_path, now=now))("/v1/predictions/AAPL?session=2026-11-23").json()
    assert problem["type"].endswith(f"#{kind}")
    assert (problem["session_status"], problem["due_at"]) == (status, "2026-11-23T21:30:00Z")


def test_before_anything_is_published_every_answer_says_so(tmp_path: Path):
    ask = Asker(app_of(tmp_path))
    assert ask("/livez").json() == {"status": "alive"}
    assert ask("/readyz").status_code == 503
    answer = ask("/v1/predictions/AAPL")
    assert (answer.status_code, answer.json()["session_status"]) == (404, "not_published")


def test_a_client_that_holds_the_answer_gets_none(ask: Asker):
    tag = ask("/v1/predictions/AAPL").headers["etag"]
    assert tag.startswith('W/"')
    held = ask("/v1/predictions/AAPL", headers={"If-None-Match": f'"other", {tag}'})
    assert (held.status_code, held.content, held.headers["etag"]) == (304, b"", tag)
    assert ask("/v1/predictions/MSFT", headers={"If-None-Match": tag}).status_code == 200


def test_a_day_has_a_status_by_the_calendar_of_the_publication(tmp_path: Path):
    gap, rest = SESSIONS[2], [session for session in SESSIONS if session != SESSIONS[2]]
    published_folder(tmp_path / "published", sessions=rest)
    pointer = tmp_path / "published" / "current.json"
    pointer.write_text(pointer.read_text().replace('"unpublished":[]', f'"unpublished":["{gap}"]'))
    ask = Asker(app_of(tmp_path))
    statuses = {
        "2017-01-03": "not_published",
        "2026-11-15": "not_published",
        str(SESSIONS[0]): "published",
        str(gap): "not_published",
        "2026-11-21": "holiday",
        "2026-11-23": "not_yet",
        "2999-01-01": "not_yet",
    }
    assert {day: ask(f"/v1/sessions/{day}").json()["status"] for day in statuses} == statuses
    answer = ask(f"/v1/predictions/AAPL?session={gap}")
    assert (answer.status_code, answer.json()["previous"]) == (404, str(SESSIONS[1]))
    monday = ask("/v1/sessions/2026-11-23").json()
    assert (monday["closes_at_local"], monday["late_after"]) == ("2026-11-23T16:00:00-05:00", "2026-11-23T23:30:00Z")


def test_a_market_that_never_closes_has_sessions_on_sundays(tmp_path: Path):
    days = [date(2026, 11, 21), date(2026, 11, 22)]
    published_folder(tmp_path / "published", sessions=days)
    ask = Asker(app_of(tmp_path, now=datetime(2026, 11, 23, 1, tzinfo=UTC)))
    assert ask("/v1/predictions/AAPL?session=2026-11-22").status_code == 200
    assert ask("/v1/sessions/latest").json()["day"] == "2026-11-22"
