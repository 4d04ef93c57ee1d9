"""The snapshot source: what it reads, in which dress, and how it refuses what is not prices."""

import os
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from stock_assets.errors import EmptySourceError, SourceError
from stock_assets.market.adjustments import clean_bars_and_findings
from stock_assets.market.calendar import trading_calendar
from stock_assets.market.sources.registry import make_source
from stock_assets.market.sources.snapshot import SnapshotSource
from stock_assets.market.tables import RAW_SCHEMA, UNIVERSE_SCHEMA
from stock_assets.settings import Settings
from stock_assets_tests.market.generators import universe_of

CALENDAR = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31))
SESSIONS = CALENDAR.between(date(2020, 8, 24), date(2020, 9, 4))  # two weeks, AAPL split 4:1 on 2020-08-31
FETCHED = datetime(2021, 3, 1, 12, tzinfo=UTC)


def bars(ticker: str, base: float, sessions: tuple[date, ...] = SESSIONS) -> pl.DataFrame:
    """Bars without corporate actions under our own names; the close rises by 1 a session from `base`."""
    close = [base + i for i in range(len(sessions))]
    return pl.DataFrame(
        {
            "ticker": ticker,
            "date": list(sessions),
            "open": [c - 0.5 for c in close],
            "high": [c + 1.0 for c in close],
            "low": [c - 1.0 for c in close],
            "close": close,
            "adj_close": [c * 0.99 for c in close],
            "volume": [1000.0 + i for i in range(len(sessions))],
        }
    )


def with_actions(frame: pl.DataFrame, dividends: dict[date, float], splits: dict[date, float]) -> pl.DataFrame:
    days = frame["date"]
    return frame.with_columns(
        dividends=pl.Series([dividends.get(day, 0.0) for day in days]),
        splits=pl.Series([splits.get(day, 0.0) for day in days]),
    )


TWO = pl.concat([bars("AAPL", 100.0), bars("MSFT", 200.0)])


def write(path: Path, frame: pl.DataFrame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def fetch(path: Path, *tickers: str, first: date = SESSIONS[0], last: date = SESSIONS[-1]) -> pl.DataFrame:
    return SnapshotSource(path, CALENDAR).fetch(tickers or ("AAPL", "MSFT"), first, last, fetched_at=FETCHED).bars


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv", "prices[1]*.csv"])
def test_a_file_is_returned_as_it_stands(tmp_path: Path, name: str) -> None:
    raw = fetch(write(tmp_path / name, TWO))

    assert raw.schema == RAW_SCHEMA
    expected = TWO.rename({"date": "session"})
    assert_frame_equal(raw.select(expected.columns), expected)
    assert raw["source"].unique().to_list() == ["snapshot"]
    assert raw["fetched_at"].unique().to_list() == [FETCHED]


def test_without_corporate_actions_the_adjusted_close_carries_the_return(tmp_path: Path) -> None:
    raw = fetch(write(tmp_path / "prices.parquet", TWO), first=SESSIONS[3])

    assert raw["dividend"].null_count() == raw["split_ratio"].null_count() == raw.height
    assert raw["later_splits"].unique().to_list() == [1.0]
    # the bar before the range counts, the bar of another ticker does not
    assert raw["previous_adj_close"].to_list() == [
        *((TWO["adj_close"][2:9]).to_list()),
        *((TWO["adj_close"][12:19]).to_list()),
    ]
    whole = fetch(tmp_path / "prices.parquet")
    assert whole.filter(pl.col("previous_adj_close").is_null()).select("ticker", "session").rows() == [
        ("AAPL", SESSIONS[0]),
        ("MSFT", SESSIONS[0]),
    ]


def test_later_splits_multiply_those_strictly_after_the_bar(tmp_path: Path) -> None:
    split, second = date(2020, 8, 31), date(2020, 9, 3)
    apple = with_actions(bars("AAPL", 100.0), {date(2020, 8, 27): 0.205}, {split: 4.0, second: 1.5})
    other = with_actions(bars("MSFT", 200.0), {}, {})
    path = write(tmp_path / "prices.parquet", pl.concat([apple, other]))

    raw = fetch(path, "AAPL")
    later = dict(raw.select("session", "later_splits").iter_rows())
    assert later == {day: 6.0 if day < split else 1.5 if day < second else 1.0 for day in SESSIONS}
    assert dict(raw.select("session", "split_ratio").iter_rows()) == {
        day: {split: 4.0, second: 1.5}.get(day, 1.0) for day in SESSIONS
    }
    assert raw.filter(pl.col("dividend") != 0).select("session", "dividend").rows() == [(date(2020, 8, 27), 0.205)]
    assert fetch(path, "MSFT")["later_splits"].unique().to_list() == [1.0]


def test_a_split_after_the_range_the_end_and_the_fetch_is_still_undone(tmp_path: Path) -> None:
    apple = with_actions(bars("AAPL", 100.0), {}, {date(2020, 8, 31): 4.0})
    path = write(tmp_path / "prices.parquet", apple)
    source = SnapshotSource(path, CALENDAR, end=date(2020, 8, 28))

    raw = source.fetch(["AAPL"], SESSIONS[0], SESSIONS[-1], fetched_at=datetime(2020, 8, 26, 22, tzinfo=UTC)).bars

    assert raw["session"].to_list() == [date(2020, 8, 24), date(2020, 8, 25), date(2020, 8, 26)]
    assert raw["later_splits"].to_list() == [4.0] * 3  # the vendor's close is adjusted for it


def test_session_by_session_equals_the_range(tmp_path: Path) -> None:
    frame = pl.concat(
        [
            with_actions(bars("AAPL", 100.0), {date(2020, 8, 27): 0.2}, {date(2020, 8, 31): 4.0}),
            with_actions(bars("MSFT", 200.0, SESSIONS[2:7]), {}, {}),
        ]
    )
    path = write(tmp_path / "prices.parquet", frame)
    days = pl.concat([fetch(path, first=day, last=day) for day in SESSIONS])
    assert_frame_equal(days.sort("ticker", "session"), fetch(path))


def test_the_order_of_rows_across_tickers_does_not_matter(tmp_path: Path) -> None:
    by_ticker = write(tmp_path / "by_ticker.parquet", TWO)
    by_day = write(tmp_path / "by_day.parquet", TWO.sort("date", "ticker", descending=[False, True]))
    assert_frame_equal(fetch(by_day), fetch(by_ticker))


def yahoo_csv(path: Path) -> None:
    """yfinance's history().to_csv(): a midnight of New York per row."""
    frame = with_actions(bars("AAPL", 100.0), {date(2020, 8, 27): 0.205}, {date(2020, 8, 31): 4.0})
    write(
        path / "AAPL.csv",
        frame.select(
            pl.format("{} 00:00:00-04:00", "date").alias("Date"),
            Open="open",
            High="high",
            Low="low",
            Close="close",
            **{
                "Adj Close": "adj_close",
                "Volume": "volume",
                "Dividends": "dividends",
                "Stock Splits": "splits",
            },
        ),
    )


def datareader_csv(path: Path) -> None:
    """pandas-datareader's Yahoo panel, stacked."""
    write(
        path / "stacked.csv",
        TWO.select(
            Date="date",
            Symbols="ticker",
            **{"Adj Close": "adj_close"},
            Close="close",
            High="high",
            Low="low",
            Open="open",
            Volume="volume",
        ),
    )


def stooq_folder(path: Path) -> None:
    """Stooq's bulk download: a file per ticker in folders within folders, adjusted close only."""
    for frame in TWO.partition_by("ticker"):
        ticker = frame["ticker"][0]
        rows = frame.select(
            pl.format("{}.US", "ticker").alias("<TICKER>"),
            pl.lit("D").alias("<PER>"),
            pl.col("date").dt.strftime("%Y%m%d").alias("<DATE>"),
            pl.lit("000000").alias("<TIME>"),
            *(pl.col(c).alias(f"<{c.upper()}>") for c in ("open", "high", "low", "close")),
            pl.col("volume").alias("<VOL>"),
            pl.lit(0).alias("<OPENINT>"),
        )
        write(path / "nasdaq stocks" / "1" / f"{ticker.lower()}.us.txt", rows)
    (path / "nasdaq stocks" / "readme.md").write_text("not a data file")
    (path / ".hidden.csv").write_text("not a data file")


def files_without_tickers(path: Path) -> None:
    for frame in TWO.partition_by("ticker"):
        write(path / f"{frame['ticker'][0].lower()}.us.csv", frame.drop("ticker"))


def pandas_parquet(path: Path) -> None:
    """A time-zone aware index, as pandas stores it: instants of UTC and the zone's name."""
    stamped = TWO.with_columns(pl.col("date").cast(pl.Datetime("ns")).dt.replace_time_zone("America/New_York"))
    write(path / "all.parquet", stamped.rename({"date": "Date", "adj_close": "AdjClose"}))


def integer_parquet(path: Path) -> None:
    numbers = TWO.with_columns(
        pl.col("date").dt.strftime("%Y%m%d").cast(pl.Int64),
        pl.col("volume").cast(pl.Int64),
        pl.col("close").cast(pl.Float32),
    )
    write(path / "all.parquet", numbers)


def byte_order_mark(path: Path) -> None:
    (path / "all.csv").write_bytes(b"\xef\xbb\xbf" + TWO.write_csv().encode())


@pytest.mark.parametrize(
    "dress",
    [
        yahoo_csv,
        datareader_csv,
        stooq_folder,
        files_without_tickers,
        pandas_parquet,
        integer_parquet,
        byte_order_mark,
    ],
)
def test_every_dress_holds_the_same_bars(tmp_path: Path, dress: Callable[[Path], None]) -> None:
    dress(tmp_path)
    tickers = ("AAPL",) if dress is yahoo_csv else ("AAPL", "MSFT")

    raw = fetch(tmp_path, *tickers)

    expected = TWO.rename({"date": "session"}).filter(pl.col("ticker").is_in(tickers))
    if dress is stooq_folder:  # its close is adjusted already
        expected = expected.with_columns(adj_close="close")
    assert_frame_equal(raw.select(expected.columns), expected)
    assert raw["split_ratio"].null_count() == (0 if dress is yahoo_csv else raw.height)


def test_universe_spans_first_to_last_bar(tmp_path: Path) -> None:
    frame = pl.concat([bars("LATE", 5.0, SESSIONS[4:]), bars("GONE", 5.0, SESSIONS[:6]), bars("AAPL", 5.0)])
    path = write(tmp_path / "prices.parquet", frame)

    universe = SnapshotSource(path, CALENDAR).universe()

    assert universe.schema == UNIVERSE_SCHEMA
    assert universe.rows() == [
        ("AAPL", "AAPL", None, SESSIONS[0], None),
        ("GONE", "GONE", None, SESSIONS[0], SESSIONS[5]),
        ("LATE", "LATE", None, SESSIONS[4], None),
    ]
    chosen = SnapshotSource(path, CALENDAR, tickers=("GONE",), end=SESSIONS[4]).universe()
    assert chosen.rows() == [("GONE", "GONE", None, SESSIONS[0], None)]  # the end was not yet known
    # gone within the snapshot, though it is the last ticker chosen
    assert SnapshotSource(path, CALENDAR, tickers=("GONE",)).universe()["to_session"].to_list() == [SESSIONS[5]]


@pytest.mark.parametrize("name", ["prices.parquet", "prices.csv"])
def test_a_sector_that_rows_state_is_the_tickers(tmp_path: Path, name: str) -> None:
    moved = pl.Series(["Technology"] * 6 + ["Communication"] * 2 + [" ", None])
    frame = pl.concat(
        [bars("AAPL", 5.0).with_columns(sector=moved), bars("MSFT", 5.0).with_columns(sector=pl.lit(None, pl.String))]
    )
    path = write(tmp_path / name, frame.rename({"sector": "GICS Sector"}))

    assert SnapshotSource(path, CALENDAR).universe()["sector"].to_list() == ["Communication", None]
    before = SnapshotSource(path, CALENDAR, end=SESSIONS[5]).universe()  # the move was not yet known
    assert before["sector"].to_list() == ["Technology", None]
    assert fetch(path).schema == RAW_SCHEMA


def test_of_two_files_one_may_state_sectors(tmp_path: Path) -> None:
    write(tmp_path / "aapl.csv", bars("AAPL", 5.0).with_columns(sector=pl.lit("Technology")))
    write(tmp_path / "msft.csv", bars("MSFT", 5.0))
    assert SnapshotSource(tmp_path, CALENDAR).universe().select("ticker", "sector").rows() == [
        ("AAPL", "Technology"),
        ("MSFT", None),
    ]


def test_rows_outside_calendar_and_end_do_not_exist(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.parquet", pl.concat([bars("OLD", 5.0, SESSIONS[:2]), bars("AAPL", 5.0)]))
    calendar = trading_calendar("XNYS", SESSIONS[2], date(2020, 12, 31))
    source = SnapshotSource(path, calendar, end=SESSIONS[7])

    assert source.universe().rows() == [("AAPL", "AAPL", None, SESSIONS[2], None)]
    raw = source.fetch(["AAPL"], date(2020, 1, 2), date(2020, 12, 31), fetched_at=FETCHED).bars
    assert raw["session"].to_list() == list(SESSIONS[2:8])
    assert raw["previous_adj_close"][0] == pytest.approx(6.0 * 0.99)
    with pytest.raises(SourceError, match=r"has no bar of OLD from 2020-08-26 to 2020-09-02; it has AAPL"):
        source.fetch(["OLD"], SESSIONS[2], SESSIONS[3], fetched_at=FETCHED)
    with pytest.raises(EmptySourceError, match=r"has bars from 2020-08-24 to 2020-09-04, none from 2020-10-01"):
        SnapshotSource(path, trading_calendar("XNYS", date(2020, 10, 1), date(2020, 12, 31))).universe()


def test_a_range_without_bars_is_an_error_and_a_holiday_is_none(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.parquet", TWO)
    with pytest.raises(EmptySourceError, match=r"no bar from 2020-09-08 on, its bars end on 2020-09-04: set"):
        fetch(path, "AAPL", first=date(2020, 9, 8), last=date(2020, 9, 9))
    other = write(tmp_path / "gap.parquet", pl.concat([bars("AAPL", 100.0, SESSIONS[:2]), bars("MSFT", 200.0)]))
    with pytest.raises(EmptySourceError, match=r"snapshot has no bar from 2020-08-26 to 2020-08-27 of AAPL"):
        fetch(other, "AAPL", first=SESSIONS[2], last=SESSIONS[3])
    weekend = fetch(path, "AAPL", first=date(2020, 8, 29), last=date(2020, 8, 30))
    assert weekend.is_empty()
    assert weekend.schema == RAW_SCHEMA


def test_a_changed_file_is_read_again_and_an_unchanged_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "prices.parquet", TWO)
    assert fetch(path, "AAPL")["close"][0] == 100.0
    with monkeypatch.context() as patch:
        patch.setattr(pl, "scan_parquet", None)
        assert fetch(path, "AAPL")["close"][0] == 100.0
    write(path, pl.concat([bars("AAPL", 300.0), bars("MSFT", 200.0)]))
    assert fetch(path, "AAPL")["close"][0] == 300.0


# Everything below is refused: (what is done to the file, what the message says)

DAY = SESSIONS[3]  # 2020-08-27, row 4 of AAPL


def spoiled(column: str, value: object) -> pl.DataFrame:
    """TWO with one value of MSFT's fourth row replaced; row 14 of the file."""
    here = (pl.col("ticker") == "MSFT") & (pl.col("date") == DAY)
    return TWO.with_columns(pl.when(here).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("close", -1.0),
        ("open", 0.0),
        ("high", float("nan")),
        ("low", None),
        ("adj_close", float("inf")),
        ("volume", -5.0),
        ("volume", None),
    ],
)
@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_a_row_without_a_price_is_held_out_later_and_the_next_leads_on(
    tmp_path: Path, name: str, column: str, value: object
) -> None:
    raw = fetch(write(tmp_path / name, spoiled(column, value)))
    msft = raw.filter(pl.col("ticker") == "MSFT")
    assert msft["session"].to_list() == list(SESSIONS)
    assert msft["previous_adj_close"][4] == msft["adj_close"][2]
    assert raw.filter(pl.col("ticker") == "AAPL").equals(
        fetch(write(tmp_path / "right.csv", bars("AAPL", 100.0)), "AAPL")
    )
    clean, findings = clean_bars_and_findings(raw, universe_of(raw), SESSIONS)
    assert findings.select("ticker", "session", "kind", "column").rows() == [("MSFT", DAY, "no_price", column)]
    assert clean.height == raw.height - 1


@pytest.mark.parametrize(
    ("column", "value", "found"),
    [("dividends", -0.1, "-0.1"), ("splits", -2.0, "-2.0"), ("splits", "4:1", "'4:1'")],
)
def test_an_action_that_is_none_is_named(tmp_path: Path, column: str, value: object, found: str) -> None:
    frame = with_actions(bars("AAPL", 100.0), {}, {}).with_columns(pl.col("dividends", "splits").cast(pl.String))
    here = pl.when(pl.col("date") == DAY).then(pl.lit(str(value))).otherwise(pl.col(column))
    path = write(tmp_path / "prices.csv", frame.with_columns(here.alias(column)))
    ours = {"dividends": "dividend", "splits": "split_ratio"}[column]
    with pytest.raises(SourceError, match=rf"row 4, .* 2020-08-27, column {ours}: found '?{found.strip(chr(39))}"):
        fetch(path, "AAPL")


def test_an_empty_action_is_no_action(tmp_path: Path) -> None:
    frame = with_actions(bars("AAPL", 100.0), {}, {}).with_columns(
        dividends=pl.lit(None, pl.Float64), splits=pl.lit(None, pl.Float64)
    )
    raw = fetch(write(tmp_path / "prices.csv", frame), "AAPL")
    assert (raw["dividend"].unique().to_list(), raw["split_ratio"].unique().to_list()) == ([0.0], [1.0])


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet"])
def test_text_in_a_price_column_is_shown(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, spoiled("close", "1o1"))
    with pytest.raises(SourceError, match=r"row 14, ticker MSFT, session 2020-08-27, column close: found '1o1'"):
        fetch(path)


def test_a_date_that_cannot_be_read_is_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", spoiled("date", "27/08/2020"))
    message = r"row 14, ticker MSFT, session None, column session: found '27/08/2020', expected a date such as"
    with pytest.raises(SourceError, match=message):
        fetch(path)


def test_a_row_without_ticker_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", spoiled("ticker", None))
    with pytest.raises(SourceError, match=r"row 14, ticker None, session 2020-08-27, column ticker: found nothing"):
        fetch(path)


@pytest.mark.parametrize("order", [[0, 2, 1, *range(3, 20)], [*range(19, -1, -1)]], ids=["swapped", "newest first"])
def test_the_order_of_rows_does_not_matter(tmp_path: Path, order: list[int]) -> None:
    path = write(tmp_path / "prices.parquet", TWO[order])
    assert_frame_equal(fetch(path), fetch(write(tmp_path / "sorted.parquet", TWO)))


def findings_of(path: Path, **options: Any) -> list[tuple]:
    source = SnapshotSource(path, CALENDAR, **options)
    tickers = source.universe()["ticker"].to_list()
    answer = source.fetch(tickers, SESSIONS[0], SESSIONS[-1], fetched_at=FETCHED)
    return answer.findings.select("ticker", "session", "kind", "found", "expected", "repaired").rows()


def test_the_same_row_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path / "one.csv", TWO)
    write(tmp_path / "two.csv", TWO[[9]])
    close = TWO["close"][9]
    assert findings_of(tmp_path) == [("AAPL", TWO["date"][9], "repeated", close, close, True)]
    assert fetch(tmp_path).height == TWO.height


def test_of_two_different_rows_of_a_session_none_counts(tmp_path: Path) -> None:
    close = TWO["close"][9]
    write(tmp_path / "prices.csv", pl.concat([TWO[:10], TWO[[9]].with_columns(pl.col("close") + 0.5), TWO[10:]]))
    assert findings_of(tmp_path / "prices.csv") == [("AAPL", TWO["date"][9], "repeated", close + 0.5, close, False)]
    assert fetch(tmp_path / "prices.csv").height == TWO.height - 1


def test_a_history_that_comes_twice_with_other_figures_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "one.csv", TWO)
    write(tmp_path / "two.csv", TWO.with_columns(pl.col("close") + 0.5))
    with pytest.raises(
        SourceError, match=r"20 of 40 rows are no bars, .*AAPL 2020-08-24: a second row of this session"
    ):
        fetch(tmp_path)


@pytest.mark.parametrize("day", [date(2020, 8, 29), date(2020, 7, 3)])  # July 4 was observed on the 3rd
def test_a_row_of_a_day_without_a_session_is_held_out(tmp_path: Path, day: date) -> None:
    frame = pl.concat([TWO, bars("MSFT", 5.0, (day,))]).sort("ticker", "date")
    path = write(tmp_path / "prices.parquet", frame)
    assert fetch(path).equals(fetch(write(tmp_path / "right.parquet", TWO)))
    within = SESSIONS[0] <= day <= SESSIONS[-1]
    assert [row[:3] for row in findings_of(path)] == ([("MSFT", day, "no_session")] if within else [])


def test_many_days_without_a_session_are_those_of_another_exchange(tmp_path: Path) -> None:
    weekends = tuple(date(2020, 8, day) for day in (22, 23, 29, 30))
    path = write(tmp_path / "prices.parquet", pl.concat([TWO, bars("BTC", 5.0, weekends)]))
    message = r"rows on 4 of 14 days on which XNYS was closed: Saturday 2020-08-22; .*STOCK_ASSETS_EXTRA_SESSIONS"
    with pytest.raises(SourceError, match=message):
        fetch(path)


def test_too_many_rows_without_a_price_are_named_in_one_message(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.csv", TWO.with_columns(open=None))
    with pytest.raises(SourceError) as error:
        fetch(path)
    assert f"{TWO.height} of {TWO.height} rows are no bars" in str(error.value)
    assert all(f"AAPL {day}: open is missing" in str(error.value) for day in SESSIONS)


def test_a_ticker_without_any_volume_has_none(tmp_path: Path) -> None:
    path = write(tmp_path / "EURUSD.csv", bars("EURUSD", 1.1).with_columns(volume=None))
    assert fetch(path, "EURUSD")["volume"].to_list() == [0.0] * 10


def test_the_file_of_a_missing_cell(bug_file) -> None:
    source = SnapshotSource(bug_file("one_missing_cell"), trading_calendar("XNYS", date(2018, 1, 2)))
    raw = source.fetch(["T0"], date(2018, 1, 2), date(2018, 1, 4), fetched_at=FETCHED).bars
    clean, findings = clean_bars_and_findings(raw, universe_of(raw), source.calendar.sessions[:3])
    assert clean["session"].to_list() == [date(2018, 1, 2), date(2018, 1, 4)]
    assert findings.select("kind", "column").rows() == [("no_price", "open")]


@pytest.mark.parametrize("column", ["date", "open", "close", "volume"])
def test_a_missing_column_is_named(tmp_path: Path, column: str) -> None:
    path = write(tmp_path / "prices.parquet", TWO.drop(column))
    ours = "session" if column == "date" else column
    with pytest.raises(SourceError, match=rf"has no column {ours}; found ticker, "):
        fetch(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.with_columns(Close="close"), "has two columns for close: 'close' and 'Close'"),
        (lambda f: f.with_columns(dividends=0.0), "has dividends alone and no column of splits"),
        (lambda f: f.with_columns(splits=0.0), "has splits alone and no column of dividends"),
        (lambda f: f.drop("adj_close").with_columns(dividends=0.1, splits=0.0), "its close may be adjusted"),
        (lambda f: f.clear(), "has no rows, expected bars"),
    ],
)
def test_columns_that_do_not_add_up_are_refused(
    tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], message: str
) -> None:
    frame = TWO.with_columns(extra=pl.lit("x"))
    path = write(tmp_path / "prices.parquet", change(frame))
    with pytest.raises(SourceError, match=message):
        fetch(path)


def cut(path: Path) -> Path:
    write(path / "cut.parquet", TWO)
    content = (path / "cut.parquet").read_bytes()
    (path / "cut.parquet").write_bytes(content[: len(content) // 2])
    return path / "cut.parquet"


def damaged(path: Path) -> Path:
    """The footer is right, the data are not."""
    write(path / "damaged.parquet", TWO)
    content = bytearray((path / "damaged.parquet").read_bytes())
    content[4:2000] = b"\xff" * 1996
    (path / "damaged.parquet").write_bytes(content)
    return path / "damaged.parquet"


def ragged(path: Path) -> Path:
    (path / "ragged.csv").write_text(TWO.write_csv() + "MSFT,2020-09-08,1,2,3,4,5,6,7,8,9\n")
    return path / "ragged.csv"


def binary(path: Path) -> Path:
    (path / "binary.csv").write_bytes(b"date,open,high,low,close,volume\n" + bytes(range(128, 256)) * 40)
    return path / "binary.csv"


def touched(path: Path, name: str = "empty.csv") -> Path:
    (path / name).touch()
    return path / name


def fifo(path: Path) -> Path:
    os.mkfifo(path / "fifo.csv")
    return path / "fifo.csv"


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (cut, SourceError, r"cut\.parquet cannot be read as Parquet: "),
        (damaged, SourceError, r"damaged\.parquet cannot be read as Parquet: "),
        (ragged, SourceError, r"ragged\.csv, row 22: found 11 cells \(MSFT, 2020-09-08, .* expected 8, as its columns"),
        (binary, SourceError, r"binary\.csv"),
        (touched, EmptySourceError, r"empty\.csv is empty, expected bars"),
        (lambda p: touched(p, "empty.parquet"), EmptySourceError, r"empty\.parquet is empty, expected bars"),
        (lambda p: touched(p, "empty.xlsx"), EmptySourceError, r"empty\.xlsx is empty"),
        (lambda p: write(p / "prices.xlsx", TWO), SourceError, r"prices\.xlsx cannot be read as Excel: "),
        (lambda p: write(p / "prices.doc", TWO), SourceError, r"ends in '\.doc', expected \.parquet"),
        (lambda p: touched(p).parent, EmptySourceError, r"/empty\.csv is empty, expected bars"),
        (lambda p: p, EmptySourceError, r"holds no file named \.parquet"),
        (lambda p: p / "absent.parquet", SourceError, r"absent\.parquet cannot be read \(.*No such file"),
        (lambda p: touched(p) / "under.csv", SourceError, r"under\.csv cannot be read \(.*Not a directory"),
        (lambda p: p / ("x" * 300), SourceError, r"cannot be read \(.*name too long"),
        (lambda p: p / "null\0.csv", SourceError, r"cannot be read \(embedded null"),
        (fifo, SourceError, r"fifo\.csv is neither a file nor a folder"),
    ],
)
def test_what_cannot_be_read_is_one_clear_error(
    tmp_path: Path, make: Callable[[Path], Path], kind: type[SourceError], message: str
) -> None:
    path = make(tmp_path)
    with pytest.raises(kind, match=message):
        fetch(path)
    with pytest.raises(kind, match=message):
        SnapshotSource(path, CALENDAR).universe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("locked", ["prices.csv", "."])
def test_a_path_without_permission_is_refused(tmp_path: Path, locked: str) -> None:
    write(tmp_path / "folder" / "prices.csv", TWO)
    target = tmp_path / "folder" / locked
    target.chmod(0)
    try:
        with pytest.raises(SourceError, match=r"cannot be read"):
            fetch(tmp_path)
    finally:
        target.chmod(0o700)


def test_an_unknown_ticker_is_named_with_those_that_exist(tmp_path: Path) -> None:
    many = pl.concat([bars(f"T{i}", 5.0) for i in range(8)])
    path = write(tmp_path / "prices.parquet", many)
    message = r"prices\.parquet has no bar of XXX from .*; it has T0, T1, T2, T3, T4, … \(8 in all\)"
    with pytest.raises(SourceError, match=message):
        SnapshotSource(path, CALENDAR, tickers=("T1", "XXX")).universe()
    with pytest.raises(SourceError, match=message):
        fetch(path, "T1", "XXX")


def test_a_reversed_range_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.parquet", TWO)
    with pytest.raises(SourceError, match="2020-09-04, lies after the last, 2020-08-24"):
        fetch(path, first=SESSIONS[-1], last=SESSIONS[0])


def test_a_fetch_needs_a_time_zone(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.parquet", TWO)
    with pytest.raises(ValueError, match="has no time zone; expected UTC"):
        SnapshotSource(path, CALENDAR).fetch(["AAPL"], SESSIONS[0], SESSIONS[1], fetched_at=datetime(2021, 3, 1))


def test_the_factory_passes_the_settings_on(tmp_path: Path) -> None:
    path = write(tmp_path / "prices.parquet", TWO)
    settings = Settings(source="snapshot", snapshot=path, start=SESSIONS[1], tickers=("MSFT",))
    settings = settings.model_copy(update={"end": SESSIONS[5]})  # too short for a model year, which is not asked here
    assert make_source(settings).universe().rows() == [("MSFT", "MSFT", None, SESSIONS[1], None)]


@pytest.mark.parametrize(("source", "name"), [("simulated", "simulated"), ("yahoo", "yahoo")])
def test_the_factory_makes_every_source(source: str, name: str) -> None:
    assert make_source(Settings(source=source, start=date(2020, 1, 2))).name == name  # pyright: ignore[reportArgumentType]


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "rows", "tickers", "span"),
    [
        ("yahoo_sp500_2010_2019.parquet", 1_208_652, 502, (date(2010, 1, 4), date(2019, 12, 31))),
        (
            "yahoo_102_tickers_with_actions_2016_2026.parquet",
            256_209,
            102,
            (date(2016, 3, 14), date(2026, 3, 13)),
        ),
    ],
)
def test_real_files_load_whole(
    real_data: Callable[[str], Path], name: str, rows: int, tickers: int, span: tuple[date, date]
) -> None:
    source = SnapshotSource(real_data(name), trading_calendar("XNYS", date(2010, 1, 1)))
    universe = source.universe()
    raw = source.fetch(
        universe["ticker"].to_list(), date(2010, 1, 1), date(2026, 12, 31), fetched_at=datetime(2027, 1, 1, tzinfo=UTC)
    ).bars
    assert (universe.height, raw.height) == (tickers, rows)
    assert (raw["session"].min(), raw["session"].max()) == span
    assert raw["previous_adj_close"].null_count() == tickers  # the first bar of each


@pytest.mark.real_data
def test_real_splits_lead_back_to_the_traded_close(real_data: Callable[[str], Path]) -> None:
    path = real_data("yahoo_102_tickers_with_actions_2016_2026.parquet")
    source = SnapshotSource(path, trading_calendar("XNYS", date(2016, 1, 1)))
    fetched = datetime(2026, 4, 1, tzinfo=UTC)
    raw = source.fetch(["AAPL", "TSLA"], date(2020, 8, 28), date(2020, 8, 31), fetched_at=fetched).bars
    traded = raw.select("ticker", "session", close=(pl.col("close") * pl.col("later_splits")).round(2)).rows()
    # as printed on the evening of the day; Tesla split again, 3 for 1, in 2022
    assert traded == [
        ("AAPL", date(2020, 8, 28), 499.23),
        ("AAPL", date(2020, 8, 31), 129.04),
        ("TSLA", date(2020, 8, 28), 2213.40),
        ("TSLA", date(2020, 8, 31), 498.32),
    ]
