"""The schedule of announcements, against a loop that walks through the sessions and remembers."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.market.calendar import TradingCalendar, trading_calendar
from stock_assets.side_inputs.announcing import announcement_rows
from stock_assets.side_inputs.schedule import LATER, NEAR, SCHEDULE, schedule_of
from stock_assets.side_inputs.tables import MOMENTS, ORIGINS
from stock_assets_tests.side_inputs.rows import CALENDAR, FETCHED, announced, at, stored

SHORT = trading_calendar("XNYS", date(2023, 11, 1), date(2025, 3, 31))
COLUMNS = ["ticker", "reaction_session", "origin"]


def standing(schedule: pl.DataFrame, session: date) -> list[tuple[str, date, str]]:
    there = (
        row
        for row in schedule.iter_rows(named=True)
        if row["known_from"] <= session and (row["known_until"] is None or row["known_until"] > session)
    )
    return sorted((row["ticker"], row["reaction_session"], row["origin"]) for row in there)


def on(schedule: pl.DataFrame, session: str) -> list[tuple[str, str]]:
    """(reaction session, origin) of what stands on `session`."""
    return [(str(day), origin) for _, day, origin in standing(schedule, date.fromisoformat(session))]


# ---------------------------------------------------------------- what happens to one company


def test_a_calendar_date_replaces_the_replayed_one_and_the_filing_replaces_both():
    rows = stored(
        announced(("2023-01-26", "post", "2023-01-26 21:05"), origin="filed"),
        announced(("2024-01-30", "unknown", "2024-01-10 22:00"), origin="calendar"),
        announced(("2024-01-30", "post", "2024-01-30 21:10"), origin="filed", source="sec2"),
    )
    schedule = schedule_of(rows, CALENDAR)
    assert schedule.schema == SCHEDULE
    assert on(schedule, "2023-01-26") == []
    # the filing came after the close, so it is known on the next session, as is the date a year later
    assert on(schedule, "2023-01-27") == [("2023-01-27", "filed"), ("2024-01-26", "replayed")]
    assert on(schedule, "2024-01-10") == [("2023-01-27", "filed"), ("2024-01-26", "replayed")]
    assert on(schedule, "2024-01-11") == [("2023-01-27", "filed"), ("2024-01-30", "calendar")]
    assert on(schedule, "2024-01-30") == [("2023-01-27", "filed"), ("2024-01-30", "calendar")]
    assert on(schedule, "2024-01-31")[:2] == [("2023-01-27", "filed"), ("2024-01-31", "filed")]


def test_a_moved_date_counts_from_the_session_at_which_it_was_known():
    moved = announced(
        ("2024-02-01", "pre", "2024-01-10 22:00"),
        ("2024-02-01", "pre", "2024-01-17 22:00", "withdrawn"),
        ("2024-02-08", "pre", "2024-01-17 22:00"),
        origin="calendar",
    )
    schedule = schedule_of(stored(moved), CALENDAR)
    assert on(schedule, "2024-01-17") == [("2024-02-01", "calendar")]
    assert on(schedule, "2024-01-18") == [("2024-02-08", "calendar")]


def test_an_expected_date_without_a_filing_stops_after_its_session_and_a_reported_one_stays():
    expected = announced(("2024-02-01", "pre", "2024-01-10 22:00"), origin="calendar")
    schedule = schedule_of(stored(expected), CALENDAR)
    assert on(schedule, "2024-02-01") == [("2024-02-01", "calendar")]
    assert on(schedule, "2024-02-02") == []
    reported = announced(("2024-02-01", "pre", "2024-02-01 22:00", "reported"), origin="calendar")
    schedule = schedule_of(stored(expected, reported), CALENDAR)
    assert on(schedule, "2024-02-02") == [("2024-02-01", "calendar")]
    assert on(schedule, "2024-12-31") == [("2024-02-01", "calendar")]


def test_two_announcements_in_a_quarter_are_two():
    rows = stored(
        announced(("2024-01-10", "pre", "2024-01-10 12:00"), ("2024-02-06", "pre", "2024-02-06 12:00"), origin="filed"),
        announced(("2024-02-06", "pre", "2024-01-05 22:00"), origin="calendar"),
    )
    schedule = schedule_of(rows, CALENDAR)
    # the filing of January is none of February's date
    assert on(schedule, "2024-01-11") == [("2024-01-10", "filed"), ("2024-02-06", "calendar")]
    assert on(schedule, "2024-02-07") == [("2024-01-10", "filed"), ("2024-02-06", "filed")]


def test_a_filing_that_an_amendment_repeats_on_its_day_is_one_reaction():
    twice = announced(("2024-01-25", "post", "2024-01-25 21:05"), origin="filed")
    again = twice.with_columns(pl.col("event_time", "known_at") + timedelta(hours=1))
    assert on(schedule_of(stored(twice, again), CALENDAR), "2024-12-31") == [("2024-01-26", "filed")]


def test_a_replayed_date_stops_with_the_file_row_that_a_filing_replaces():
    rows = stored(
        announced(("2023-02-02", "pre", "2023-01-19 12:00"), origin="file"),
        announced(("2023-02-03", "pre", "2023-02-03 12:00"), origin="filed"),
    )
    schedule = schedule_of(rows, CALENDAR)
    assert on(schedule, "2023-02-02") == [("2023-02-02", "file"), ("2024-02-01", "replayed")]
    assert on(schedule, "2023-02-03") == [("2023-02-03", "filed"), ("2024-02-02", "replayed")]


def test_an_announcement_before_the_calendar_is_repeated_in_it():
    rows = stored(announced(("2022-04-21", "post", "2022-04-21 21:00"), origin="filed"))
    assert on(schedule_of(rows, CALENDAR), "2023-01-03") == [("2023-04-21", "replayed")]


def test_nothing_is_scheduled_of_nothing():
    assert schedule_of(stored(announced(origin="filed")), CALENDAR).equals(SCHEDULE.to_frame())


# ---------------------------------------------------------------- against a loop


class Walk:
    """A walk through the sessions of SHORT that sees what became known by then and remembers what was replaced."""

    def __init__(self, rows: pl.DataFrame) -> None:
        versions = rows.sort("session", "known_at").to_dicts()
        self.versions = [{**row, "place": place} for place, row in enumerate(versions)]
        self.gone: set[int] = set()

    def on(self, session: date) -> list[tuple[str, date, str]]:
        """What stands on `session`, the next of the walk."""
        newest: dict[tuple[object, ...], dict] = {}
        for row in self.versions:
            if row["session"] <= session:
                newest[row["subject"], row["event_time"], row["origin"], row["source"]] = row
        stands: list[dict] = []
        for origin in ORIGINS:
            left = []
            for row in newest.values():
                if row["origin"] != origin or not self.lasts(row, session, stands):
                    continue
                latest = NEAR if origin == "replayed" else LATER
                near = (row["day"] - other["day"] for other in stands if other["subject"] == row["subject"])
                if any(-NEAR <= apart <= latest for apart in near):
                    self.gone.add(row["place"])
                else:
                    left.append(row)
            left.sort(key=lambda row: (row["session"], row["event_time"], row["source"]), reverse=True)
            stands += {(row["subject"], row["reaction_session"] or row["place"]): row for row in left}.values()
        reactions = (row for row in stands if row["reaction_session"])
        return sorted((row["subject"], row["reaction_session"], row["origin"]) for row in reactions)

    def lasts(self, row: dict, session: date, stands: list[dict]) -> bool:
        """Whether the newest version of a thing stands on `session`, but for what is surer."""
        if row["withdrawn"] or row["place"] in self.gone:
            return False
        expected = row["origin"] == "replayed" or (row["origin"] == "calendar" and not row["reported"])
        if expected and row["reaction_session"] and row["reaction_session"] < session:
            return False
        return row["origin"] != "replayed" or any(
            other["origin"] in ("filed", "file")
            and (other["subject"], other["source"]) == (row["subject"], row["source"])
            and other["event_time"] + timedelta(days=364) == row["event_time"]
            for other in stands
        )


DAYS = st.integers(0, 420).map(lambda days: date(2023, 11, 1) + timedelta(days=days))


#: Five years of announcements about as many times a year, so that old ones are replayed, replaced and forgotten.
LONG = trading_calendar("XNYS", date(2020, 1, 2), date(2025, 3, 31))
YEARS = st.builds(
    lambda year, days: date(2020, 1, 6) + timedelta(days=364 * year + days), st.integers(0, 4), st.integers(0, 60)
)


@st.composite
def histories(draw: st.DrawFn, days: st.SearchStrategy[date] = DAYS, calendar: TradingCalendar = SHORT) -> pl.DataFrame:
    """Versions of two companies: each thing has a first version and perhaps a later one."""
    frames = []
    for origin in ("filed", "file", "calendar"):
        versions = []
        for _ in range(draw(st.integers(0, 5))):
            day, moment = draw(days), draw(st.sampled_from(MOMENTS))
            ahead = draw(st.integers(0, 40)) if origin != "filed" else 0
            known = at(f"{day} 23:00") - timedelta(days=ahead)
            ticker, reported = draw(st.sampled_from(["AAA", "BBB"])), origin == "calendar" and draw(st.booleans())
            versions.append((ticker, day, moment, known, False, reported))
            if draw(st.integers(0, 2)) == 0:
                later = known + timedelta(days=draw(st.integers(0, 20)))
                versions.append((ticker, day, moment, later, draw(st.booleans()), reported))
        names = ["ticker", "day", "moment", "known_at", "withdrawn", "reported"]
        types = [pl.String, pl.Date, pl.String, pl.Datetime("us", "UTC"), pl.Boolean, pl.Boolean]
        frame = pl.DataFrame(versions, dict(zip(names, types, strict=True)), orient="row")
        # of the versions of one thing that were known at one moment, the store has one
        frame = frame.unique(["ticker", "day", "moment", "known_at"], keep="first", maintain_order=True)
        frames.append(announcement_rows(frame, calendar, origin=origin, source=origin, fetched_at=FETCHED))
    return stored(*frames, calendar=calendar)


@settings(deadline=None, max_examples=40)
@given(histories())
def test_the_schedule_is_that_of_a_walk_through_the_sessions(rows):
    schedule, walk = schedule_of(rows, SHORT), Walk(rows)
    # every session on which something can change, and the one after
    changes = {*rows["session"], *rows["reaction_session"].drop_nulls()}
    nexts = {SHORT.shift(session, 1) or session for session in changes}
    for session in sorted({*changes, *nexts, SHORT.sessions[-1]}):
        assert standing(schedule, session) == walk.on(session), session


@settings(deadline=None, max_examples=30)
@given(histories(), st.integers(0, len(SHORT.sessions) - 1))
def test_what_becomes_known_later_changes_nothing_before(rows, place):
    cut = SHORT.sessions[place]
    now, then = schedule_of(rows, SHORT), schedule_of(rows.filter(pl.col("session") <= cut), SHORT)
    for session in SHORT.sessions[max(0, place - 30) : place + 1]:
        assert standing(now, session) == standing(then, session)


@settings(deadline=None, max_examples=30)
@given(histories(YEARS, LONG), st.integers(500, len(LONG.sessions) - 1))
def test_what_happened_long_before_decides_nothing(rows, place):
    since = LONG.sessions[place]
    later = pl.col("day") >= since
    assert schedule_of(rows, LONG, since).filter(later).equals(schedule_of(rows, LONG).filter(later))


@pytest.mark.parametrize("origin", ["filed", "calendar"])
def test_a_time_of_new_york_falls_on_its_own_session(origin):
    # 15:59 and 16:00 in New York, in winter and in summer
    rows = announced(
        ("2024-01-25", "during", "2024-01-25 21:00"),
        ("2024-07-25", "during", "2024-07-25 20:00"),
        ("2024-11-29", "post", "2024-11-29 18:01"),  # a half day, which closes at 13:00
        origin=origin,
    )
    assert stored(rows).filter(pl.col("origin") == origin)["session"].to_list() == [
        date(2024, 1, 25),
        date(2024, 7, 25),
        date(2024, 12, 2),
    ]
