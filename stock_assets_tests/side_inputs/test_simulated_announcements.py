"""The announcements of the simulated market: what its laws say, with the moment at which each was known."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.errors import SourceError
from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.market.sources.simulated_companies import DELISTED, LISTED, TICKERS
from stock_assets.market.sources.simulated_schedule import NEVER, SETTLED, quarter, reactions
from stock_assets.side_inputs import SideSource
from stock_assets.side_inputs.announcing import ROWS, day_and_moment
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.schedule import schedule_of
from stock_assets.side_inputs.sources.simulated_announcements import SimulatedAnnouncements

FIRST, LAST = date(2018, 1, 2), date(2025, 12, 31)
NOW = datetime(2026, 1, 1, 5, tzinfo=UTC)
NAMES = ["subject", "event_time", "origin", "known_at", "withdrawn"]


@pytest.fixture(scope="module")
def calendar() -> TradingCalendar:
    return trading_calendar("XNYS", FIRST, LAST)


@pytest.fixture(scope="module")
def rows(calendar: TradingCalendar) -> pl.DataFrame:
    source: SideSource = SimulatedAnnouncements(calendar)
    answer = source.fetch(TICKERS, FIRST, LAST, fetched_at=NOW)
    assert not answer.failures
    return with_session(answer.rows, calendar)


def test_rows_are_of_the_table_and_named_once(rows: pl.DataFrame):
    assert rows.drop("session").schema == ROWS
    assert rows.select(NAMES).is_duplicated().sum() == 0
    assert rows["source"].unique().to_list() == ["simulated"]
    assert rows.null_count().sum_horizontal()[0] == 0
    assert set(rows["origin"]) == {"filed", "calendar"}


def test_every_reaction_of_a_traded_company_is_filed_and_no_other(rows: pl.DataFrame, calendar: TradingCalendar):
    at = np.arange(len(calendar.sessions))
    traded = (at[:, None] > LISTED) & (at[:, None] < DELISTED)
    expected = {(TICKERS[j], calendar.sessions[p]) for p, j in np.argwhere(reactions(0, at) & traded).tolist()}
    filed = rows.filter(pl.col("origin") == "filed")
    assert set(filed.select("subject", "reaction_session").rows()) == expected
    assert filed.height == len(expected)
    # known at the close of its reaction session, and of none before
    assert (filed["session"] == filed["reaction_session"]).all()
    assert (filed["known_at"] == filed["event_time"]).all()
    assert not filed["withdrawn"].any()


def test_moments_are_those_of_the_clock(rows: pl.DataFrame, calendar: TradingCalendar):
    filed = rows.filter(pl.col("origin") == "filed")
    assert_frame_equal(day_and_moment(filed["event_time"], calendar), filed.select("day", "moment"))
    after_close = filed.filter(pl.col("moment") == "post")
    assert (after_close["reaction_session"] > after_close["day"]).all()
    others = filed.filter(pl.col("moment") != "post")
    assert (others["reaction_session"] == others["day"]).all()
    shares = dict(filed["moment"].value_counts(normalize=True).iter_rows())
    assert shares == {m: pytest.approx(s, abs=0.05) for m, s in (("pre", 0.45), ("during", 0.05), ("post", 0.5))}


def test_dates_are_known_ahead_and_a_moved_one_is_withdrawn(rows: pl.DataFrame, calendar: TradingCalendar):
    published = rows.filter(pl.col("origin") == "calendar")
    ahead = published.select(
        notice=pl.Series(list(map(calendar.position, published["reaction_session"])))
        - pl.Series(list(map(calendar.position, published["session"]))),
    )["notice"]
    withdrawn = published["withdrawn"]
    assert withdrawn.mean() == pytest.approx(0.15 / 1.3, abs=0.02)
    assert ahead.min() == 2
    both = published.group_by("subject", "known_at").agg(pl.col("withdrawn").sort(), pl.len()).filter(pl.col("len") > 1)
    assert both.height == withdrawn.sum()
    assert set(map(tuple, both["withdrawn"].to_list())) == {(False, True)}
    # what is withdrawn was published under the same name
    again = published.filter("withdrawn").join(
        published.filter(~pl.col("withdrawn")), on=["subject", "event_time"], how="left", suffix="_first"
    )
    assert (again["known_at"] > again["known_at_first"]).all()
    first = published.filter(~pl.col("withdrawn")).join(both, on=["subject", "known_at"], how="anti")
    notices = ahead.filter(~withdrawn & ~published["known_at"].is_in(both["known_at"].to_list()))
    assert first.height > 1500
    assert (notices.min(), notices.max()) == (17, 33)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(start=st.integers(0, 1990), length=st.integers(1, 60), hours=st.integers(0, 600))
def test_a_range_is_a_part_of_the_whole_and_nothing_is_known_early(start: int, length: int, hours: int):
    calendar = trading_calendar("XNYS", FIRST, LAST)
    source, some = SimulatedAnnouncements(calendar), ["SIM01", "SIM05", "SIM38", "SIM60"]
    first, last = calendar.sessions[start], calendar.sessions[min(start + length, len(calendar.sessions) - 1)]
    fetched_at = calendar.closes[first] + timedelta(hours=hours)
    part = source.fetch(some, first, last, fetched_at=fetched_at).rows
    whole = with_session(source.fetch(some, FIRST, LAST, fetched_at=NOW).rows, calendar)
    expected = whole.filter(pl.col("session").is_between(first, last), pl.col("known_at") <= fetched_at)
    assert_frame_equal(part.drop("fetched_at"), expected.drop("fetched_at", "session"))
    assert part["fetched_at"].n_unique() <= 1


def test_a_calendar_that_ends_earlier_gives_the_same_but_for_later_dates(rows: pl.DataFrame):
    short = trading_calendar("XNYS", FIRST, date(2021, 6, 30))
    answer = SimulatedAnnouncements(short).fetch(TICKERS, FIRST, LAST, fetched_at=NOW).rows
    ends = short.sessions[-1]
    expected = rows.filter(pl.col("session") <= ends, pl.col("reaction_session") <= ends).drop("session")
    assert_frame_equal(answer, expected)
    assert not answer["reaction_session"].has_nulls()


def test_seeds_and_tickers(calendar: TradingCalendar):
    narrow = SimulatedAnnouncements(calendar, 1, ("SIM02", "SIM07"))
    one, two = (narrow.fetch([t], FIRST, LAST, fetched_at=NOW).rows for t in ("SIM02", "SIM07"))
    both = narrow.fetch(["SIM07", "SIM02"], FIRST, LAST, fetched_at=NOW).rows
    assert_frame_equal(both, pl.concat([one, two]))
    other = SimulatedAnnouncements(calendar, 2).fetch(["SIM02"], FIRST, LAST, fetched_at=NOW).rows
    assert not one["event_time"].equals(other["event_time"])
    with pytest.raises(SourceError, match="the simulated market has no ticker SIM03; it has SIM02 to SIM07"):
        narrow.fetch(["SIM03"], FIRST, LAST, fetched_at=NOW)
    assert narrow.fetch(["SIM02"], LAST, FIRST, fetched_at=NOW).rows.is_empty()
    assert narrow.fetch([], FIRST, LAST, fetched_at=NOW).rows.is_empty()


def test_where_sessions_follow_each_other_without_a_pause_all_is_during_one():
    always = trading_calendar("24/7", date(2023, 1, 1), date(2024, 12, 31))
    source = SimulatedAnnouncements(always)
    days = always.sessions
    rows = with_session(source.fetch(TICKERS, days[0], days[-1], fetched_at=NOW).rows, always)
    assert rows["moment"].unique().to_list() == ["during"]
    filed = rows.filter(pl.col("origin") == "filed")
    assert (filed["session"] == filed["reaction_session"]).all()


def test_the_schedule_of_a_close_is_what_the_laws_had_published_by_then(rows: pl.DataFrame, calendar: TradingCalendar):
    """Through the product's own schedule: the dates of the next 7 sessions that stand are those that the laws have."""
    schedule, place = schedule_of(rows, calendar), calendar.position
    standing = published = both = 0
    for t in range(100, 1990, 45):
        close = calendar.sessions[t]
        stands = (pl.col("known_from") <= close) & ~(pl.col("known_until") <= close).fill_null(value=False)
        ahead = schedule.filter(stands, pl.col("reaction_session") > close)
        found = {row for row in ahead.select("ticker", "reaction_session").rows() if place(row[1]) <= t + 7}
        expected = set()
        for q in (quarter(0, k) for k in range(t // 63 - 1 if t >= 63 else 0, t // 63 + 2)):
            date_then = np.where((q.moved <= t) & (q.moved != NEVER), q.final, np.where(q.published <= t, q.first, -1))
            counts = (q.due >= SETTLED) & (t < date_then) & (date_then <= t + 7) & (t < DELISTED)
            expected |= {(TICKERS[j], calendar.sessions[date_then[j]]) for j in np.flatnonzero(counts)}
        standing, published, both = standing + len(found), published + len(expected), both + len(found & expected)
    assert published > 150
    assert standing - both <= 1
    # one without notice a few days before cuts off the other: the schedule takes them for the same
    assert published - both <= 0.02 * published
