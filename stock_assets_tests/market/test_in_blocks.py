"""A range that does not fit into memory: fetched and cleaned some tickers at a time, it has the rows of one at once."""

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import calendar_of
from stock_assets.market.materialize import fetch
from stock_assets.market.materialize.clean import CleanedBars, clean_daily_bars
from stock_assets.market.materialize.fetch import FetchedBars, fetch_bars
from stock_assets.market.sources import Answer, Failure
from stock_assets.market.sources.simulated import SimulatedSource
from stock_assets.memory import Memory
from stock_assets.settings import Settings, read_settings
from stock_assets.storage import ranges
from stock_assets.storage.warehouse import Warehouse
from stock_assets_tests.tables import rows_of

TABLES = ("raw_ohlcv", "fetch_outcomes", "daily_bars", "quarantine", "restatements", "stored_partitions")


class Faulty(SimulatedSource):
    """The simulated market with a day on which it was closed, halted and renamed tickers and wrong figures."""

    def universe(self) -> pl.DataFrame:
        return super().universe().with_columns(pl.col("ticker").replace({"SIM07": "META"}))

    def fetch(self, tickers, first: date, last: date, *, fetched_at) -> Answer:
        asked = ["SIM07" if ticker == "META" else ticker for ticker in tickers]
        bars = super().fetch(asked, first, last, fetched_at=fetched_at).bars
        closed, sessions = self.calendar.sessions[40], self.calendar.sessions
        number = pl.col("ticker").str.slice(3).cast(pl.Int64) * 131 + pl.col("session").to_physical() * 7
        wrong = number % 997 == 0
        bars = bars.filter(pl.col("session") != closed, ~((pl.col("ticker") == "SIM09") & (number % 5 == 0)))
        bars = bars.with_columns(
            close=pl.when(wrong).then(pl.col("close") * 100).otherwise("close"),
            open=pl.when(number % 1009 == 0).then(0.0).otherwise("open"),
        )
        old = (pl.col("ticker") == "SIM07") & (pl.col("session") < sessions[30])
        named = pl.when(old).then(pl.lit("FB")).when(pl.col("ticker") == "SIM07").then(pl.lit("META"))
        bars = bars.with_columns(ticker=named.otherwise("ticker"))
        failures = {"SIM11": Failure("no answer")} if "SIM11" in tickers else {}
        return Answer(bars.filter(pl.col("ticker") != "SIM11").sort("ticker", "session"), failures)


def made(settings: Settings) -> tuple[FetchedBars, CleanedBars, CleanedBars, dict[str, pl.DataFrame]]:
    """All but the last sessions, then the last of them over again with restated figures."""
    store, calendar = Warehouse(settings.database), calendar_of(settings)
    source, days = Faulty(calendar), calendar.sessions
    store.replace_table("universe", rows_of("universe", source.universe()))
    now = calendar.closes[days[-1]] + timedelta(hours=20)
    fetched = fetch_bars(store, settings, source, sessions=days, now=now)
    first = clean_daily_bars(store, settings, days, now=now)
    changed = store.read("raw_ohlcv").filter(pl.col("session") > days[-90], pl.col("ticker") < "SIM20")
    again = changed.with_columns(pl.col("close") * 1.01, pl.col("fetched_at") + timedelta(hours=1))
    store.append("raw_ohlcv", again)
    second = clean_daily_bars(store, settings, days[-80:], now=now + timedelta(hours=2))
    tables = {name: store.read(name) for name in TABLES}
    return fetched, first, second, {name: rows.sort(rows.columns) for name, rows in tables.items()}


def test_bars_that_are_fetched_and_cleaned_in_blocks_are_those_of_a_range_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = {"start": date(2017, 10, 2), "end": date(2018, 9, 28), "max_failed_share": 0.1}
    at_once = made(read_settings(data_dir=tmp_path / "once", **plain))
    monkeypatch.setattr(ranges, "AT_ONCE", 0)
    monkeypatch.setattr(Memory, "at_once", 0)
    monkeypatch.setattr(Memory, "block", 250 * 9 * 8 * fetch._COLUMNS)  # nine tickers
    monkeypatch.setattr(fetch, "_AT_ONCE", 0)
    in_blocks = made(read_settings(data_dir=tmp_path / "blocks", **plain))
    for name in TABLES:
        assert_frame_equal(in_blocks[3][name], at_once[3][name], abs_tol=1e-12)
    assert at_once[3]["restatements"].height > 0
    assert at_once[3]["quarantine"].height > 0
    assert in_blocks[0]._replace(bars=at_once[0].bars) == at_once[0]
    assert in_blocks[0].bars.counts == at_once[0].bars.counts
    for blocks, once in zip(in_blocks[1:3], at_once[1:3], strict=True):
        assert blocks.restated == once.restated
        pairs = zip(
            blocks.bars.findings_of_checks(blocks.findings), once.bars.findings_of_checks(once.findings), strict=True
        )
        for ours, theirs in pairs:
            assert (ours.check, ours.blocking, ours.figures) == (theirs.check, theirs.blocking, theirs.figures)
            columns = ours.offenders.columns
            assert_frame_equal(ours.offenders.sort(columns), theirs.offenders.sort(columns))
    assert list(tmp_path.rglob("*.arrow")) == []
