"""Versions by session: which stands, and which of an answer are new."""

from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stock_assets.side_inputs.announcing import reaction_session
from stock_assets.side_inputs.as_of import known_session, new_versions, rows_by, with_session
from stock_assets.side_inputs.registry import BUILT_IN
from stock_assets.side_inputs.tables import FUNDAMENTALS, MACRO, naming_columns
from stock_assets_tests.side_inputs.histories import history
from stock_assets_tests.side_inputs.rows import CALENDAR, announced, at
from stock_assets_tests.tables import rows_of

QUARTER = at("2024-01-01 00:00")


def printed(*versions: tuple[str, float | None], fetched: str = "2024-12-01 00:00") -> pl.DataFrame:
    """Versions of the GDP of a quarter: when each became known, and its value."""
    frame = pl.DataFrame(
        {"known_at": [at(known) for known, _ in versions], "value": [value for _, value in versions]},
        schema={"known_at": pl.Datetime("us", "UTC"), "value": pl.Float64},
    ).with_columns(
        subject=pl.lit("GDP"), event_time=pl.lit(QUARTER), source=pl.lit("fred"), fetched_at=pl.lit(at(fetched))
    )
    return with_session(
        rows_of("macro", frame).with_columns(pl.col("event_time", "fetched_at").dt.cast_time_unit("us")), CALENDAR
    )


def test_the_value_of_a_session_is_the_newest_that_was_known_by_its_close():
    rows = printed(("2024-04-25 12:30", 1.6), ("2024-05-30 12:30", 1.3), ("2024-06-27 12:30", 1.4))
    assert rows_by(rows, date(2024, 4, 24)).is_empty()
    values = [
        rows_by(rows, day)["value"].to_list() for day in (date(2024, 4, 25), date(2024, 5, 30), date(2024, 12, 2))
    ]
    assert values == [[1.6], [1.3], [1.4]]


def test_what_was_fetched_later_is_left_out_as_of_an_earlier_moment():
    rows = pl.concat(
        [
            printed(("2024-04-25 12:30", 1.6), fetched="2024-04-25 22:00"),
            printed(("2024-04-25 12:30", 1.5), fetched="2024-06-01 22:00"),
        ]
    )
    day = date(2024, 4, 25)
    assert rows_by(rows, day)["value"].to_list() == [1.5]
    assert rows_by(rows, day, fetched_by=at("2024-05-01 00:00"))["value"].to_list() == [1.6]


def test_an_answer_that_is_stored_already_adds_nothing_and_a_revision_adds_itself():
    prints = [("2024-04-25 12:30", 1.6), ("2024-05-30 12:30", 1.3), ("2024-06-27 12:30", 1.4)]
    stored, again = printed(*prints[:2]), printed(*prints, fetched="2024-12-02 00:00")
    assert new_versions(stored, again)["value"].to_list() == [1.4]
    assert new_versions(printed(*prints), again).is_empty()
    # a vendor that states the same figure every evening: known since the first
    snapshot = printed(("2024-08-01 20:30", 1.4), ("2024-08-02 20:30", 1.4))
    assert new_versions(printed(*prints), snapshot).is_empty()
    assert new_versions(printed(), snapshot)["known_at"].to_list() == [at("2024-08-01 20:30")]
    # there and back again are two versions; a figure that was withdrawn is null
    changed = printed(("2024-08-01 20:30", None), ("2024-08-02 20:30", 1.4))
    assert new_versions(printed(*prints), changed)["value"].to_list() == [None, 1.4]
    # known earlier than stored
    earlier = printed(("2024-04-20 12:30", 1.6))
    assert new_versions(printed(*prints), earlier).height == 1


def test_what_names_a_figure_may_be_null():
    cash = {"subject": "AAA", "event_time": QUARTER, "source": "sec", "concept": "cash", "filing": "1"}
    figure = pl.DataFrame([cash]).with_columns(known_at=pl.lit(QUARTER), fetched_at=pl.lit(QUARTER), value=pl.lit(1.0))
    rows = rows_of("fundamentals", figure)
    quarter = rows.with_columns(period_start=date(2023, 10, 1), value=pl.lit(2.0))
    assert new_versions(rows, rows).is_empty()
    assert new_versions(rows, quarter).height == 1
    assert FUNDAMENTALS.fit(with_session(rows, CALENDAR)).height == 1
    assert rows_by(with_session(pl.concat([rows, quarter]), CALENDAR), date(2024, 1, 2)).height == 2


#: (session of a week, value) of each.
VERSIONS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=6)


@settings(deadline=None, max_examples=12)
@given(VERSIONS, VERSIONS)
def test_what_stands_is_what_was_answered_last_however_few_versions_are_kept(first, second):
    def of(versions: list[tuple[int, int]], fetched: str) -> pl.DataFrame:
        once = dict(versions)  # one answer states one value at a moment
        return printed(*((f"2024-03-{k + 4:02} 15:00", float(value)) for k, value in once.items()), fetched=fetched)

    answers = [of(first, "2024-12-01 00:00"), of(second, "2024-12-02 00:00")]
    stored = new_versions(printed(), answers[0])
    for session in CALENDAR.between(date(2024, 3, 4), date(2024, 3, 8)):
        assert rows_by(stored, session)["value"].to_list() == rows_by(answers[0], session)["value"].to_list()
    both = pl.concat([stored, new_versions(stored, answers[1])])
    assert new_versions(both, answers[1]).is_empty()
    for session, value in answers[1].select("session", "value").iter_rows():
        assert rows_by(both, session)["value"].to_list() == [value]


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_stands_on_a_session_was_known_at_its_close(name):
    rows = history(name, CALENDAR, ["AAA", "BBB"], seed=1)
    for session in (CALENDAR.sessions[0], date(2023, 11, 24), date(2024, 3, 11), date(2024, 12, 31)):
        standing = rows_by(rows, session)
        close = CALENDAR.closes[session]
        known = rows.filter(pl.col("known_at") <= close)
        assert standing.equals(rows_by(known, session)), session
        assert standing.height == known.select(naming_columns(rows.columns)).n_unique()
        later = rows.filter(pl.col("known_at") > close)
        assert later.filter(pl.col("session") <= session).is_empty()


def test_a_day_before_the_calendar_or_after_it_has_no_reaction_session():
    days = pl.Series([date(2022, 12, 30), date(2023, 1, 1), date(2024, 12, 31), date(2025, 1, 2)])
    found = reaction_session(days, pl.Series(["post", "pre", "post", "pre"]), CALENDAR)
    assert found.to_list() == [None, None, None, None]


def test_a_row_that_no_session_knows_is_left_out():
    rows = announced(
        ("2024-12-31", "post", "2024-12-31 21:30"), ("2024-12-30", "pre", "2024-12-30 10:00"), origin="filed"
    )
    assert with_session(rows, CALENDAR)["session"].to_list() == [date(2024, 12, 30)]
    assert known_session(pl.Series([at("1999-01-01 00:00") + timedelta()]), CALENDAR).to_list() == [date(2023, 1, 3)]
    assert MACRO.keys == ("subject", "event_time", "known_at", "fetched_at")
