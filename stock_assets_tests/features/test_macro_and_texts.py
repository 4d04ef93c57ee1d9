"""Columns of scheduled events, economic series and texts: against plain loops, the future cut off, a day alone."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.features import macro_features, text_features
from stock_assets.features.macro_features import SCHEDULED, SURPRISES, events_ahead, surprises
from stock_assets.features.side_features import GROUPS, SideFrames, computed
from stock_assets.market.calendar import trading_calendar
from stock_assets.side_inputs.as_of import with_session
from stock_assets.side_inputs.scheduling import Event, event_rows
from stock_assets.side_inputs.sources.scheduled import ScheduleRules
from stock_assets.side_inputs.sources.texts import Text, text_rows
from stock_assets.tables import UTC_TIME

CALENDAR = trading_calendar("XNYS", date(2023, 1, 3), date(2024, 6, 28))
SESSIONS = CALENDAR.sessions
NOW = datetime(2024, 7, 1, tzinfo=UTC)
TICKERS = ("AAA", "BBB")


def bars() -> pl.DataFrame:
    return pl.DataFrame({"ticker": TICKERS}).join(pl.DataFrame({"session": SESSIONS}), how="cross")


def frames(name: str, rows: pl.DataFrame, sessions: tuple[date, ...] = SESSIONS) -> SideFrames:
    return SideFrames(bars().filter(pl.col("session") <= sessions[-1]), {name: rows}, sessions, CALENDAR)


def scheduled() -> pl.DataFrame:
    """Rules, and decisions that were known half a year ahead, of which one was moved."""
    rules = ScheduleRules(CALENDAR).fetch((), SESSIONS[0], SESSIONS[-1], fetched_at=NOW).rows
    days = [datetime(2023, month, 14, 18, tzinfo=UTC) for month in range(2, 12)]
    meetings = [Event("fomc", day, day - timedelta(days=180), assumed=False) for day in days]
    decisions = event_rows(meetings, CALENDAR, source="federal_reserve", fetched_at=NOW)
    moved = pl.lit(datetime(2023, 6, 7, tzinfo=UTC)).cast(UTC_TIME)
    withdrawn = decisions.filter(pl.col("day") == date(2023, 6, 14)).with_columns(
        known_at=moved, withdrawn=pl.lit(value=True)
    )
    report = datetime(2023, 9, 5, 12, 30, tzinfo=UTC)  # in place of Friday the first
    put_off = event_rows(
        [Event("payrolls", report, report - timedelta(days=9))], CALENDAR, source="fred", fetched_at=NOW
    )
    return with_session(pl.concat([rules, decisions, withdrawn, put_off]), CALENDAR)


def figures() -> pl.DataFrame:
    """Three years of months and two of days, each month revised a month later."""
    draw = np.random.default_rng(4)
    rows, level = [], 150.0
    for month in range(42):
        level *= 1 + draw.normal(0.001, 0.002)
        day = date(2020 + (10 + month) // 12, (10 + month) % 12 + 1, 1)
        for weeks, value in ((5, level), (9, level * (1 + draw.normal(0, 0.001)))):
            known = datetime.combine(day + timedelta(weeks=weeks), time(13, 30), UTC)
            rows.append(("PAYEMS", datetime.combine(day, time(), UTC), known, value))
    for session in SESSIONS:
        at = datetime.combine(session, time(), UTC)
        rows.append(("T10Y2Y", at, at + timedelta(hours=29), draw.normal()))
    frame = pl.DataFrame(
        rows, {"subject": pl.String, "event_time": UTC_TIME, "known_at": UTC_TIME, "value": pl.Float64}, orient="row"
    ).filter(pl.col("known_at") < NOW)
    now = pl.lit(NOW).cast(UTC_TIME)
    return with_session(frame.with_columns(fetched_at=now, source=pl.lit("fred")), CALENDAR)


class Lengths:
    """Judges a text by its length, so that no dictionary is needed."""

    def method(self, kind: str) -> str:
        return f"length of a {kind}"

    def of(self, _kind: str, texts: list[str]) -> list[float]:
        return [len(text) / 20 - 1 for text in texts]


def written(count: int = 150, seed: int = 2) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    found = []
    for i in range(count):
        at = datetime.combine(SESSIONS[20], time(), UTC) + timedelta(hours=int(draw.integers(0, 24 * 400)))
        ticker = TICKERS[int(draw.integers(0, 2))]
        found.append(Text(ticker, at, at, "headline", f"text {i}", "x" * int(draw.integers(1, 40))))
    return with_session(text_rows(found, Lengths(), source="file", fetched_at=NOW), CALENDAR)


@pytest.fixture(scope="module")
def whole() -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    """By group: the rows that it reads, and its columns of all sessions."""
    rows = {"scheduled_events": scheduled(), "macro": figures(), "texts": written()}
    return {name: (made, computed(GROUPS[name], frames(name, made))) for name, made in rows.items()}


@pytest.mark.parametrize("name", ["scheduled_events", "macro", "texts"])
def test_what_is_known_later_changes_nothing_and_a_day_alone_is_that_day_of_the_range(
    whole: dict[str, tuple[pl.DataFrame, pl.DataFrame]], name: str
) -> None:
    rows, columns = whole[name]
    for cut in (SESSIONS[40], SESSIONS[170], SESSIONS[300]):
        until = tuple(session for session in SESSIONS if session <= cut)
        known = rows.filter(pl.col("session") <= cut)
        expected = columns.filter(pl.col("session") <= cut)
        assert_frame_equal(computed(GROUPS[name], frames(name, known, until)), expected)
        alone = computed(GROUPS[name], frames(name, known, (cut,)))
        assert_frame_equal(alone, expected.filter(pl.col("session") == cut))


def test_events_ahead_are_counted_as_a_plain_loop_counts_them(
    whole: dict[str, tuple[pl.DataFrame, pl.DataFrame]],
) -> None:
    rows, columns = whole["scheduled_events"]
    versions = sorted(rows.iter_rows(named=True), key=lambda row: row["known_at"])
    for i, session in list(enumerate(SESSIONS))[::7]:
        ahead = set(SESSIONS[i + 1 : i + 8])
        for column in SCHEDULED:
            newest = {
                (row["source"], row["event_time"]): row
                for row in versions
                if row["session"] <= session and f"{row['subject']}_ahead" == column
            }
            standing = [row for row in newest.values() if not row["withdrawn"]]
            surer = [row["day"] for row in standing if row["source"] != "rule"]
            counted = {
                row["reaction_session"]
                for row in standing
                if row["reaction_session"] in ahead
                and (row["source"] != "rule" or all(abs((row["day"] - day).days) > 15 for day in surer))
            }
            values = columns.filter(pl.col("session") == session)[column].unique().to_list()
            assert values == [len(counted) if newest else None]


def test_a_decision_counts_from_seven_sessions_ahead_until_it_is_moved_and_a_rule_gives_way() -> None:
    rows = events_ahead(scheduled(), SESSIONS, SESSIONS).to_dict(as_series=False)
    at = {session: i for i, session in enumerate(SESSIONS)}
    fomc = rows["fomc_ahead"]
    march = at[date(2023, 3, 14)]
    assert fomc[march - 8 : march + 1] == [0.0, *[1.0] * 7, 0.0]
    june = at[date(2023, 6, 14)]
    # it was withdrawn during the night before 7 June
    assert fomc[june - 8 : june + 1] == [0.0, 1.0, 1.0, *[0.0] * 6]
    september = at[date(2023, 9, 5)]
    assert rows["payrolls_ahead"][september - 7 : september + 1] == [*[1.0] * 7, 0.0]
    assert set(rows["cpi_ahead"]) == {None}


def test_a_surprise_is_the_newest_growth_against_those_before_as_they_stood() -> None:
    rows = figures()
    made = surprises(rows, SESSIONS)
    for session in SESSIONS[10::37]:
        newest: dict[datetime, float] = {}
        for row in rows.filter(pl.col("subject") == "PAYEMS", pl.col("session") <= session).sort("known_at").to_dicts():
            newest[row["event_time"]] = row["value"]
        levels = np.log([newest[month] for month in sorted(newest)])
        changes = np.diff(levels)[-25:]
        expected = (changes[-1] - changes[:-1].mean()) / changes[:-1].std(ddof=1)
        assert made.filter(pl.col("session") == session)["surprise_payems"].item() == pytest.approx(expected)
    assert made["surprise_t10y2y"][:12].to_list() == [None] * 12
    assert made["surprise_cpiaucsl"].null_count() == len(SESSIONS)
    assert set(made.columns) == {"session", *SURPRISES}


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 60), st.integers(0, 1000))
def test_texts_are_counted_as_a_plain_loop_counts_them(count: int, seed: int) -> None:
    rows = written(count, seed)
    made = text_features.text_columns(frames("texts", rows, SESSIONS[::29]))
    lines = rows.rows(named=True)
    first = min((row["session"] for row in lines), default=date.max)
    for got in made.iter_rows(named=True):
        place = SESSIONS.index(got["session"])
        for n in text_features.WINDOWS:
            window = SESSIONS[max(0, place - n + 1) : place + 1]
            tones = [row["tone"] for row in lines if row["subject"] == got["ticker"] and row["session"] in window]
            if got["session"] < first:
                assert got[f"texts_{n}"] is None
            else:
                assert got[f"texts_{n}"] == pytest.approx(np.log1p(len(tones)))
            assert got[f"tone_{n}"] == (pytest.approx(np.mean(tones)) if tones else None)


def test_a_text_that_was_changed_counts_once_with_its_first_tone() -> None:
    at = datetime(2023, 5, 2, 15, tzinfo=UTC)
    versions = [
        Text("AAA", at, at, "headline", "one", "short"),
        Text("AAA", at, at + timedelta(days=3), "headline", "one", "a longer title"),
    ]
    rows = with_session(text_rows(versions, Lengths(), source="feed", fetched_at=NOW), CALENDAR)
    made = text_features.text_columns(frames("texts", rows)).filter(
        pl.col("ticker") == "AAA", pl.col("session") == date(2023, 5, 10)
    )
    assert made["texts_22"].item() == pytest.approx(np.log(2))
    assert made["tone_22"].item() == pytest.approx(len("short") / 20 - 1)
    assert made["tone_1"].item() is None


def test_no_model_reads_these_groups() -> None:
    groups: list[Callable] = [macro_features.SCHEDULE_GROUP, macro_features.MACRO_GROUP, text_features.GROUP]
    assert not any(group.in_model for group in groups)
