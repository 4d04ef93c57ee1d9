"""What was said each evening: the newest publication of a session before the next one opened."""

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import polars as pl

from stock_assets.market.calendar import trading_calendar
from stock_assets.publication.materialize.said import said_each_evening
from stock_assets.publication.write import NewFiles, publish
from stock_assets_tests.publication.folders import MODELS, SESSIONS, facts_of, predictions_of

CALENDAR = trading_calendar("XNYS", date(2026, 1, 2), date(2026, 12, 31))
OTHER = MODELS | {"rnn": "rnn-2026-06-30-0d0d0d0d"}


def published(folder: Path, session: date, moment: datetime, models: dict[str, str] = MODELS) -> None:
    new = NewFiles(folder)
    new.put("predictions", str(session), predictions_of(session, models=models))
    publish(folder, new, facts_of(), champions=models, reason="test", code_version="0", now=moment)


def evening(session: date) -> datetime:
    return datetime.combine(session, time(22), UTC)


def test_what_counts_is_what_stood_when_the_next_session_opened(tmp_path: Path):
    monday, tuesday, wednesday, *_ = SESSIONS
    published(tmp_path, monday, evening(monday))
    published(tmp_path, monday, evening(monday) + timedelta(hours=1), OTHER)  # a rollback of the same evening
    published(tmp_path, tuesday, evening(tuesday))
    published(tmp_path, tuesday, evening(wednesday), OTHER)  # after the fact
    published(tmp_path, wednesday, evening(wednesday) + timedelta(days=3))  # a backfill
    rows, moments = said_each_evening(tmp_path, CALENDAR)
    assert moments == {monday: evening(monday) + timedelta(hours=1), tuesday: evening(tuesday)}
    versions = rows.filter(model="rnn").group_by("session").agg(pl.col("model_version").unique()).sort("session")
    assert versions["model_version"].to_list() == [[OTHER["rnn"]], [MODELS["rnn"]]]
    assert rows["status"].unique().to_list() == ["predicted"]
    assert said_each_evening(tmp_path, CALENDAR, first=tuesday)[1].keys() == {tuesday}
    assert said_each_evening(tmp_path, CALENDAR, last=monday)[1].keys() == {monday}


def test_nothing_is_said_where_nothing_is_published(tmp_path: Path):
    rows, moments = said_each_evening(tmp_path, CALENDAR)
    assert (rows.height, moments) == (0, {})
