"""The replay of every book reaches its tear sheet, over what was published in time and without a gap."""

from datetime import UTC, date, datetime, time
from pathlib import Path

import polars as pl
import pytest

from stock_assets.market.calendar import trading_calendar
from stock_assets.publication.materialize.replays import make_replayed_tear_sheets, newest_without_gap, replays_of
from stock_assets.publication.tables import PREDICTIONS_FILE
from stock_assets.publication.write import NewFiles, publish
from stock_assets.settings import Settings, read_settings
from stock_assets.storage.warehouse import Warehouse
from stock_assets.trading.materialize.ledger import make_ledger
from stock_assets.trading.materialize.targets import make_target_weights
from stock_assets_tests.publication.folders import facts_of
from stock_assets_tests.tables import rows_of
from stock_assets_tests.trading.test_backtest import BOOKS, write_market

CALENDAR = trading_calendar("XNYS", date(2026, 1, 2), date(2026, 12, 31))


def evening(session: date) -> datetime:
    return datetime.combine(session, time(23), UTC)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "books.toml").write_text(BOOKS)
    return read_settings(
        data_dir=tmp_path / "data",
        start=date(2022, 12, 1),
        first_model_year=2023,
        mlflow="off",
        context="off",
        books=tmp_path / "books.toml",
        paper_book="long",
    )


def publish_evening(settings: Settings, rows: pl.DataFrame, session: date) -> None:
    """Publishes `rows`, predictions of the store, on the evening of the session."""
    of_session = rows.filter(pl.col("session") == session).drop("session")
    absent = [pl.lit(None, dtype).alias(name) for name, dtype in PREDICTIONS_FILE.schema.items()]
    file = of_session.with_columns(column for column in absent if column.meta.output_name() not in of_session.columns)
    new = NewFiles(settings.published)
    new.put("predictions", str(session), PREDICTIONS_FILE.fit(file.with_columns(status=pl.lit("predicted"))))
    publish(
        settings.published,
        new,
        facts_of(),
        champions={"rnn": "v"},
        reason="test",
        code_version="0",
        now=evening(session),
    )


def test_what_was_published_each_evening_is_on_the_page(settings: Settings):
    store = Warehouse(settings.database)
    served = write_market(store, settings)
    store.append(
        "raw_ohlcv",
        rows_of(
            "raw_ohlcv", pl.DataFrame({"ticker": ["A"], "session": [served[0]], "fetched_at": [evening(served[0])]})
        ),
    )
    make_target_weights(store, settings, served)
    make_ledger(store, settings, served)
    assert replays_of(store, settings) == {}
    rows = store.read("predictions")
    # until the last three sessions the model turned its scores round, and nobody could act on the first evening
    turned = rows.with_columns(score=-pl.col("score"), p_sell="p_buy", p_buy="p_sell", model_version=pl.lit("old"))
    for session in (served[0], *served[2:-3]):
        publish_evening(settings, turned, session)
    for session in served[-3:]:
        publish_evening(settings, rows, session)
    replays = replays_of(store, settings)
    assert sorted(replays) == ["both", "long"]
    both = replays["both"]
    assert both.rows["session"].to_list() == [*served[2:]]
    assert both.changed_versions == len(served[2:-3]) * rows.filter(model="rnn")["ticker"].n_unique()
    assert both.by_models != 0
    sheets = make_replayed_tear_sheets(store, settings)
    value = {row["figure"]: row["value"] for row in sheets.table.filter(book="both").iter_rows(named=True)}
    assert value["hindsight of changed models"] == pytest.approx(both.by_models / 10_000)
    assert "No replay yet" not in (sheets.index.parent / "book_both.html").read_text()


def test_the_newest_sessions_without_a_gap_are_replayed():
    monday, tuesday, wednesday, thursday = CALENDAR.sessions[10:14]
    moments = {session: evening(session) for session in (monday, wednesday, thursday)}
    assert list(newest_without_gap(moments, CALENDAR)) == [wednesday, thursday]
    assert list(newest_without_gap({}, CALENDAR)) == []
    assert list(newest_without_gap(moments | {tuesday: evening(tuesday)}, CALENDAR)) == [
        monday,
        tuesday,
        wednesday,
        thursday,
    ]
