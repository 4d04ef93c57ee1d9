"""What became of what was asked for and has no bar."""

from collections.abc import Sequence
from datetime import UTC, date, datetime

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from stock_assets.market.calendar import trading_calendar
from stock_assets.market.outcomes import expected_tickers, outcomes_of, owed_since, updated_outcomes
from stock_assets.market.requests import too_many_failures
from stock_assets.market.sources import Answer, Failure
from stock_assets.market.tables import OUTCOME_SCHEMA, RAW_SCHEMA, UNIVERSE_SCHEMA

CALENDAR = trading_calendar("XNYS", date(2020, 1, 1), date(2020, 12, 31))
DAYS = CALENDAR.sessions[20:60]
NOW = datetime(2020, 6, 1, tzinfo=UTC)
NOTHING = OUTCOME_SCHEMA.to_frame()
NO_BARS = RAW_SCHEMA.to_frame()


def bars(**sessions: list[date]) -> pl.DataFrame:
    """Bars of each ticker on its sessions."""
    rows = [(ticker, day) for ticker, days in sessions.items() for day in days]
    return (
        pl.DataFrame(rows, {"ticker": pl.String, "session": pl.Date}, orient="row")
        .sort("ticker", "session")
        .with_columns(pl.lit(None, kind).alias(name) for name, kind in list(RAW_SCHEMA.items())[2:])
    )


def universe(**intervals: tuple[date, date | None]) -> pl.DataFrame:
    rows = [(ticker, ticker, None, first, last) for ticker, (first, last) in intervals.items()]
    return pl.DataFrame(rows, UNIVERSE_SCHEMA, orient="row")


ALWAYS = (DAYS[0], None)


def found(answer: Answer, members: pl.DataFrame, days=DAYS, stored: pl.DataFrame = NO_BARS) -> list[tuple]:
    rows = outcomes_of(
        answer,
        stored,
        tickers=members["ticker"].to_list(),
        sessions=days,
        universe=members,
        calendar=CALENDAR,
        fetched_at=NOW,
    )
    assert rows.schema == OUTCOME_SCHEMA
    return rows.drop("fetched_at").rows()


@pytest.mark.parametrize(
    ("traded", "interval", "reason"),
    [
        (DAYS, ALWAYS, None),
        (DAYS[5:], ALWAYS, (DAYS[0], DAYS[4], "not_listed", f"nothing before {DAYS[5]}")),
        (DAYS[5:], (DAYS[5], None), (DAYS[0], DAYS[4], "not_listed", f"nothing before {DAYS[5]}")),
        ((*DAYS[:7], *DAYS[9:]), ALWAYS, (DAYS[7], DAYS[8], "halted", "bars before and after")),
        (DAYS[:-10], ALWAYS, (DAYS[-10], DAYS[-1], "halted", f"no bar since {DAYS[-11]}")),
        (DAYS[:-11], ALWAYS, (DAYS[-11], DAYS[-1], "delisted", f"no bar since {DAYS[-12]}")),
        (DAYS[:30], (DAYS[0], DAYS[29]), (DAYS[30], DAYS[-1], "delisted", f"left the universe after {DAYS[29]}")),
    ],
)
def test_why_there_is_no_bar(traded, interval, reason) -> None:
    answer = Answer(bars(A=list(traded), B=list(DAYS)))
    assert found(answer, universe(A=interval, B=ALWAYS)) == ([] if reason is None else [("A", *reason)])


def test_who_failed_says_so_and_who_had_left_did_not_fail() -> None:
    answer = Answer(
        bars(A=list(DAYS)),
        {
            "B": Failure("HTTP 503 (5 tries)"),
            "C": Failure("no data found", unknown=True),
            "D": Failure("no data found"),
        },
    )
    members = universe(A=ALWAYS, B=ALWAYS, C=ALWAYS, D=(date(2015, 1, 1), date(2019, 1, 2)))
    assert found(answer, members) == [
        ("B", DAYS[0], DAYS[-1], "error", "HTTP 503 (5 tries)"),
        ("C", DAYS[0], DAYS[-1], "unknown", "no data found"),
        ("D", DAYS[0], DAYS[-1], "delisted", "left the universe after 2019-01-02"),
    ]
    assert expected_tickers(members, DAYS[0]) == {"A", "B", "C"}


def test_a_bar_that_was_stored_before_needs_no_excuse() -> None:
    answer = Answer(bars(A=list(DAYS[5:])), {"B": Failure("HTTP 503")})
    members, stored = universe(A=ALWAYS, B=ALWAYS), bars(B=list(DAYS[:-1]))
    assert found(answer, members, stored=stored) == [
        ("A", DAYS[0], DAYS[4], "not_listed", f"nothing before {DAYS[5]}"),
        ("B", DAYS[-1], DAYS[-1], "error", "HTTP 503"),
    ]


def test_an_unscheduled_closure_is_a_holiday() -> None:
    answer = Answer(bars(A=[*DAYS[:3], *DAYS[4:]], B=[*DAYS[:3], *DAYS[4:]]))
    told = found(answer, universe(A=ALWAYS, B=ALWAYS))
    assert [row[:4] for row in told] == [(ticker, DAYS[3], DAYS[3], "holiday") for ticker in "AB"]


def test_what_the_vendor_knows_beyond_the_question_decides() -> None:
    """A day alone tells no halt from a listing to come."""
    answer = Answer(
        bars(A=[DAYS[20]]),
        spans={"B": (DAYS[25], DAYS[39]), "C": (DAYS[0], DAYS[39]), "D": (DAYS[0], DAYS[19]), "E": (DAYS[0], DAYS[3])},
    )
    members = universe(**dict.fromkeys("ABCDE", ALWAYS))
    assert [(ticker, outcome) for ticker, _, _, outcome, _ in found(answer, members, DAYS[20:21])] == [
        ("B", "not_listed"),
        ("C", "halted"),
        ("D", "halted"),
        ("E", "delisted"),
    ]


def stretch(ticker: str, first: date, last: date, outcome: str = "error", reason: str = "HTTP 503") -> tuple:
    return ticker, first, last, outcome, reason, NOW


def table(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(rows, OUTCOME_SCHEMA, orient="row")


def after(stored: pl.DataFrame, new: pl.DataFrame, tickers: list[str], sessions: Sequence[date]) -> pl.DataFrame:
    return updated_outcomes(stored, new, tickers=tickers, sessions=sessions, calendar=CALENDAR)


def test_an_answer_replaces_what_was_said_of_its_range_and_grows_what_goes_on() -> None:
    stored = table(stretch("A", DAYS[0], DAYS[9]), stretch("B", DAYS[0], DAYS[9]), stretch("C", DAYS[3], DAYS[4]))
    new = table(stretch("B", DAYS[5], DAYS[12]), stretch("C", DAYS[5], DAYS[5], "halted", "no bar"))
    told = after(stored, new, ["A", "B", "C"], DAYS[5:13])
    assert told.rows() == [
        stretch("A", DAYS[0], DAYS[4]),
        stretch("B", DAYS[0], DAYS[12]),
        stretch("C", DAYS[3], DAYS[4]),
        stretch("C", DAYS[5], DAYS[5], "halted", "no bar"),
    ]
    # of those who were not asked everything stays
    assert after(stored, NOTHING, ["C"], DAYS).rows() == stored.rows()[:2]


def exploded(told: pl.DataFrame) -> set[tuple]:
    return {
        (ticker, day, outcome, reason)
        for ticker, first, last, outcome, reason, _ in told.rows()
        for day in CALENDAR.between(first, last)
    }


ranges = st.tuples(st.integers(0, 39), st.integers(0, 39)).map(sorted)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(ranges, st.sets(st.sampled_from("ABC")), st.sampled_from(["error", "halted"])), max_size=6),
)
def test_stretches_say_what_a_row_per_session_would(questions) -> None:
    """The table against a dictionary of (ticker, session)."""
    told, oracle = NOTHING, {}
    for (low, high), failed, outcome in questions:
        days = DAYS[low : high + 1]
        new = table(*(stretch(ticker, days[0], days[-1], outcome, "why") for ticker in sorted(failed)))
        told = after(told, new, ["A", "B"], days) if failed <= {"A", "B"} else told
        if failed <= {"A", "B"}:
            for ticker in "AB":
                for day in days:
                    oracle.pop((ticker, day), None)
                    if ticker in failed:
                        oracle[ticker, day] = outcome
    assert exploded(told) == {(ticker, day, outcome, "why") for (ticker, day), outcome in oracle.items()}
    joined = after(told, NOTHING, [], DAYS)
    assert_frame_equal(joined, told)


def test_what_is_owed_is_asked_for_from_its_first_session() -> None:
    stored = table(
        stretch("A", DAYS[3], DAYS[4]),
        stretch("A", DAYS[8], DAYS[9]),
        stretch("B", DAYS[1], DAYS[2], "unknown"),
        stretch("C", DAYS[1], DAYS[2], "halted"),
        stretch("D", DAYS[5], DAYS[6]),
    )
    assert owed_since(stored, ["A", "B", "C"]) == {"A": DAYS[3]}


def test_too_many_failures_are_named_by_reason() -> None:
    reasons = {**{f"T{i:03d}": "HTTP 503" for i in range(60)}, "ODD": "no data found"}
    assert too_many_failures(reasons, 1220, 0.05) is None
    message = too_many_failures(reasons, 1219, 0.05)
    assert message is not None
    assert message.startswith("no answer for 61 of 1219 tickers, 5.0%, where 5.0% may fail. T000, T001, ")
    assert message.endswith("T049, … (60 in all): HTTP 503; ODD: no data found")
    assert too_many_failures({}, 0, 0.0) is None
