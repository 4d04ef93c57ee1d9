"""The simulated market below a day against its written laws."""

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from stock_assets.errors import SourceError
from stock_assets.market.bars_of_minutes import in_bars
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.intervals import Interval, expected_bars
from stock_assets.market.sources import IntradaySource
from stock_assets.market.sources.registry import make_source
from stock_assets.market.sources.simulated_bars import COMPANIES, SimulatedBars
from stock_assets.market.sources.simulated_companies import TICKERS
from stock_assets.settings import read_settings

ALWAYS = trading_calendar("24/7", date(2025, 6, 1), date(2025, 6, 20))
NEW_YORK = trading_calendar("XNYS", date(2025, 3, 3), date(2025, 3, 14))
ALL = TICKERS[:COMPANIES]
NEVER = datetime(2030, 1, 1, tzinfo=UTC)


def market(calendar: TradingCalendar = ALWAYS, interval: str = "1m", seed: int = 0) -> SimulatedBars:
    return SimulatedBars(calendar, Interval.parse(interval), seed)


def test_the_settings_choose_it():
    source = make_source(read_settings(interval="5m", exchange="24/7", start=date(2025, 6, 1)))
    assert isinstance(source, SimulatedBars)
    assert isinstance(source, IntradaySource)
    assert not isinstance(make_source(read_settings()), IntradaySource)


def test_a_day_alone_is_the_day_of_a_range_and_of_another_process():
    whole = market().fetch_bars(ALL, date(2025, 6, 1), date(2025, 6, 6), fetched_at=NEVER).bars
    alone = market().fetch_bars(ALL, date(2025, 6, 6), date(2025, 6, 6), fetched_at=NEVER).bars
    assert alone.equals(whole.filter(pl.col("session") == date(2025, 6, 6)))


@pytest.mark.parametrize("minute", [0, 1, 2, 719, 1440])
def test_an_unfinished_bar_is_no_part_of_the_answer_and_nothing_later_matters(minute: int):
    day = date(2025, 6, 5)
    moment = datetime(2025, 6, 5, tzinfo=UTC) + timedelta(minutes=minute, seconds=59)
    whole = market().fetch_bars(ALL, day, day, fetched_at=NEVER).bars
    seen = market().fetch_bars(ALL, day, day, fetched_at=moment).bars
    assert seen.equals(whole.filter(pl.col("bar_end") <= moment))


@pytest.mark.parametrize(("calendar", "session"), [(ALWAYS, date(2025, 6, 5)), (NEW_YORK, date(2025, 3, 10))])
@pytest.mark.parametrize("interval", ["5m", "1h"])
def test_longer_bars_are_made_of_the_minutes_within_them(calendar: TradingCalendar, session: date, interval: str):
    minutes = market(calendar).fetch_bars(ALL, session, session, fetched_at=NEVER).bars
    bars = market(calendar, interval).fetch_bars(ALL, session, session, fetched_at=NEVER).bars
    length, opened = Interval.parse(interval).length, calendar.opens[session]
    for row in bars.filter(pl.col("ticker").is_in(["SIM01", "SIM09"])).iter_rows(named=True):
        begin = opened + (row["bar_end"] - opened - timedelta(seconds=1)) // length * length
        within = minutes.filter(
            pl.col("ticker") == row["ticker"], pl.col("bar_end") > begin, pl.col("bar_end") <= row["bar_end"]
        )
        assert row["open"] == within["open"][0]
        assert row["close"] == within["close"][-1]
        assert (row["high"], row["low"]) == (within["high"].max(), within["low"].min())
        assert row["volume"] == pytest.approx(within["volume"].sum())


def test_the_session_of_new_york_moves_with_daylight_saving():
    bars = market(NEW_YORK).fetch_bars(ALL, date(2025, 3, 7), date(2025, 3, 10), fetched_at=NEVER).bars
    firsts = bars.group_by("session").agg(pl.col("bar_end").min(), last=pl.col("bar_end").max()).sort("session")
    assert [f"{each:%H:%M}" for each in firsts["bar_end"]] == ["14:31", "13:31"]
    assert [f"{each:%H:%M}" for each in firsts["last"]] == ["21:00", "20:00"]


@pytest.mark.parametrize(("interval", "missing"), [("1m", 60), ("5m", 12), ("1h", 0)])
def test_tokyo_rests_at_noon_and_no_bar_is_expected_then(interval: str, missing: int):
    """The times of the rest are those of the exchange; a bar that begins before it is none of it."""
    day = date(2024, 1, 5)
    tokyo = trading_calendar("XTKS", date(2024, 1, 4), date(2024, 1, 12))
    rest = tokyo.rests[day]
    assert rest == (datetime(2024, 1, 5, 2, 30, tzinfo=UTC), datetime(2024, 1, 5, 3, 30, tzinfo=UTC))  # 11:30 to 12:30
    length = Interval.parse(interval).length
    expected = expected_bars(tokyo, [day], Interval.parse(interval))["bar_end"]
    assert len(expected) == -(-timedelta(hours=6) // length) - missing
    assert not ((expected > rest[0] + length / 2) & (expected <= rest[1]) & (expected - length >= rest[0])).any()
    bars = market(tokyo, interval).fetch_bars(ALL[:5], day, day, fetched_at=NEVER).bars
    assert set(bars["bar_end"]) <= set(expected)
    moments = pl.datetime_range(tokyo.opens[day], tokyo.closes[day], "1m", closed="left", eager=True)
    placed = in_bars(pl.DataFrame({"at": moments}), tokyo, Interval.parse(interval))
    assert sorted(placed["bar_end"].unique()) == sorted(expected)


def test_a_ticker_is_listed_at_noon_of_the_fourth_session():
    bars = market().fetch_bars(["SIM20"], date(2025, 6, 1), date(2025, 6, 5), fetched_at=NEVER).bars
    assert bars["bar_end"].min() == datetime(2025, 6, 4, 12, 1, tzinfo=UTC)
    universe = {row["ticker"]: row["from_session"] for row in market().universe().iter_rows(named=True)}
    assert universe["SIM20"] == date(2025, 6, 4)


def test_few_bars_are_missing_and_none_is_out_of_place():
    sessions = ALWAYS.sessions[:10]
    bars = market().fetch_bars(ALL[:19], sessions[0], sessions[-1], fetched_at=NEVER).bars
    expected = expected_bars(ALWAYS, sessions, Interval.parse("1m"))
    assert bars.join(expected, on=["session", "bar_end"], how="anti").is_empty()
    share = bars.height / (19 * expected.height)
    assert 0.99 < share < 1


def test_the_planted_reversal_is_the_mean_of_what_follows():
    """A regression of what came on the written mean has the slope 1, and explains what the laws say it does."""
    sessions, horizon = ALWAYS.sessions[:12], 7
    bars = market().fetch_bars(ALL, sessions[0], sessions[-1], fetched_at=NEVER).bars
    known = market().expected_returns(sessions, horizon)
    log = pl.col("close").log()
    came = bars.with_columns(
        came=log.shift(-horizon).over("ticker", "session") - log,
        later=pl.col("bar_end").shift(-horizon).over("ticker", "session") - pl.col("bar_end"),
    ).filter(pl.col("later") == timedelta(minutes=horizon))
    both = came.join(known, on=["ticker", "session", "bar_end"])
    slope, share = both.select(
        slope=(pl.col("came") * pl.col("expected_return")).sum() / (pl.col("expected_return") ** 2).sum(),
        share=pl.corr("came", "expected_return") ** 2,
    ).row(0)
    assert slope == pytest.approx(1, abs=0.05)
    # 0.04² · (4 · 7² + 6² + 5² + 4² + 3² + 2² + 1²) of the known part, over a bit less than 7 of the whole
    assert 0.05 < share < 0.1


def test_volatility_is_a_u_over_the_session():
    bars = market().fetch_bars(ALL, date(2025, 6, 1), date(2025, 6, 12), fetched_at=NEVER).bars
    moves = (
        bars.with_columns(move=(pl.col("close") / pl.col("open")).log() ** 2, hour=pl.col("bar_end").dt.hour())
        .group_by("hour")
        .agg(pl.col("move").mean())
    )
    by_hour = dict(moves.iter_rows())
    assert by_hour[1] > 3 * by_hour[12]
    assert by_hour[22] > 3 * by_hour[12]


def test_another_seed_is_another_market_and_an_unknown_ticker_an_error():
    day = date(2025, 6, 3)
    closes = [market(seed=seed).fetch_bars(["SIM01"], day, day, fetched_at=NEVER).bars["close"][0] for seed in (0, 1)]
    assert closes[0] != closes[1]
    with pytest.raises(SourceError, match="has no ticker SIM21 at 1m; it has SIM01 to SIM20"):
        market().fetch_bars(["SIM21"], day, day, fetched_at=NEVER)
